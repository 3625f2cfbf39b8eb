"""The shop's API: a customer creates an order, uploads a model and submits it for a price.

All of the instrumentation is ``configure``, ``add_middleware`` and a ``with`` block at each change of status.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated
from uuid import uuid4

import structlog
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

import otel_orders
from examples.order_pipeline import serving
from examples.order_pipeline.messages import PricingRequested
from examples.order_pipeline.messaging import Broker
from examples.order_pipeline.retry import BrokerUnavailableError
from examples.order_pipeline.shop import PUBLIC_HOST
from examples.order_pipeline.shop.store import NotFoundError, Order, Orders
from otel_orders.instrumentation.asgi import OrderMiddleware, about_order
from otel_orders.instrumentation.audience import by_host

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

log = structlog.get_logger()

MAX_MODEL_BYTES = 32 * 1024 * 1024
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")]


class NewOrder(BaseModel):
    """What a customer asks for.  order_id and partner_id come from the B2B entry; a retail order gets its id here."""

    material: str = Field(pattern=r"^[a-z]+-[0-9]{3}$")
    order_id: Identifier | None = None
    partner_id: Identifier | None = None


class Quote(BaseModel):
    """What pricing says about a model: a price, or why there is none."""

    revision: int
    price_cents: int | None = Field(default=None, gt=0)
    rejection: str | None = Field(default=None, max_length=200)


async def the_orders(request: Request) -> Orders:
    orders: Orders = request.state.orders
    return orders


async def the_broker(request: Request) -> Broker:
    broker: Broker = request.state.broker
    return broker


async def uploaded_model(request: Request) -> bytes:
    if stl := await serving.limited_body(request, MAX_MODEL_BYTES):
        return stl
    raise HTTPException(422, "expected a binary STL file as the body")


TheOrders = Annotated[Orders, Depends(the_orders)]
routes = APIRouter()


@routes.post("/orders", status_code=201)
async def create(new: NewOrder, orders: TheOrders) -> Order:
    order_id = new.order_id or uuid4().hex[:12]
    with otel_orders.transition_context(order_id, "INITIATED", partner_id=new.partner_id) as move:
        if not orders.create(order_id, new.partner_id, new.material):
            move.skip()
    order = orders.get(order_id)
    if (order.partner_id, order.material) != (new.partner_id, new.material):
        raise HTTPException(409, "another order has this id")
    about_order(order_id, order.partner_id)
    return order


@routes.get("/orders/{order_id}")
async def show(order_id: str, orders: TheOrders) -> Order:
    return orders.get(order_id)


@routes.get("/orders/{order_id}/model")
async def model(order_id: str, orders: TheOrders) -> Response:
    return Response(orders.model(orders.get(order_id)), media_type="model/stl")


@routes.put("/orders/{order_id}/model")
async def upload(order_id: str, orders: TheOrders, stl: Annotated[bytes, Depends(uploaded_model)]) -> Order:
    order = orders.get(order_id)
    with otel_orders.transition_context(order_id, "FILE_UPLOADED", partner_id=order.partner_id) as move:
        move.from_status = order.status
        changed = orders.upload(order_id, stl)
        if not changed or order.status == "FILE_UPLOADED":  # refused, or a better file for the same step
            move.skip()
    if not changed:
        raise HTTPException(409, f"an order in {order.status} takes no new model")
    return orders.get(order_id)


@routes.post("/orders/{order_id}/submit", status_code=202)
async def submit(order_id: str, orders: TheOrders, broker: Annotated[Broker, Depends(the_broker)]) -> Order:
    """Submit the order.  Safe to repeat: that sends the message again, in case the broker did not get the first."""
    order = orders.get(order_id)
    with otel_orders.order_context(order_id, partner_id=order.partner_id):
        with otel_orders.transition_context(order_id, "SUBMITTED", from_status="FILE_UPLOADED") as move:
            if not orders.submit(order_id):
                move.skip()
        submitted = orders.get(order_id)
        if submitted.status != "SUBMITTED":
            raise HTTPException(409, f"an order in {submitted.status} cannot be submitted")
        await broker.publish(PricingRequested(order_id, submitted.revision, submitted.material))
        log.info("submitted", revision=submitted.revision)  # order_id, partner_id and trace_id are on the line
    return submitted


@routes.put("/orders/{order_id}/quote")
async def quote(order_id: str, orders: TheOrders, given: Quote) -> Order:
    """Take what pricing says.  Pricing recorded the transition: it is the one that knows."""
    if (given.price_cents is None) == (given.rejection is None):
        raise HTTPException(422, "expected either price_cents or rejection")
    orders.quote(orders.get(order_id), given.revision, given.price_cents, given.rejection)
    return orders.get(order_id)


@routes.post("/orders/{order_id}/cancel")
async def cancel(order_id: str, orders: TheOrders) -> Order:
    order = orders.get(order_id)
    with otel_orders.transition_context(order_id, "CANCELLED", partner_id=order.partner_id) as move:
        move.from_status = order.status
        cancelled = orders.cancel(order_id)
        if not cancelled:
            move.skip()
    if not cancelled:
        raise HTTPException(409, f"an order in {order.status} cannot be cancelled")
    return orders.get(order_id)


async def not_found(_request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, status_code=404)


async def try_again_later(_request: Request, _error: Exception) -> JSONResponse:
    return JSONResponse({"detail": "try again later"}, status_code=503, headers={"Retry-After": "5"})


def create_app(database: Path, amqp_url: str) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, object]]:
        orders = Orders(database)
        async with Broker(amqp_url) as broker:
            yield {"orders": orders, "broker": broker}
        orders.disconnect()

    app = FastAPI(title="Shop", lifespan=lifespan)
    app.include_router(routes)
    app.add_exception_handler(NotFoundError, not_found)
    app.add_exception_handler(BrokerUnavailableError, try_again_later)
    app.add_middleware(OrderMiddleware, audience=by_host(PUBLIC_HOST))
    return app


def main() -> None:
    options = serving.options("shop")
    runtime = otel_orders.configure(service="shop-api")
    try:
        serving.serve(create_app(options.database, serving.setting("AMQP_URL")), options)
    finally:
        runtime.shutdown()


if __name__ == "__main__":
    main()
