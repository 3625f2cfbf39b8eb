"""An order at a public endpoint leaves a gateway under its pseudonym, or without a name, wherever a span said it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from otel_orders.event import order_bucket
from otel_orders.instrumentation.asgi import OrderMiddleware
from otel_orders.instrumentation.audience import by_path
from otel_orders.privacy import pseudonym
from tests.collector.far_end import FarEnd, far_end
from tests.collector.gate import post
from tests.collector.orders import RATIO, request
from tests.collector.planted import span
from tests.collector.processes import GATEWAY, collecting
from tests.ledger.senders import key_values
from tests.sinks.memory import kept_spans
from tests.sinks.receiver import attributes, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.trace.v1.trace_pb2 import Span
    from starlette.requests import Request

KEY = "0123456789abcdef0123456789abcdef"
ORDERS: tuple[Any, ...] = ("A-100234", "Mixed-Case-77", "Заказ № 4711", "a.b*(c)[d]", r"x\Ey-7712", 'q"<7713>', 4711001)
PLAIN = ORDERS[:2]
"""Those that can be told from what stands around them, whatever that is."""


def forms(order_id: Any) -> set[str]:
    """Return ways to write *order_id*."""
    text = str(order_id)
    coded = {quote(text, safe=""), "".join(f"%{byte:02X}" for byte in text.encode()), json.dumps(text)[1:-1]}
    return {text, text.lower(), text.upper(), text.swapcase()} | coded


def public(order_id: Any, number: int, audience: str = "external", *, named: bool = True) -> Span:
    """Return the server span of a public endpoint that says which order it is about wherever it can."""
    said = "; ".join(f"order {form} is unknown" for form in sorted(forms(order_id)))
    made = span("nothing", number)
    made.ClearField("attributes")
    where = {"url.path": f"/orders/{order_id}", "url.full": f"https://b2b.example/orders/{order_id}"}
    seen = {"http.route": "/orders/{id}", "http.request.method": "GET", "network.peer.address": "203.0.113.7"}
    own = {"order_id": order_id} if named else {}
    made.attributes.extend(key_values(own | {"audience": audience, "error.message": said} | where | seen))
    inside = AnyValue(kvlist_value=KeyValueList(values=key_values({"reason": said, "id": order_id})))
    made.attributes.add(key="exception.message", value=AnyValue(array_value=ArrayValue(values=[inside])))
    made.name, made.status.message, made.trace_state = f"GET {order_id}", said, f"shop={order_id}"
    made.events[0].name = said
    made.events[0].attributes.extend([*key_values({"exception.message": said}), KeyValue(key="level", value=inside)])
    return made


def sent(spans: list[Span], order_id: Any = None) -> ExportTraceServiceRequest:
    """Return a request of *spans*, whose process and library are about *order_id* as well."""
    made = request(spans)
    if order_id is not None:
        nested = AnyValue(array_value=ArrayValue(values=[AnyValue(string_value=f"of {order_id}")]))
        resource, scope = made.resource_spans[0].resource, made.resource_spans[0].scope_spans[0].scope
        for holder in (resource, scope):
            holder.attributes.extend(key_values({"host.name": f"worker of {order_id}"}))
            holder.attributes.add(key="container.name", value=nested)
        scope.name = f"lib of {order_id}"
    return made


@pytest.fixture(scope="module")
def nameless(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FarEnd]:
    """What left a gateway that has no key: spans of all orders, with and without their ids, and one of ours."""
    folder = tmp_path_factory.mktemp("public")
    with (
        far_end() as store,
        collecting(binary, GATEWAY, folder, OTELCOL_TRACES=store.url) as gateway,
        httpx.Client(base_url=gateway.url, trust_env=False, timeout=30) as client,
    ):
        for place, order in enumerate(ORDERS):
            spans = [
                public(order, 3 * place + 1),
                public(order, 3 * place + 2, " External"),
                public(order, 3 * place + 3, named=False),
            ]
            post(client, "/v1/traces", sent(spans[:2], order if order in PLAIN else None))
            post(client, "/v1/traces", sent(spans[2:]))
        post(client, "/v1/traces", request([span("x", 99)]))
        wait_for(lambda: len(store.spans()) == 3 * len(ORDERS) + 1, seconds=60)
        yield store


@pytest.mark.parametrize("order_id", ORDERS)
def test_without_a_key_a_public_endpoint_names_no_order_in_any_form_or_place(nameless: FarEnd, order_id: Any) -> None:
    raw = nameless.raw.lower()
    assert [form for form in forms(order_id) if form.lower().encode() in raw] == []


def test_what_a_public_endpoint_is_and_how_it_answers_stays(nameless: FarEnd) -> None:
    found = [one for one in nameless.spans() if "audience" in attributes(one)]
    assert len(found) == 3 * len(ORDERS)
    assert {attributes(one)["audience"] for one in found} == {"external"}
    assert {attributes(one)["http.route"] for one in found} == {"/orders/{id}"}
    assert not [one for one in found if attributes(one).keys() & {"order_id", "url.path", "network.peer.address"}]
    assert {one.name for one in found} == {"GET ****", "GET /orders/{id}"}
    assert {one.status.message.partition(";")[0] for one in found} == {"order **** is unknown", ""}


def test_a_span_that_is_ours_keeps_its_order(nameless: FarEnd) -> None:
    [ours] = [one for one in nameless.spans() if "audience" not in attributes(one)]
    assert attributes(ours)["order_id"] == "order-99"


async def told(application: Starlette, path: str) -> httpx.Response:
    """Ask *application* as somebody from the world does."""
    transport = httpx.ASGITransport(application, client=("203.0.113.9", 1))
    async with httpx.AsyncClient(transport=transport, base_url="https://b2b.example") as client:
        return await client.get(path)


async def shipped(_: Request) -> PlainTextResponse:
    return PlainTextResponse("shipped")


def test_with_a_key_the_order_on_a_stored_span_is_what_the_caller_was_told(
    binary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_ORDERS_PSEUDONYM_KEY", KEY)
    order_id = next(f"A-{number}" for number in range(1_000) if order_bucket(f"A-{number}") < RATIO * 100)
    application = Starlette(routes=[Route("/orders/{order_id}", shipped)])
    application.add_middleware(OrderMiddleware, audience=by_path("/orders/"), order_id="path:order_id", order_ref=True)
    with kept_spans() as spans:
        answer = asyncio.run(told(application, f"/orders/{order_id}"))
    environ = {"OTELCOL_PSEUDONYM_KEY": KEY}
    with (
        far_end() as store,
        collecting(binary, (*GATEWAY, "pseudonyms"), tmp_path, OTELCOL_TRACES=store.url, **environ) as gateway,
        httpx.Client(base_url=gateway.url, trust_env=False) as client,
    ):
        post(client, "/v1/traces", encode_spans(spans.get_finished_spans()))
        post(client, "/v1/traces", sent([public(order, place) for place, order in enumerate(ORDERS, 1)]))
        wait_for(lambda: len(store.spans()) == 1 + len(ORDERS), seconds=60)
    named = {attributes(one)["order_id"] for one in store.spans()}
    assert named == {answer.headers["x-order-ref"]} | {pseudonym(str(order), KEY.encode()) for order in ORDERS}
    assert order_id.encode() not in store.raw
