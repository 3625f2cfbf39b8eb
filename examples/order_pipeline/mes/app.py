"""The MES: an API to look at jobs on the shop floor, and the consumer of ``mes.approved``."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx
from fastapi import APIRouter, FastAPI, HTTPException, Request

import otel_orders
from examples.order_pipeline import serving
from examples.order_pipeline.mes.production import Production
from examples.order_pipeline.mes.store import Job, Jobs
from examples.order_pipeline.messages import OrderApproved
from examples.order_pipeline.messaging import Broker
from otel_orders.instrumentation.asgi import OrderMiddleware

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

CASTING_SECONDS = float(os.environ.get("MES_CASTING_SECONDS", "0.2"))
routes = APIRouter()


@routes.get("/jobs/{order_id}")
async def show(order_id: str, request: Request) -> Job:
    job: Job | None = request.state.jobs.find(order_id)
    if job is None:
        raise HTTPException(404, "there is no job for this order")
    return job


def create_app(database: Path, amqp_url: str, legacy_mes_url: str) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, object]]:
        jobs = Jobs(database)
        async with httpx.AsyncClient(base_url=legacy_mes_url) as terminal, Broker(amqp_url) as broker:
            production = Production(jobs, broker, terminal, CASTING_SECONDS)
            await broker.consume("mes.approved", OrderApproved, production.make)
            yield {"jobs": jobs}
        jobs.disconnect()

    app = FastAPI(title="MES", lifespan=lifespan)
    app.include_router(routes)
    app.add_middleware(OrderMiddleware, order_id="path:order_id")
    return app


def main() -> None:
    options = serving.options("mes")
    runtime = otel_orders.configure(service="mes-api")
    try:
        app = create_app(options.database, serving.setting("AMQP_URL"), serving.setting("LEGACY_MES_URL"))
        serving.serve(app, options)
    finally:
        runtime.shutdown()


if __name__ == "__main__":
    main()
