"""The CRM: an API to look at approved orders, and the consumers of ``crm.priced`` and ``crm.shipped``."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import APIRouter, FastAPI, HTTPException, Request

import otel_orders
from examples.order_pipeline import serving
from examples.order_pipeline.crm.approval import Approval
from examples.order_pipeline.crm.store import Order, Orders
from examples.order_pipeline.messages import OrderPriced, OrderShipped
from examples.order_pipeline.messaging import Broker
from otel_orders.instrumentation.asgi import OrderMiddleware

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

routes = APIRouter()


@routes.get("/orders/{order_id}")
async def show(order_id: str, request: Request) -> Order:
    order: Order | None = request.state.orders.find(order_id)
    if order is None:
        raise HTTPException(404, "the CRM has no such order")
    return order


def create_app(database: Path, amqp_url: str) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, object]]:
        orders = Orders(database)
        async with Broker(amqp_url) as broker:
            approval = Approval(orders, broker)
            await broker.consume("crm.priced", OrderPriced, approval.approve)
            await broker.consume_together("crm.shipped", OrderShipped, approval.close)
            yield {"orders": orders}
        orders.disconnect()

    app = FastAPI(title="CRM", lifespan=lifespan)
    app.include_router(routes)
    app.add_middleware(OrderMiddleware, order_id="path:order_id")
    return app


def main() -> None:
    options = serving.options("crm")
    runtime = otel_orders.configure(service="crm-api")
    try:
        serving.serve(create_app(options.database, serving.setting("AMQP_URL")), options)
    finally:
        runtime.shutdown()


if __name__ == "__main__":
    main()
