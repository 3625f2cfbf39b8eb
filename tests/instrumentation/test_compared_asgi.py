"""Line by line: what the official ASGI middleware leaves open, and ours closes.  The same scenario with each.

Each test is one line of the README's table.  Where the official one gets better, the test fails, and the line goes.
With both installed there is one span all the same: test_asgi_beside.py.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from opentelemetry import baggage
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.starlette import StarletteInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import SpanKind
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from websockets.sync.client import connect

from otel_orders.context import current_order
from otel_orders.instrumentation.asgi import OrderMiddleware
from otel_orders.instrumentation.audience import by_path
from otel_orders.instrumentation.http_metrics import SERVER_LABELS, server_durations
from tests.instrumentation.http_counts import Counts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.trace import ReadableSpan

    from tests.instrumentation.conftest import Spans

Serve = Callable[[Any], str]

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CALLER = {"traceparent": PARENT, "baggage": "order_id=4711,tenant=7"}
OUTSIDE = {"x-forwarded-for": "203.0.113.9"}

each = pytest.mark.parametrize("whose", ["official", "ours"])


async def say(_: Any) -> JSONResponse:
    order = current_order()
    return JSONResponse({"order": order and order.order_id, "baggage": dict(baggage.get_all())})


async def stream(_: Any) -> StreamingResponse:
    async def chunks() -> Any:
        while True:
            yield b"more"
            await asyncio.sleep(0.01)

    return StreamingResponse(chunks())


async def talk(websocket: Any) -> None:
    await websocket.accept()
    while await websocket.receive_text() != "bye":
        await websocket.send_text("yes")
    await websocket.close()


class Compared:
    """One application with either middleware, and what it counted: attributes of each kind of request, as text."""

    def __init__(self, spans: Spans) -> None:
        self._spans = spans
        self._reader = InMemoryMetricReader()
        self.meters = MeterProvider([self._reader], shutdown_on_exit=False)
        self._ours = Counts(server_durations, SERVER_LABELS)
        server_durations.cache_clear()

    def app(self, whose: str) -> Any:
        routes = [
            Route("/orders/{order_id}", say),
            Route("/stream", stream),
            WebSocketRoute("/talk", talk),
            Mount("/api", routes=[Route("/orders/{order_id}", say)]),
        ]
        app = Starlette(routes=routes)
        if whose == "ours":
            app.add_middleware(OrderMiddleware, audience=by_path("/api"))
        else:
            StarletteInstrumentor.instrument_app(app, tracer_provider=self._spans.provider, meter_provider=self.meters)
        return app

    def counted(self, whose: str, at_least: int = 1) -> list[str]:
        """Return what was counted, once it is *at_least* so much: the official one counts after it has answered."""
        deadline = time.monotonic() + 20
        while len(found := self._counted(whose)) < at_least:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return found

    def _counted(self, whose: str) -> list[str]:
        if whose == "ours":
            return [str(labels) for labels in self._ours.all]
        found = self._reader.get_metrics_data()
        metrics = [
            metric
            for resource in (json.loads(found.to_json())["resource_metrics"] if found else ())
            for scope in resource["scope_metrics"]
            for metric in scope["metrics"]
            if metric["name"] == "http.server.duration"
        ]
        return [str(point["attributes"]) for metric in metrics for point in metric["data"]["data_points"]]

    def server_span(self) -> ReadableSpan:
        """Return the span of the request, once it has ended."""
        while not (found := [span for span in self._spans.finished if span.kind is SpanKind.SERVER]):
            self._spans.of("", len(self._spans.finished) + 1)
        (span,) = found
        return span


@pytest.fixture
def compared(spans: Spans) -> Iterator[Compared]:
    made = Compared(spans)
    yield made
    made.meters.shutdown()
    server_durations.cache_clear()


def get(url: str, headers: dict[str, str] | None = None) -> httpx.Response:
    with httpx.Client(trust_env=False) as client:
        return client.get(url, headers=headers)


@each
def test_the_order_is_in_the_handler_and_on_the_span(serve: Serve, compared: Compared, whose: str) -> None:
    told = get(f"{serve(compared.app(whose))}/orders/4711", CALLER).json()
    assert (told["order"] == "4711") is (whose == "ours")
    assert ((compared.server_span().attributes or {}).get("order_id") == "4711") is (whose == "ours")


@each
def test_baggage_from_outside_is_dropped(serve: Serve, compared: Compared, whose: str) -> None:
    told = get(f"{serve(compared.app(whose))}/orders/4711", CALLER | OUTSIDE).json()
    assert ("tenant" in told["baggage"]) is (whose == "official")


@each
def test_a_trace_from_outside_is_only_linked(serve: Serve, compared: Compared, whose: str) -> None:
    get(f"{serve(compared.app(whose))}/orders/4711", CALLER | OUTSIDE)
    span = compared.server_span()
    assert (span.parent is not None, len(span.links)) == ((True, 0) if whose == "official" else (False, 1))


@each
def test_who_is_served_is_a_label(serve: Serve, compared: Compared, whose: str) -> None:
    get(f"{serve(compared.app(whose))}/api/orders/4711")
    compared.server_span()
    (labels,) = compared.counted(whose)
    assert ("external" in labels) is (whose == "ours")


@each
def test_the_template_of_a_mounted_route_is_whole(serve: Serve, compared: Compared, whose: str) -> None:
    get(f"{serve(compared.app(whose))}/api/orders/4711")
    route = "/api" if whose == "official" else "/api/orders/{order_id}"
    span = compared.server_span()
    assert (span.name, (span.attributes or {})["http.route"]) == (f"GET {route}", route)


@each
def test_a_request_that_its_caller_cancelled_is_told_from_others(serve: Serve, compared: Compared, whose: str) -> None:
    url = serve(compared.app(whose))
    with httpx.Client(trust_env=False) as client, client.stream("GET", f"{url}/stream") as response:
        next(response.iter_raw())
    attributes = compared.server_span().attributes or {}
    (labels,) = compared.counted(whose)
    assert ("cancelled" in labels, attributes.get("error.type") == "cancelled") == ((whose == "ours"),) * 2


@each
def test_the_answer_tells_a_browser_its_trace(serve: Serve, compared: Compared, whose: str) -> None:
    answer = get(f"{serve(compared.app(whose))}/orders/4711")
    assert ("server-timing" in answer.headers) is (whose == "ours")


@each
def test_a_websocket_session_is_one_span_and_counted(
    serve: Serve, spans: Spans, compared: Compared, whose: str
) -> None:
    url = serve(compared.app(whose)).replace("http", "ws", 1)
    with connect(f"{url}/talk", proxy=None) as websocket:
        for _ in range(10):
            websocket.send("more")
            websocket.recv(20)
        websocket.send("bye")
    compared.server_span()
    assert (len(spans.finished) == 1) is (whose == "ours")
    assert (len(spans.finished) > 20) is (whose == "official")
    number = int(whose == "ours")
    assert len(compared.counted(whose, at_least=number)) == number


@each
def test_a_request_is_one_span(serve: Serve, spans: Spans, compared: Compared, whose: str) -> None:
    get(f"{serve(compared.app(whose))}/orders/4711")
    compared.server_span()
    assert len(spans.finished) == (1 if whose == "ours" else 3)


@each
def test_the_values_of_a_query_stay_out_of_the_span(serve: Serve, compared: Compared, whose: str) -> None:
    get(f"{serve(compared.app(whose))}/orders/4711?card=4111")
    assert ("4111" in str(dict(compared.server_span().attributes or {}))) is (whose == "official")


@pytest.mark.parametrize("whose", ["official", "ours"])
def test_without_a_frameworks_help_the_spans_name_has_no_path_in_it(
    serve: Serve, spans: Spans, compared: Compared, whose: str
) -> None:
    plain = Starlette(routes=[Route("/orders/{order_id}", say)])
    app: Any = OrderMiddleware(plain)
    if whose == "official":
        app = OpenTelemetryMiddleware(plain, tracer_provider=spans.provider, meter_provider=compared.meters)
    get(f"{serve(app)}/orders/4711")
    assert ("4711" in compared.server_span().name) is (whose == "official")
