"""Websockets over real connections: uvicorn on one side, the websockets client on the other."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocketDisconnect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from otel_orders.context import Order, current_order
from otel_orders.instrumentation.asgi import OrderMiddleware
from otel_orders.instrumentation.http_metrics import SERVER_LABELS, server_durations
from tests.instrumentation.http_counts import Counts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.websockets import WebSocket

    from tests.instrumentation.conftest import Spans

Serve = Callable[[Any], str]

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CALLER = {"traceparent": PARENT, "baggage": "order_id=4711,partner_id=acme"}
WAIT = 20


def seen() -> list[Any]:
    order = current_order()
    return [order and order.order_id, f"{trace.get_current_span().get_span_context().span_id:016x}"]


async def echo(websocket: WebSocket) -> None:
    """Answer each message with what a handler sees; leave with `bye`."""
    await websocket.accept()
    while (text := await websocket.receive_text()) != "bye":
        await websocket.send_json([text, *seen()])
    await websocket.close(4000, "enough")


async def refuse(websocket: WebSocket) -> None:
    await websocket.close()


async def refuse_with_an_answer(websocket: WebSocket) -> None:
    await websocket.send_denial_response(PlainTextResponse("who are you?", status_code=401))


async def crash(websocket: WebSocket) -> None:
    await websocket.accept()
    raise RuntimeError("no database")


async def crash_before(_: WebSocket) -> None:
    raise RuntimeError("no database")


async def patient(websocket: WebSocket) -> None:
    """Stay until the caller leaves."""
    await websocket.accept()
    try:
        await websocket.receive_text()
    except WebSocketDisconnect as left:
        websocket.app.state.left = left.code


ROUTES = [
    WebSocketRoute("/echo/{order_id}", echo),
    Mount("/api", routes=[WebSocketRoute("/echo/{order_id}", echo)]),
    *(WebSocketRoute(f"/{one.__name__}", one) for one in (refuse, refuse_with_an_answer, crash, crash_before, patient)),
]


@pytest.fixture(autouse=True)
def counts() -> Iterator[Counts]:
    server_durations.cache_clear()
    yield Counts(server_durations, SERVER_LABELS)
    server_durations.cache_clear()


@pytest.fixture
def app() -> Starlette:
    return Starlette(routes=ROUTES)


def dialled(url: str, **headers: str) -> ClientConnection:
    return connect(url.replace("http", "ws", 1), additional_headers=headers, proxy=None, close_timeout=WAIT)


def test_a_session_is_one_span_from_its_handshake_to_its_close(
    serve: Serve, spans: Spans, counts: Counts, app: Starlette
) -> None:
    url = serve(OrderMiddleware(app, order_id=("path:order_id", "baggage")))
    with dialled(f"{url}/echo/4711", **CALLER) as websocket:
        for number in range(3):
            websocket.send(str(number))
            told = str(websocket.recv(WAIT))
            assert told.startswith(f'["{number}","4711"')
        assert counts.wait_for(1) == {("GET", "/echo/{order_id}", "101", "", "internal"): 1}
        assert spans.finished == []
        websocket.send("bye")
        with pytest.raises(ConnectionClosed) as closed:
            websocket.recv(WAIT)
    assert (closed.value.rcvd and closed.value.rcvd.code) == 4000
    span = spans.one("GET")
    assert (span.name, span.kind) == ("GET /echo/{order_id}", SpanKind.SERVER)
    assert (span.attributes or {}).items() >= {
        **Order("4711", "acme").attributes,
        "http.response.status_code": 101,
        "url.scheme": "ws",
    }.items()
    assert (span.parent and f"{span.parent.span_id:016x}") == PARENT[36:52]
    assert f"{span.context.span_id:016x}" in told
    assert span.status.status_code is StatusCode.UNSET
    assert sum(counts.all.values()) == 1


@pytest.mark.parametrize("below", ["", "/api"])
def test_the_order_comes_from_the_path_and_the_route_is_whole(
    serve: Serve, spans: Spans, counts: Counts, app: Starlette, below: str
) -> None:
    url = serve(OrderMiddleware(app, order_id="path:order_id"))
    with dialled(f"{url}{below}/echo/P-1") as websocket:
        websocket.send("who")
        assert '"P-1"' in str(websocket.recv(WAIT))
        websocket.send("bye")
    assert [labels[1] for labels in counts.wait_for(1)] == [f"{below}/echo/{{order_id}}"]
    assert (spans.one("GET").attributes or {})["order_id"] == "P-1"


def test_who_is_not_trusted_is_only_linked(serve: Serve, spans: Spans, counts: Counts, app: Starlette) -> None:
    url = serve(OrderMiddleware(app, order_id=("path:order_id", "baggage")))
    with dialled(f"{url}/echo/P-1", **CALLER, **{"x-forwarded-for": "203.0.113.9"}) as websocket:
        websocket.send("who")
        assert '["who",null' in str(websocket.recv(WAIT))
        websocket.send("bye")
    assert [labels[-1] for labels in counts.wait_for(1)] == ["external"]
    span = spans.one("GET")
    assert span.parent is None
    assert [f"{link.context.trace_id:032x}" for link in span.links] == [PARENT[3:35]]


@pytest.mark.parametrize(
    ("path", "answer", "counted", "error"),
    [
        ("refuse", 403, "403", ""),
        ("refuse_with_an_answer", 401, "401", ""),
        ("nowhere", 403, "403", ""),
        ("crash_before", 500, "500", "RuntimeError"),
    ],
)
def test_a_session_that_never_begins_is_a_request_that_was_answered(  # noqa: PLR0917 - fixtures
    serve: Serve, spans: Spans, counts: Counts, app: Starlette, path: str, answer: int, counted: str, error: str
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        dialled(f"{serve(OrderMiddleware(app))}/{path}")
    assert refused.value.response.status_code == answer
    route = "" if path == "nowhere" else f"/{path}"
    assert counts.wait_for(1) == {("GET", route, counted, error, "internal"): 1}
    span = spans.one("GET")
    assert (span.attributes or {})["http.response.status_code"] == answer
    assert span.status.is_ok is not bool(error)
    assert (span.attributes or {}).get("error.type", "") == error


def test_a_crash_in_the_session_is_on_its_span_and_not_in_the_count(
    serve: Serve, spans: Spans, counts: Counts, app: Starlette
) -> None:
    with dialled(f"{serve(OrderMiddleware(app))}/crash") as websocket, pytest.raises(ConnectionClosed):
        websocket.recv(WAIT)
    span = spans.one("GET")
    assert [event.name for event in span.events] == ["exception"]
    attributes = span.attributes or {}
    assert (attributes["error.type"], attributes["http.response.status_code"]) == ("RuntimeError", 101)
    assert counts.all == {("GET", "/crash", "101", "", "internal"): 1}


@pytest.mark.parametrize("politely", [True, False])
def test_a_caller_that_leaves_ends_the_session_and_fails_nothing(
    serve: Serve, spans: Spans, counts: Counts, app: Starlette, politely: bool
) -> None:
    with dialled(f"{serve(OrderMiddleware(app))}/patient") as websocket:
        counts.wait_for(1)
        assert spans.finished == []
        if politely:
            websocket.close()
        else:
            websocket.socket.shutdown(socket.SHUT_RDWR)  # as when a machine is switched off
        span = spans.one("GET")
    assert (app.state.left == 1000) is politely
    assert span.status.status_code is StatusCode.UNSET
    assert counts.all == {("GET", "/patient", "101", "", "internal"): 1}


def test_sessions_at_the_same_time_keep_their_orders_apart(serve: Serve, spans: Spans, app: Starlette) -> None:
    url = serve(OrderMiddleware(app, order_id="path:order_id"))
    together = threading.Barrier(8)
    told: dict[str, str] = {}

    def talk(order_id: str) -> None:
        with dialled(f"{url}/echo/{order_id}") as websocket:
            together.wait(WAIT)
            for _ in range(5):
                websocket.send("who")
                told[order_id] = str(websocket.recv(WAIT))
            websocket.send("bye")

    threads = [threading.Thread(target=talk, args=(f"P-{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert len({text for order_id, text in told.items() if f'"{order_id}"' in text}) == 8
    assert {(span.attributes or {})["order_id"] for span in spans.of("GET", 8)} == told.keys()


def test_a_session_is_one_connection_and_requests_go_on_beside_it(serve: Serve, spans: Spans, app: Starlette) -> None:
    async def plain(_: Any) -> PlainTextResponse:
        return PlainTextResponse(str(current_order()))

    app.router.routes.append(Route("/plain", plain))
    url = serve(OrderMiddleware(app, order_id="path:order_id"))
    with dialled(f"{url}/echo/4711") as websocket, httpx.Client(trust_env=False) as client:
        assert client.get(f"{url}/plain").text == "None"
        assert [span.name for span in spans.of("GET", 1)] == ["GET /plain"]
        websocket.send("bye")
    assert len(spans.of("GET", 2)) == 2
