"""The B2B entry: a partner sends a batch of orders with its API key; each goes to the shop like any other.

All of the instrumentation is ``configure``, ``add_middleware`` and ``order_context``: it names order and partner, and
from there both travel with every request and message, through every service.  Partners are not trusted: what their
requests say about traces and orders is not believed.
"""

from __future__ import annotations

import base64
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import httpx
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Request
from pydantic import BaseModel, BeforeValidator, Field, ValidationError

import otel_orders
from examples.order_pipeline import serving
from examples.order_pipeline.b2b.notices import Notices
from examples.order_pipeline.b2b.partners import Partner, Partners
from examples.order_pipeline.b2b.store import Received, order_id_for
from examples.order_pipeline.messages import OrderShipped
from examples.order_pipeline.messaging import Broker
from otel_orders.instrumentation.asgi import OrderMiddleware
from otel_orders.instrumentation.audience import by_path

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

MAX_BATCH_BYTES = 64 * 1024 * 1024
TAKES_A_MODEL = ("INITIATED", "PRICE_REJECTED")
CAN_BE_SUBMITTED = ("FILE_UPLOADED", "SUBMITTED")

routes = APIRouter()


def strict_base64(text: object) -> bytes:
    if not isinstance(text, str):
        raise ValueError("expected base64")  # noqa: TRY004 - what pydantic turns into an answer
    return base64.b64decode(text, validate=True)


class BatchOrder(BaseModel):
    """One order of a batch.  reference: the partner's own number for it; model: a binary STL in base64."""

    reference: str = Field(min_length=1, max_length=64)
    material: str
    model: Annotated[bytes, BeforeValidator(strict_base64)]


class Batch(BaseModel):
    """What a partner sends."""

    orders: list[BatchOrder] = Field(min_length=1, max_length=100)


class Outcome(BaseModel):
    """What became of one order of a batch: its status in the shop, or why the shop refused it."""

    reference: str
    order_id: str
    status: str | None = None
    refused: str | None = None


async def partner(request: Request, x_api_key: Annotated[str, Header()] = "") -> Partner:
    partners: Partners = request.state.partners
    if known := partners.find(x_api_key):
        return known
    raise HTTPException(401, "expected a valid key in the header X-API-Key")


async def batch(request: Request, _known: Annotated[Partner, Depends(partner)]) -> Batch:
    body = await serving.limited_body(request, MAX_BATCH_BYTES)
    try:
        return Batch.model_validate_json(body)
    except ValidationError as error:
        raise HTTPException(422, error.errors(include_url=False, include_input=False, include_context=False)) from None


@routes.get("/orders/{order_id}")
async def show(order_id: str, request: Request, sender: Annotated[Partner, Depends(partner)]) -> Outcome:
    """Show an order to the partner that sent it.  X-Order-Ref on the answer is what support can be asked about."""
    sent = request.state.received.find(order_id)
    if sent is None or sent.partner_id != sender.partner_id:
        raise HTTPException(404, "there is no such order")
    with otel_orders.order_context(order_id, partner_id=sender.partner_id):
        try:
            answer = (await request.state.shop.get(f"/orders/{order_id}")).raise_for_status()
        except httpx.HTTPError:
            raise HTTPException(502, "the shop does not answer; try again later") from None
    return Outcome(reference=sent.reference, order_id=order_id, status=answer.json()["status"])


@routes.post("/batches")
async def order(
    request: Request, sender: Annotated[Partner, Depends(partner)], sent: Annotated[Batch, Depends(batch)]
) -> list[Outcome]:
    """Order everything in the batch.  Safe to repeat: a reference is ordered once."""
    received: Received = request.state.received
    now = datetime.now(UTC)
    references = [wanted.reference for wanted in sent.orders]
    if not received.admit(sender.partner_id, references, now.date().isoformat(), sender.daily_quota):
        midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        retry_after = str(int((midnight - now).total_seconds()) + 1)
        raise HTTPException(429, f"the quota is {sender.daily_quota} orders a day", {"Retry-After": retry_after})
    try:
        return [await place(request.state.shop, sender.partner_id, wanted) for wanted in sent.orders]
    except (httpx.TransportError, httpx.HTTPStatusError):
        raise HTTPException(502, "the shop does not answer; repeat the batch, nothing is ordered twice") from None


async def place(shop: httpx.AsyncClient, partner_id: str, wanted: BatchOrder) -> Outcome:
    """Take one order as far as it gets.  Raises httpx.HTTPError where the shop is the one that fails."""
    order_id = order_id_for(partner_id, wanted.reference)
    outcome = Outcome(reference=wanted.reference, order_id=order_id)
    with otel_orders.order_context(order_id, partner_id=partner_id):
        order = {"order_id": order_id, "partner_id": partner_id, "material": wanted.material}
        answer = await shop.post("/orders", json=order)
        if answer.is_success and answer.json()["status"] in TAKES_A_MODEL:
            answer = await shop.put(f"/orders/{order_id}/model", content=wanted.model)
        if answer.is_success and answer.json()["status"] in CAN_BE_SUBMITTED:
            answer = await shop.post(f"/orders/{order_id}/submit")
    if answer.is_client_error:
        outcome.refused = f"{answer.status_code}: {answer.json()['detail']}"[:500]
    else:
        outcome.status = answer.raise_for_status().json()["status"]
    return outcome


def create_app(database: Path, amqp_url: str, shop_url: str, partners: Partners) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, object]]:
        received = Received(database)
        async with (
            httpx.AsyncClient(base_url=shop_url, timeout=30) as shop,
            httpx.AsyncClient(timeout=10) as web,
            Broker(amqp_url) as broker,
        ):
            await broker.consume("b2b.shipped", OrderShipped, Notices(received, partners, web).tell)
            yield {"received": received, "shop": shop, "partners": partners}
        received.disconnect()

    app = FastAPI(title="B2B", lifespan=lifespan)
    app.include_router(routes)
    partners_api = by_path("/batches", "/orders/")  # what is below is for the world; /metrics and /healthz are for us
    app.add_middleware(OrderMiddleware, audience=partners_api, order_id="path:order_id", order_ref=True)
    return app


def main() -> None:
    options = serving.options("b2b")
    runtime = otel_orders.configure(service="b2b-api")
    try:
        partners = Partners.from_json(serving.setting("B2B_PARTNERS"))
        amqp_url, shop_url = serving.setting("AMQP_URL"), serving.setting("SHOP_URL")
        serving.serve(create_app(options.database, amqp_url, shop_url, partners), options)
    finally:
        runtime.shutdown()


if __name__ == "__main__":
    main()
