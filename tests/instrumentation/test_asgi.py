"""The ASGI middleware: behind a real server with real frameworks, and by hand where only a rare server would do."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from opentelemetry import baggage, trace
from opentelemetry.context import get_current
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import SpanKind, StatusCode
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute

from otel_orders import names
from otel_orders.context import Order, bound, current_order
from otel_orders.instrumentation import httpx as httpx_instrumentation
from otel_orders.instrumentation.amqp import Message, Sending
from otel_orders.instrumentation.asgi import OrderMiddleware
from otel_orders.instrumentation.audience import CALLER_HEADERS, by_client, comes_from_inside, headers_of
from otel_orders.instrumentation.spans import end_dropped

if TYPE_CHECKING:
    from tests.instrumentation.conftest import Faults, Spans

ORDER = Order("4711", "acme")
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CALLER = {"traceparent": PARENT, "baggage": "order_id=4711,partner_id=acme,tenant=7"}

Serve = Callable[[Any], str]


def get(url: str, method: str = "GET", **headers: str) -> httpx.Response:
    with httpx.Client(trust_env=False) as client:
        return client.request(method, url, headers={name.replace("_", "-"): value for name, value in headers.items()})


async def say(_: Any) -> JSONResponse:
    """Answer with what a handler sees."""
    return JSONResponse(seen())


def seen() -> dict[str, Any]:
    order = current_order()
    return {
        "order": order and [order.order_id, order.partner_id],
        "span": f"{trace.get_current_span().get_span_context().span_id:016x}",
        "baggage": dict(baggage.get_all()),
    }


def http_scope(**fields: Any) -> dict[str, Any]:
    return {
        "type": "http",
        "method": "GET",
        "path": "/",
        "scheme": "http",
        "client": ("127.0.0.1", 5),
        "headers": [(name.encode(), value.encode()) for name, value in CALLER.items()],
        **fields,
    }


async def call(app: Any, scope: dict[str, Any], *events: dict[str, Any]) -> list[dict[str, Any]]:
    """Call *app* as a server would that has received *events*, and return what it sent."""
    received, sent = iter(events), list[dict[str, Any]]()

    async def receive() -> dict[str, Any]:
        return next(received)

    async def send(event: dict[str, Any]) -> None:
        sent.append(event)

    await app(scope, receive, send)
    return sent


def test_a_request_is_a_server_span_by_the_http_conventions_inside_the_callers_order(
    serve: Serve, spans: Spans
) -> None:
    url = serve(OrderMiddleware(Starlette(routes=[Route("/orders/{order_id}", say)])))
    answer = get(f"{url}/orders/4711?token=secret", **CALLER)
    span = spans.one("GET")
    assert (span.name, span.kind) == ("GET /orders/{order_id}", SpanKind.SERVER)
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" in PARENT
    assert span.attributes == ORDER.attributes | {
        "audience": "internal",
        "http.request.method": "GET",
        "http.route": "/orders/{order_id}",
        "http.response.status_code": 200,
        "network.protocol.version": "1.1",
        "server.address": "127.0.0.1",
        "server.port": int(url.rsplit(":", 1)[1]),
        "url.path": "/orders/4711",
        "url.scheme": "http",
    }
    assert span.status.status_code is StatusCode.UNSET
    assert answer.json() == {
        "order": ["4711", "acme"],
        "span": f"{span.context.span_id:016x}",
        "baggage": {"tenant": "7"},
    }
    timing = f'traceparent;desc="00-{span.context.trace_id:032x}-{span.context.span_id:016x}-01"'
    assert answer.headers["server-timing"] == timing


def test_a_caller_from_outside_is_not_believed_and_its_trace_only_linked(serve: Serve, spans: Spans) -> None:
    url = serve(OrderMiddleware(Starlette(routes=[Route("/", say)]), trusted=lambda _: False))
    answer = get(url, **CALLER).json()
    span = spans.one("GET")
    assert answer == {"order": None, "span": f"{span.context.span_id:016x}", "baggage": {}}
    assert span.parent is None
    assert [f"{link.context.span_id:016x}" in PARENT for link in span.links] == [True]
    assert names.ORDER_ID not in (span.attributes or {})


@pytest.mark.parametrize(
    ("client", "headers", "inside"),
    [
        (("127.0.0.1", 1), {}, True),
        (("10.0.0.9", 1), {}, True),
        (("::1", 1), {}, True),
        (("172.31.0.1", 1), {}, True),
        (("203.0.113.9", 1), {}, False),
        (("169.254.1.1", 1), {}, False),
        (("8.8.8.8", 1), {}, False),
        (None, {}, False),
        (("not an address", 1), {}, False),
        (("10.0.0.9", 1), {"x-forwarded-for": "10.0.0.1, 192.168.1.1"}, True),
        (("10.0.0.9", 1), {"x-forwarded-for": "10.0.0.1, 8.8.8.8"}, False),
        (("10.0.0.9", 1), {"x-forwarded-for": "8.8.8.8"}, False),
        (("10.0.0.9", 1), {"x-forwarded-for": "unknown"}, False),
        (("10.0.0.9", 1), {"forwarded": "for=8.8.8.8"}, False),
        (("10.0.0.9", 1), {"x-forwarded": "for=8.8.8.8"}, False),
        (("10.0.0.9", 1), {"via": "1.1 edge"}, False),
        (("10.0.0.9", 1), {"x-real-ip": "10.0.0.1"}, True),
        *((("10.0.0.9", 1), {name: "8.8.8.8"}, False) for name in sorted(CALLER_HEADERS)),
        (("10.0.0.9", 1), {"x-forwarded-for": "10.0.0.1", "X-Real-IP": "8.8.8.8"}, False),
        (("10.0.0.9", 1), {"x-forwarded-for": ",".join(["10.0.0.1"] * 32)}, True),
        (("10.0.0.9", 1), {"x-forwarded-for": ",".join(["10.0.0.1"] * 33)}, False),
        (("fd00:ec2::254", 1), {}, False),
    ],
)
def test_inside_is_who_has_a_private_address_all_the_way(client: Any, headers: dict[str, str], inside: bool) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert comes_from_inside({"type": "http", "client": client, "headers": raw}) is inside


class Counted(bytes):
    """The name of a header, that knows how often it was read."""

    read = 0

    def decode(self, *args: Any, **kwargs: Any) -> str:
        self.read += 1
        return super().decode(*args, **kwargs)


@pytest.mark.usefixtures("spans")
@pytest.mark.anyio
async def test_headers_are_read_once_however_many_ask_who_the_caller_is() -> None:
    name = Counted(b"x-real-ip")

    async def app(scope: Any, *_: Any) -> None:
        assert by_client(scope) == "internal"

    await call(OrderMiddleware(app), http_scope(headers=[(name, b"10.0.0.1"), (b"x-real-ip", b"10.0.0.2")]))
    assert name.read == 1


def test_headers_that_a_middleware_changes_are_read_again() -> None:
    scope = http_scope(headers=[(b"x-real-ip", b"10.0.0.1")])
    assert comes_from_inside(scope)
    scope["headers"].append((b"X-Real-IP", b"8.8.8.8"))
    assert not comes_from_inside(scope)
    assert headers_of(scope) == {"x-real-ip": "10.0.0.1,8.8.8.8"}


@pytest.mark.anyio
async def test_who_cannot_be_judged_is_not_believed_and_the_fault_is_counted(spans: Spans, faults: Faults) -> None:
    def trusted(_: Any) -> bool:
        raise KeyError("audience")

    orders: list[Any] = []

    async def app(*_: Any) -> None:
        orders.append(current_order())

    await call(OrderMiddleware(app, trusted=trusted), http_scope())
    assert orders == [None]
    assert spans.one("GET").parent is None
    faults.expected = {"asgi"}


def test_the_order_is_there_in_threads_and_in_background_work(serve: Serve, spans: Spans) -> None:
    app = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False})
    app.add_middleware(OrderMiddleware)
    later: list[Order | None] = []

    @app.get("/thread")
    def in_a_thread() -> dict[str, Any]:
        return seen()

    @app.get("/later")
    def background() -> PlainTextResponse:
        return PlainTextResponse("", background=BackgroundTask(lambda: later.append(current_order())))

    url = serve(app)
    assert get(f"{url}/thread", **CALLER).json()["order"] == ["4711", "acme"]
    get(f"{url}/later", **CALLER)
    assert get(f"{url}/thread").json()["order"] is None
    assert later == [ORDER]
    assert [span.name for span in spans.of("GET", 3)] == ["GET /thread", "GET /later", "GET /thread"]


@pytest.mark.parametrize("below", ["", "/api"])
@pytest.mark.parametrize("framework", ["starlette", "fastapi"])
def test_the_route_is_the_template_that_matched(serve: Serve, spans: Spans, framework: str, below: str) -> None:
    app: Any
    if framework == "starlette":
        inner: Any = Route("/orders/{order_id:int}", say)
        app = Starlette(routes=[Mount(below, routes=[inner]) if below else inner])
    else:
        app = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False})
        router = APIRouter(prefix=below)
        router.add_api_route("/orders/{order_id}", seen)
        app.include_router(router)
    url = serve(OrderMiddleware(app))
    assert get(f"{url}{below}/orders/7").status_code == 200
    assert get(f"{url}/nowhere").status_code == 404
    assert [span.name for span in spans.of("GET", 2)] == [f"GET {below}/orders/{{order_id}}", "GET"]


def test_where_the_framework_has_a_server_span_there_is_one_and_it_has_the_order(serve: Serve, spans: Spans) -> None:
    app = FastAPI(
        telemetry={"tracer_provider": spans.provider, "metrics": False, "logs": False, "operation_spans": False}
    )
    app.add_middleware(OrderMiddleware)
    app.add_api_route("/orders/{order_id}", seen)
    answer = get(f"{serve(app)}/orders/4711", **CALLER)
    span = spans.one("GET /orders/{order_id}")
    assert len(spans.finished) == 1
    assert (span.attributes or {}).items() >= ORDER.attributes.items()
    assert answer.json()["order"] == ["4711", "acme"]
    assert answer.json()["baggage"] == {"tenant": "7"}
    assert f"{span.context.span_id:016x}" in answer.headers["server-timing"]


def test_a_frameworks_own_span_brings_no_baggage_from_outside_in(serve: Serve, spans: Spans) -> None:
    app = FastAPI(telemetry={"tracer_provider": spans.provider, "metrics": False, "logs": False})
    app.add_middleware(OrderMiddleware, trusted=lambda _: False)
    app.add_api_route("/", seen)
    answer = get(serve(app), **CALLER).json()
    assert (answer["order"], answer["baggage"]) == (None, {})


@pytest.mark.anyio
async def test_nothing_is_left_behind(spans: Spans) -> None:
    async def app(*_: Any) -> None:
        assert current_order() == ORDER

    before = get_current()
    with bound(Order("outer")):
        await call(OrderMiddleware(app), http_scope())
        assert current_order() == Order("outer")
    assert get_current() is before
    assert spans.one("GET").attributes is not None


@pytest.mark.anyio
async def test_a_streaming_responses_span_ends_with_its_last_chunk(spans: Spans) -> None:
    open_after: list[bool] = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        for more in (True, True, False):
            await send({"type": "http.response.body", "body": b"x", "more_body": more})
            open_after.append(not spans.finished)
        assert current_order() == ORDER

    sent = await call(OrderMiddleware(app), http_scope())
    assert open_after == [True, True, False]
    assert [event.get("body") for event in sent] == [None, b"x", b"x", b"x"]


@pytest.mark.anyio
async def test_trailers_come_after_the_body_and_end_the_span(spans: Spans) -> None:
    open_after: list[bool] = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "trailers": True})
        for event in ({"type": "http.response.body"}, {"type": "http.response.trailers"}):
            await send(event)
            open_after.append(not spans.finished)

    await call(OrderMiddleware(app), http_scope())
    assert open_after == [True, False]


@pytest.mark.anyio
async def test_a_file_that_the_server_sends_by_its_path_ends_the_span(spans: Spans) -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.pathsend", "path": "/model.stl"})
        assert len(spans.finished) == 1

    await call(OrderMiddleware(app), http_scope())


def test_a_stream_reaches_the_client_in_its_chunks(serve: Serve, spans: Spans) -> None:
    async def chunks() -> Any:
        for number in range(3):
            yield f"{number},{current_order()!r}\n"

    async def stream(_: Any) -> StreamingResponse:
        return StreamingResponse(chunks())

    url = serve(OrderMiddleware(Starlette(routes=[Route("/", stream)])))
    assert get(url, **CALLER).text.splitlines() == [f"{number},{ORDER!r}" for number in range(3)]
    assert spans.one("GET").status.status_code is StatusCode.UNSET


@pytest.mark.anyio
async def test_an_exception_is_an_error_of_the_span_and_reaches_the_server_unchanged(spans: Spans) -> None:
    failure = RuntimeError("no database")

    async def app(*_: Any) -> None:
        raise failure

    with pytest.raises(RuntimeError) as caught:
        await call(OrderMiddleware(app), http_scope())
    assert caught.value is failure
    span = spans.one("GET")
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {}).items() >= {"error.type": "RuntimeError", "http.response.status_code": 500}.items()


@pytest.mark.parametrize(("status", "failed"), [(404, False), (500, True), (503, True)])
@pytest.mark.anyio
async def test_only_a_server_error_is_an_error(spans: Spans, status: int, failed: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse("", status_code=status)(scope, receive, send)

    await call(OrderMiddleware(app), http_scope())
    span = spans.one("GET")
    assert (span.status.status_code is StatusCode.ERROR) is failed
    assert (span.attributes or {}).get("error.type") == (str(status) if failed else None)


@pytest.mark.anyio
async def test_a_cancelled_request_says_so_and_stays_cancelled(spans: Spans) -> None:
    async def app(*_: Any) -> None:
        await asyncio.Event().wait()

    request = asyncio.create_task(call(OrderMiddleware(app), http_scope()))
    await asyncio.sleep(0)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert (spans.one("GET").attributes or {})["error.type"] == "cancelled"


@pytest.mark.anyio
async def test_a_method_that_nobody_knows_stays_out_of_the_spans_name(spans: Spans) -> None:
    async def app(*_: Any) -> None: ...

    await call(OrderMiddleware(app), http_scope(method="BREW"))
    assert (spans.one("HTTP").attributes or {})["http.request.method"] == "_OTHER"


@pytest.mark.parametrize(
    ("headers", "server", "address"),
    [
        ([(b"host", b"shop.example:8443")], ("10.0.0.1", 80), ("shop.example", 8443)),
        ([(b"host", b"[::1]:81")], ("10.0.0.1", 80), ("::1", 81)),
        ([(b"host", b"shop.example")], None, ("shop.example", 80)),
        ([(b"host", b"shop:port")], ("10.0.0.1", 8000), ("10.0.0.1", 8000)),
        ([], ("10.0.0.1", 8000), ("10.0.0.1", 8000)),
        ([], ("/run/app.sock", None), ("/run/app.sock", None)),
        ([], None, (None, None)),
    ],
)
@pytest.mark.anyio
async def test_the_server_is_named_as_the_caller_names_it(
    spans: Spans, headers: Any, server: Any, address: tuple[Any, Any]
) -> None:
    async def app(*_: Any) -> None: ...

    await call(OrderMiddleware(app), http_scope(headers=headers, server=server))
    attributes = spans.one("GET").attributes or {}
    assert (attributes.get("server.address"), attributes.get("server.port")) == address


@pytest.mark.anyio
async def test_headers_of_the_application_stay_and_ours_is_added(spans: Spans) -> None:
    own = {"type": "http.response.start", "status": 200, "headers": [(b"Server-Timing", b"db;dur=5")]}

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send(own)

    (start,) = await call(OrderMiddleware(app), http_scope())
    assert start["headers"][0] == (b"Server-Timing", b"db;dur=5")
    assert len(start["headers"]) == 2
    assert own["headers"] == [(b"Server-Timing", b"db;dur=5")]
    assert spans.one("GET").attributes is not None


@pytest.mark.anyio
async def test_the_order_is_there_even_where_nothing_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otel_orders.instrumentation.spans.tracer", trace.NoOpTracer())

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        assert current_order() == ORDER
        await send({"type": "http.response.start", "status": 200})

    (start,) = await call(OrderMiddleware(app), http_scope(headers=[(b"baggage", CALLER["baggage"].encode())]))
    assert start["headers"] == []


@pytest.mark.anyio
async def test_a_websocket_session_is_one_span_inside_the_order(spans: Spans) -> None:
    async def talk(websocket: Any) -> None:
        await websocket.accept()
        await websocket.send_json(seen())
        assert await websocket.receive_text() == "bye"
        assert spans.finished == []
        await websocket.close()

    app = OrderMiddleware(Starlette(routes=[WebSocketRoute("/ws", talk)]))
    came = {"type": "websocket.connect"}, {"type": "websocket.receive", "text": "bye"}
    sent = await call(app, http_scope(type="websocket", path="/ws", method="GET"), *came)
    assert [event["type"] for event in sent] == ["websocket.accept", "websocket.send", "websocket.close"]
    assert json.loads(sent[1]["text"])["order"] == ["4711", "acme"]
    span = spans.one("GET")
    assert (span.name, (span.attributes or {})["http.response.status_code"]) == ("GET /ws", 101)


@pytest.mark.anyio
async def test_a_websocket_that_is_refused_is_answered_with_403(spans: Spans) -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "websocket.close", "code": 1008})

    assert await call(OrderMiddleware(app), http_scope(type="websocket")) == [{"type": "websocket.close", "code": 1008}]
    assert (spans.one("GET").attributes or {})["http.response.status_code"] == 403


@pytest.mark.anyio
async def test_lifespan_passes_through(spans: Spans) -> None:
    scopes: list[Any] = []

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        scopes.append(scope)
        await send({"type": "lifespan.startup.complete"})

    scope = {"type": "lifespan"}
    assert await call(OrderMiddleware(app), scope) == [{"type": "lifespan.startup.complete"}]
    assert scopes[0] is scope
    assert spans.finished == []


@pytest.mark.anyio
async def test_suppressed_instrumentation_leaves_no_trace(spans: Spans) -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "order": current_order()})

    with suppress_instrumentation():
        assert await call(OrderMiddleware(app), http_scope()) == [
            {"type": "http.response.start", "status": 200, "order": None}
        ]
    assert spans.finished == []


@pytest.mark.parametrize(
    "headers",
    [
        [(b"traceparent", b"nonsense"), (b"baggage", b"=;,,\xff")],
        [(b"traceparent", PARENT.encode()), (b"traceparent", PARENT.encode())],
        [(b"baggage", b"order_id=" + b"4" * 65_536)],
        [(b"baggage", b"order_id=" + b"4" * 129)],
        [(names.TRACE_STARTED_AT_HEADER.encode(), b"-1"), (b"\xff\xfe", b"\xff")],
    ],
)
@pytest.mark.anyio
async def test_headers_that_make_no_sense_are_as_none(spans: Spans, headers: Any) -> None:
    orders: list[Any] = []

    async def app(*_: Any) -> None:
        orders.append(current_order())

    await call(OrderMiddleware(app), http_scope(headers=headers))
    assert orders == [None]
    assert spans.one("GET").parent is None


@pytest.mark.anyio
async def test_baggage_may_come_in_several_headers(spans: Spans) -> None:
    orders: list[Any] = []

    async def app(*_: Any) -> None:
        orders.append(current_order())

    headers = [(b"Baggage", b"tenant=7"), (b"baggage", b"order_id=4711,partner_id=acme")]
    await call(OrderMiddleware(app), http_scope(headers=headers))
    assert orders == [ORDER]
    assert spans.one("GET").attributes is not None


@pytest.mark.anyio
async def test_a_fault_of_ours_is_counted_and_costs_the_handler_neither_its_order_nor_the_callers_trace(
    monkeypatch: pytest.MonkeyPatch, faults: Faults
) -> None:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise OSError(name)

    monkeypatch.setattr("otel_orders.instrumentation.spans.tracer", Broken())
    calls: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        calls.append((current_order(), trace.get_current_span().get_span_context().span_id))
        await PlainTextResponse("fine")(scope, receive, send)

    sent = await call(OrderMiddleware(app), http_scope())
    assert calls == [(ORDER, int(PARENT.split("-")[2], 16))]
    assert [event["type"] for event in sent] == ["http.response.start", "http.response.body"]
    faults.expected = {"asgi"}


def test_a_request_whose_task_is_thrown_away_ends_later_and_says_that_it_was_cancelled(spans: Spans) -> None:
    """The garbage collector closes a coroutine anywhere, even in a span processor that holds its lock."""

    class Pending:
        def __await__(self) -> Any:
            yield

    async def app(*_: Any) -> None:
        await Pending()

    async def nothing(*_: Any) -> Any: ...

    running = OrderMiddleware(app)(http_scope(), nothing, nothing)
    running.send(None)
    running.close()
    assert spans.finished == []
    assert current_order() is None
    end_dropped()
    assert (spans.one("GET").attributes or {})["error.type"] == "cancelled"


def test_an_order_and_its_trace_go_through_two_services(serve: Serve, spans: Spans) -> None:
    """Client, front service, back service: one trace, which keeps its start, inside one order."""
    httpx_instrumentation.instrument()
    started: list[int] = []

    def inner() -> dict[str, Any]:
        with Sending(Message("", "queue", None)) as sending:
            started.append(sending.headers[names.TRACE_STARTED_AT_HEADER])
        return seen()

    back = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False})
    back.add_middleware(OrderMiddleware)
    back.add_api_route("/", inner)
    back_url = serve(back)
    front = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False})
    front.add_middleware(OrderMiddleware)
    front.add_api_route("/", lambda: get(back_url).json())
    before = time.time_ns()
    with bound(ORDER):
        answer = get(serve(front)).json()
    httpx_instrumentation.uninstrument()

    assert answer["order"] == ["4711", "acme"]
    assert {span.name for span in spans.of("", 5)} == {"send queue", "GET /", "GET"}
    assert len({span.context.trace_id for span in spans.finished}) == 1
    assert all((span.attributes or {})[names.ORDER_ID] == "4711" for span in spans.finished)
    (outermost,) = (span for span in spans.finished if span.parent is None)
    assert started == [outermost.start_time]
    assert (outermost.start_time or 0) > before
