"""OrderMiddleware beside the official ASGI, FastAPI and Starlette instrumentors, and FastAPI's own, in any order.

There is one server span, and it has what ours knows.  The official `http send` and `http receive` spans are theirs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import fastapi
import httpx
import pytest
from fastapi import APIRouter, FastAPI
from opentelemetry import baggage, trace
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.starlette import StarletteInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode
from starlette.applications import Starlette
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket  # noqa: TC002
from websockets.sync.client import connect

from otel_orders.context import Order, current_order
from otel_orders.instrumentation.asgi import OrderMiddleware
from otel_orders.instrumentation.http_metrics import SERVER_LABELS, server_durations
from tests.instrumentation.http_counts import Counts
from tests.sinks.receiver import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.trace import ReadableSpan

    from tests.instrumentation.conftest import Spans

Serve = Callable[[Any], str]

ORDER = Order("4711", "acme")
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CALLER = {"traceparent": PARENT, "baggage": "order_id=4711,partner_id=acme,tenant=7"}
OUTSIDE = {"x-forwarded-for": "203.0.113.9"}
PLAIN: Any = {"tracing": False, "metrics": False, "logs": False}


def seen() -> dict[str, Any]:
    order = current_order()
    return {
        "order": order and order.order_id,
        "span": f"{trace.get_current_span().get_span_context().span_id:016x}",
        "baggage": dict(baggage.get_all()),
    }


async def say(_: Any) -> JSONResponse:
    return JSONResponse(seen())


async def stream(_: Request) -> StreamingResponse:
    async def chunks() -> Any:
        for _ in range(3):
            yield str(current_order() and "4711")

    return StreamingResponse(chunks())


async def endless(_: Request) -> StreamingResponse:
    async def chunks() -> Any:
        while True:
            yield b"more"
            await asyncio.sleep(0.01)

    return StreamingResponse(chunks())


async def broken(_: Request) -> PlainTextResponse:
    raise RuntimeError("no database")


async def talk(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_json(seen())
    await websocket.receive_text()
    await websocket.close()


ROUTES = [
    Route("/orders/{order_id}", say),
    Route("/stream/{order_id}", stream),
    Route("/endless", endless),
    Route("/broken/{order_id}", broken),
    Mount("/api", routes=[Route("/orders/{order_id}", say)]),
    WebSocketRoute("/talk/{order_id}", talk),
]


def starlette() -> Starlette:
    return Starlette(routes=ROUTES)


def fast(spans: Spans | None = None, made: Any = FastAPI) -> FastAPI:
    """Return a FastAPI application; with *spans*, one that traces itself."""
    own = PLAIN | {"tracing": True, "operation_spans": False, "tracer_provider": spans.provider} if spans else PLAIN
    app: FastAPI = made(telemetry=own)
    below = APIRouter(prefix="/api")
    for router in (app, below):
        router.add_api_route("/orders/{order_id}", seen)
    app.include_router(below)
    app.add_api_route("/stream/{order_id}", stream, response_model=None)
    app.add_api_route("/endless", endless, response_model=None)
    app.add_api_route("/broken/{order_id}", broken, response_model=None)
    app.add_api_websocket_route("/talk/{order_id}", talk)
    return app


def ours_around_theirs(spans: Spans) -> Any:
    return OrderMiddleware(OpenTelemetryMiddleware(starlette(), tracer_provider=spans.provider))


def theirs_around_ours(spans: Spans) -> Any:
    return OpenTelemetryMiddleware(OrderMiddleware(starlette()), tracer_provider=spans.provider)


def theirs_around_an_application_with_ours(spans: Spans) -> Any:
    app = starlette()
    app.add_middleware(OrderMiddleware)
    return OpenTelemetryMiddleware(app, tracer_provider=spans.provider)


def starlette_instrumented_before(spans: Spans) -> Any:
    app = starlette()
    StarletteInstrumentor.instrument_app(app, tracer_provider=spans.provider)
    app.add_middleware(OrderMiddleware)
    return app


def starlette_instrumented_after(spans: Spans) -> Any:
    app = starlette()
    app.add_middleware(OrderMiddleware)
    StarletteInstrumentor.instrument_app(app, tracer_provider=spans.provider)
    return app


def fastapi_instrumented_before(spans: Spans) -> Any:
    app = fast()
    FastAPIInstrumentor.instrument_app(app, tracer_provider=spans.provider)
    app.add_middleware(OrderMiddleware)
    return app


def fastapi_instrumented_after(spans: Spans) -> Any:
    app = fast()
    app.add_middleware(OrderMiddleware)
    FastAPIInstrumentor.instrument_app(app, tracer_provider=spans.provider)
    return app


def fastapi_instrumented_inside(spans: Spans) -> Any:
    app = fast()
    FastAPIInstrumentor.instrument_app(app, tracer_provider=spans.provider)
    return OrderMiddleware(app)


def fastapi_by_opentelemetry_instrument(spans: Spans) -> Any:
    FastAPIInstrumentor().instrument(tracer_provider=spans.provider)
    app = fast(made=fastapi.FastAPI)
    app.add_middleware(OrderMiddleware)
    return app


def fastapi_that_traces_itself(spans: Spans) -> Any:
    app = fast(spans)
    app.add_middleware(OrderMiddleware)
    return app


def fastapi_that_traces_itself_inside(spans: Spans) -> Any:
    return OrderMiddleware(fast(spans))


def ours_twice(spans: Spans) -> Any:
    return OrderMiddleware(starlette_instrumented_before(spans))


FRONTS = (
    ours_around_theirs,
    theirs_around_ours,
    theirs_around_an_application_with_ours,
    starlette_instrumented_before,
    starlette_instrumented_after,
    fastapi_instrumented_before,
    fastapi_instrumented_after,
    fastapi_instrumented_inside,
    fastapi_by_opentelemetry_instrument,
    fastapi_that_traces_itself,
    fastapi_that_traces_itself_inside,
    ours_twice,
)
in_any_order = pytest.mark.parametrize("front", FRONTS, ids=lambda front: front.__name__)


@pytest.fixture(autouse=True)
def counts() -> Iterator[Counts]:
    server_durations.cache_clear()
    yield Counts(server_durations, SERVER_LABELS)
    server_durations.cache_clear()
    if FastAPIInstrumentor().is_instrumented_by_opentelemetry:
        FastAPIInstrumentor().uninstrument()


@pytest.fixture(autouse=True)
def _background_tasks_as_before() -> Iterator[None]:
    from starlette.background import BackgroundTask  # noqa: PLC0415

    original = BackgroundTask.__call__
    yield
    BackgroundTask.__call__ = original  # type: ignore[method-assign]
    if "_otel_original_call" in vars(BackgroundTask):
        del BackgroundTask._otel_original_call  # type: ignore[attr-defined]


def get(url: str, headers: dict[str, str] = CALLER) -> httpx.Response:
    with httpx.Client(trust_env=False) as client:
        return client.get(url, headers=headers)


def served(spans: Spans) -> ReadableSpan:
    """Return the one server span; beside it there is nothing but the events that the official ones trace."""
    (span,) = [span for span in _ended(spans) if span.kind is SpanKind.SERVER]
    assert all(other.name.endswith((" send", " receive")) for other in spans.finished if other is not span)
    return span


def _ended(spans: Spans) -> list[ReadableSpan]:
    spans.of("", at_least=1)
    while not any(span.kind is SpanKind.SERVER for span in spans.finished):
        spans.of("", at_least=len(spans.finished) + 1)
    return spans.finished


@in_any_order
def test_a_request_has_one_server_span_with_all_that_we_know(
    serve: Serve, spans: Spans, counts: Counts, front: Callable[[Spans], Any]
) -> None:
    answer = get(f"{serve(front(spans))}/orders/4711?token=secret")
    labels = ("GET", "/orders/{order_id}", "200", "", "internal")
    assert counts.wait_for(1) == {labels: 1}
    span = served(spans)
    attributes = span.attributes or {}
    assert span.name == "GET /orders/{order_id}"
    assert (span.parent and f"{span.parent.span_id:016x}") == PARENT[36:52]
    assert attributes.items() >= ORDER.attributes.items()
    assert (attributes["http.route"], attributes["http.response.status_code"]) == ("/orders/{order_id}", 200)
    span_id = f"{span.context.span_id:016x}"
    assert answer.json() == {"order": "4711", "span": span_id, "baggage": {"tenant": "7"}}
    assert [span_id in timing for timing in answer.headers.get_list("server-timing")] == [True]


@in_any_order
def test_a_caller_that_is_not_trusted_is_only_linked(
    serve: Serve, spans: Spans, counts: Counts, front: Callable[[Spans], Any]
) -> None:
    answer = get(f"{serve(front(spans))}/orders/4711", CALLER | OUTSIDE).json()
    assert [labels[-1] for labels in counts.wait_for(1)] == ["external"]
    span = served(spans)
    assert span.parent is None
    assert [f"{link.context.trace_id:032x}" for link in span.links] == [PARENT[3:35]]
    assert (answer["order"], answer["baggage"]) == (None, {})
    assert "order_id" not in (span.attributes or {})


@in_any_order
def test_a_streams_server_span_is_one_and_ends_with_it(
    serve: Serve, spans: Spans, counts: Counts, front: Callable[[Spans], Any]
) -> None:
    assert get(f"{serve(front(spans))}/stream/4711").text == "4711" * 3
    assert counts.wait_for(1) == {("GET", "/stream/{order_id}", "200", "", "internal"): 1}
    assert (served(spans).attributes or {}).items() >= ORDER.attributes.items()


@in_any_order
def test_a_request_that_fails_has_its_exception_on_the_span_once(
    serve: Serve, spans: Spans, counts: Counts, front: Callable[[Spans], Any]
) -> None:
    assert get(f"{serve(front(spans))}/broken/4711").status_code == 500
    ((_, route, status, *_),) = counts.wait_for(1)
    assert (route, status) == ("/broken/{order_id}", "500")
    span = served(spans)
    assert span.status.status_code is StatusCode.ERROR
    assert [event.name for event in span.events].count("exception") <= 1


@in_any_order
def test_a_caller_that_leaves_in_the_middle_has_cancelled(
    serve: Serve, spans: Spans, counts: Counts, front: Callable[[Spans], Any]
) -> None:
    url = serve(front(spans))
    with httpx.Client(trust_env=False) as client, client.stream("GET", f"{url}/endless") as response:
        next(response.iter_raw())
    assert counts.wait_for(1) == {("GET", "/endless", "200", "cancelled", "internal"): 1}
    last_word = "ConnectionError" if front is fastapi_that_traces_itself else "cancelled"  # who ends the span has it
    assert (served(spans).attributes or {})["error.type"] == last_word


@in_any_order
def test_a_mounted_route_is_whole(serve: Serve, spans: Spans, counts: Counts, front: Callable[[Spans], Any]) -> None:
    get(f"{serve(front(spans))}/api/orders/4711")
    assert [labels[1] for labels in counts.wait_for(1)] == ["/api/orders/{order_id}"]
    assert (served(spans).attributes or {})["http.route"] == "/api/orders/{order_id}"


@in_any_order
def test_a_websocket_session_has_one_server_span(
    serve: Serve, spans: Spans, counts: Counts, front: Callable[[Spans], Any]
) -> None:
    url = serve(front(spans)).replace("http", "ws", 1)
    with connect(f"{url}/talk/4711", additional_headers=CALLER, proxy=None) as websocket:
        assert '"order":"4711"' in str(websocket.recv(20))
        websocket.send("bye")
    assert counts.wait_for(1) == {("GET", "/talk/{order_id}", "101", "", "internal"): 1}
    span = served(spans)
    attributes = span.attributes or {}
    assert attributes.items() >= ORDER.attributes.items()
    assert (attributes["http.route"], attributes["http.response.status_code"]) == ("/talk/{order_id}", 101)


def test_the_official_hooks_and_metrics_stay_where_ours_is_outside(serve: Serve, spans: Spans, counts: Counts) -> None:
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    hooked: list[Any] = []
    theirs = OpenTelemetryMiddleware(
        starlette(),
        tracer_provider=spans.provider,
        meter_provider=meters,
        server_request_hook=lambda span, _: hooked.append(span.get_span_context().span_id),
        exclude_spans=["send", "receive"],
    )
    get(f"{serve(OrderMiddleware(theirs))}/orders/4711")
    counts.wait_for(1)
    span = served(spans)
    assert hooked == [span.context.span_id]
    assert len(spans.finished) == 1
    wait_for(lambda: (found := reader.get_metrics_data()) and "http.server.duration" in found.to_json())
    meters.shutdown()


def test_an_application_without_ours_is_left_alone(serve: Serve, spans: Spans) -> None:
    OrderMiddleware(starlette())
    app = OpenTelemetryMiddleware(starlette(), tracer_provider=spans.provider, exclude_spans=["send", "receive"])
    get(f"{serve(app)}/orders/4711", CALLER | OUTSIDE)
    span = served(spans)
    assert span.parent is not None
    assert span.links == ()


def test_in_a_mounted_application_ours_is_too_far_in_to_have_a_say(serve: Serve, spans: Spans, counts: Counts) -> None:
    mounted = Starlette(routes=[Mount("/shop", app=OrderMiddleware(starlette()))])
    app = OpenTelemetryMiddleware(mounted, tracer_provider=spans.provider)
    answer = get(f"{serve(app)}/shop/orders/4711", CALLER | OUTSIDE).json()
    assert (answer["order"], answer["baggage"]) == (None, {})
    counts.wait_for(1)
    assert served(spans).parent is not None


def test_what_the_process_asks_itself_has_a_span_of_its_own(serve: Serve, spans: Spans, counts: Counts) -> None:
    inner = OrderMiddleware(starlette())

    async def front(_: Any) -> PlainTextResponse:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(inner), base_url="http://inner") as client:
            return PlainTextResponse((await client.get("/orders/4711", headers=CALLER)).text)

    get(serve(OrderMiddleware(Starlette(routes=[Route("/front", front)]))) + "/front", {})
    assert sorted(labels[1] for labels in counts.wait_for(2)) == ["/front", "/orders/{order_id}"]
    assert {span.name for span in spans.of("GET", 2)} == {"GET /front", "GET /orders/{order_id}"}
    assert "order_id" not in (spans.one("GET /front").attributes or {})


def test_a_request_that_is_not_sampled_stays_so_in_the_trace_of_the_official_span(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, counts: Counts
) -> None:
    never = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    monkeypatch.setattr("otel_orders.instrumentation.spans.tracer", never.get_tracer("otel_orders"))
    traces: list[str] = []

    async def handler(_: Any) -> PlainTextResponse:
        traces.append(f"{trace.get_current_span().get_span_context().trace_id:032x}")
        return PlainTextResponse("")

    async def between(scope: Any, receive: Any, send: Any) -> None:
        traces.append(f"{trace.get_current_span().get_span_context().trace_id:032x}")
        await OrderMiddleware(Starlette(routes=[Route("/", handler)]))(scope, receive, send)

    assert get(serve(OpenTelemetryMiddleware(between, tracer_provider=never)), {}).status_code == 200
    assert sum(counts.wait_for(1).values()) == 1
    assert len(set(traces[-2:])) == 1
