"""An application behaves the same with us and without us, whatever goes wrong in it, in its callers or in us."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocketDisconnect

from otel_orders.context import Order, bound
from otel_orders.instrumentation import httpx as instrumentation
from otel_orders.instrumentation.asgi import OrderMiddleware
from tests.instrumentation.test_httpx import Fetch, broken, sync_and_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.instrumentation.conftest import Faults

OURS = {b"server-timing"}

Log = list[Any]


class BrokenExporter(SpanExporter):
    def export(self, spans: Any) -> Any:  # noqa: ARG002
        raise OSError("collector")


class BrokenStart(SpanProcessor):
    def on_start(self, span: Any, parent_context: Any = None) -> None:  # noqa: ARG002
        raise OSError("start")


class BrokenEnd(SpanProcessor):
    def on_end(self, span: Any) -> None:  # noqa: ARG002
        raise OSError("end")


BREAKS = {
    "nothing": None,
    "exporter": SimpleSpanProcessor(BrokenExporter()),
    "start": BrokenStart(),
    "end": BrokenEnd(),
}


@pytest.fixture(params=BREAKS)
def broken_tracing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, faults: Faults) -> Iterator[None]:
    provider = TracerProvider(shutdown_on_exit=False)
    if (processor := BREAKS[request.param]) is not None:
        provider.add_span_processor(processor)
    monkeypatch.setattr("otel_orders.instrumentation.spans.tracer", provider.get_tracer("otel_orders"))
    yield
    faults.expected = faults.counted if request.param in {"start", "end"} else set()


def application(log: Log) -> Starlette:  # noqa: C901 - one route a behaviour
    async def plain(request: Any) -> PlainTextResponse:
        return PlainTextResponse(await request.body(), status_code=int(request.path_params["status"]))

    async def fail(_: Any) -> PlainTextResponse:
        raise RuntimeError("no database")

    async def chunks() -> AsyncIterator[bytes]:
        for number in range(3):
            yield str(number).encode()

    async def torn() -> AsyncIterator[bytes]:
        yield b"0"
        raise RuntimeError("torn")

    async def stream(request: Any) -> StreamingResponse:
        return StreamingResponse(torn() if "torn" in request.url.path else chunks())

    async def later(_: Any) -> PlainTextResponse:
        return PlainTextResponse("", background=BackgroundTask(log.append, "later"))

    async def cancelled(_: Any) -> PlainTextResponse:
        raise asyncio.CancelledError

    async def talk(websocket: Any) -> None:
        await websocket.accept(subprotocol="orders", headers=[(b"x-own", b"1")])
        try:
            log.append(await websocket.receive_text())
            log.append(await websocket.receive_text())
        except WebSocketDisconnect as gone:
            log.append(("gone", gone.code))
            return
        await websocket.close(code=4000, reason="enough")

    async def refuse(websocket: Any) -> None:
        await websocket.close(code=1008)

    return Starlette(
        routes=[
            Route("/status/{status}", plain, methods=["GET", "POST"]),
            Route("/fail", fail),
            *(Route(path, stream) for path in ("/stream", "/torn")),
            Route("/later", later),
            Route("/cancelled", cancelled),
            WebSocketRoute("/talk", talk),
            WebSocketRoute("/refuse", refuse),
            WebSocketRoute("/fail", crash),
        ]
    )


async def crash(_: Any) -> None:
    raise RuntimeError("no database")


CALLERS: dict[str, list[tuple[bytes, bytes]]] = {
    "ordinary": [],
    "malformed traceparent": [(b"traceparent", b"00-zz-1"), (b"tracestate", b"=,=")],
    "64 KB baggage": [(b"baggage", b"order_id=" + b"4" * 65_536)],
    "odd": [(b"\xff\xfe", b"\x00\xff"), (b"host", b"[::"), (b"baggage", b"\xff=;,"), (b"x-forwarded-for", b",,")],
}
GONE = {"type": "http.disconnect"}
BODY = {"type": "http.request", "body": b"model", "more_body": False}
TEXT = {"type": "websocket.receive", "text": "hello"}
CONNECT = {"type": "websocket.connect"}
LEFT = {"type": "websocket.disconnect", "code": 1006}

BEHAVIOURS: dict[str, tuple[str, str, list[dict[str, Any]]]] = {
    "success": ("http", "/status/200", [BODY]),
    "no content": ("http", "/status/204", [BODY]),
    "client error": ("http", "/status/422", [BODY]),
    "server error": ("http", "/status/503", [BODY]),
    "no route": ("http", "/nowhere", [BODY]),
    "exception": ("http", "/fail", [BODY]),
    "chunks": ("http", "/stream", [BODY]),
    "torn stream": ("http", "/torn", [BODY]),
    "disconnect before the body": ("http", "/status/200", [GONE]),
    "disconnect in a stream": ("http", "/stream", [GONE]),
    "background work": ("http", "/later", [BODY]),
    "cancelled": ("http", "/cancelled", [BODY]),
    "websocket closed by us": ("websocket", "/talk", [CONNECT, TEXT, TEXT]),
    "websocket left": ("websocket", "/talk", [CONNECT, TEXT, LEFT]),
    "websocket refused": ("websocket", "/refuse", [CONNECT]),
    "websocket crash": ("websocket", "/fail", [CONNECT]),
    "websocket without route": ("websocket", "/nowhere", [CONNECT]),
}


async def transcript(app: Any, log: Log, behaviour: str, caller: str) -> Log:
    """Return all that a server sees of *app*: what is sent, how it ends, and what was logged on the way."""
    kind, path, events = BEHAVIOURS[behaviour]
    coming = iter(events)

    async def receive() -> Any:
        event = next(coming, None)
        if event is None:
            await asyncio.Event().wait()
        return event

    async def send(event: Any) -> None:
        headers = [header for header in event.get("headers", ()) if header[0] not in OURS]
        log.append({**event, "headers": headers} if "headers" in event else dict(event))

    scope = {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "http" if kind == "http" else "ws",
        "query_string": b"",
        "client": ("127.0.0.1", 5),
        "server": ("127.0.0.1", 80),
        "headers": CALLERS[caller],
        "subprotocols": ["orders"],
        "extensions": {"websocket.http.response": {}},
    }
    try:
        log.append(await asyncio.wait_for(app(scope, receive, send), 20))
    except BaseException as error:
        log.append((type(error), str(error)))
    return log


@pytest.mark.anyio
@pytest.mark.usefixtures("broken_tracing")
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
async def test_a_server_sees_the_same_of_an_application_with_us_and_without(behaviour: str) -> None:
    for caller in CALLERS:
        bare, ours = Log(), Log()
        without = await transcript(application(bare), bare, behaviour, caller)
        wrapped = OrderMiddleware(application(ours), order_id=("path:status", "baggage"))
        assert await transcript(wrapped, ours, behaviour, caller) == without, caller


def seen_by_client(fetch: Fetch, url: str, **options: Any) -> Log:
    """Return all that an application sees of its request."""
    try:
        response = fetch("POST", url, content=b"model", headers={"x-own": "1"}, **options)
    except httpx.HTTPError as error:
        request = error.request
        return [type(error), str(error), request.method, str(request.url), list(request.headers.items())]
    return [
        response.status_code,
        response.content,
        [(key, value) for key, value in response.headers.items() if key != "date"],
        [earlier.status_code for earlier in response.history],
        type(response),
        response.is_closed,
        sorted(response.extensions),
        list(response.request.headers.items()),
        vars(response.request).get("_content"),
        dict(response.request.extensions),
    ]


async def answering(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    await receive()
    status = int(scope["path"].rsplit("/", 1)[1])
    headers = [(b"location", b"/200")] if status == 307 else []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if status == 204 else b"answer"})


async def torn(scope: Any, receive: Any, send: Any) -> None:
    """Read the request, so that the connection is closed and not reset, and promise more than is sent."""
    if scope["type"] == "http":
        await receive()
    await broken(scope, receive, send)


@pytest.fixture(scope="module")
def closed() -> str:
    return "http://127.0.0.1:1/"


@sync_and_async
@pytest.mark.usefixtures("broken_tracing")
@pytest.mark.parametrize("path", ["/200", "/204", "/307", "/404", "/503", "broken", "refused", "unsupported"])
def test_an_application_sees_the_same_of_its_requests_with_us_and_without(
    fetch: Fetch, path: str, closed: str, serve: Callable[[Any], str]
) -> None:
    elsewhere = {"refused": closed, "unsupported": "ftp://127.0.0.1/"}
    url = elsewhere.get(path) or (serve(torn) if path == "broken" else serve(answering) + path)
    without = seen_by_client(fetch, url, follow=True)
    instrumentation.instrument()
    with bound(Order("4" * 65_536)):
        with_us = seen_by_client(fetch, url, follow=True)
    instrumentation.uninstrument()
    assert with_us == without
