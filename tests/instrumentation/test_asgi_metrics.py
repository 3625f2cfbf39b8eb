"""What the ASGI middleware counts: behind a real server, and by hand where a server cannot be made to do it."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute

from otel_orders.errors import ConfigurationError
from otel_orders.instrumentation.asgi import OrderMiddleware
from otel_orders.instrumentation.audience import by_client, by_header, by_host, by_path
from otel_orders.instrumentation.http_metrics import (
    SERVER_LABELS,
    Durations,
    client_durations,
    collectors,
    server_durations,
)
from tests.instrumentation.http_counts import Counts

if TYPE_CHECKING:
    from collections.abc import Iterator

Serve = Callable[[Any], str]
PLAIN = {"tracing": False, "metrics": False, "logs": False}


@pytest.fixture(autouse=True)
def counts() -> Iterator[Counts]:
    server_durations.cache_clear()
    yield Counts(server_durations, SERVER_LABELS)
    server_durations.cache_clear()


def get(url: str, method: str = "GET", **headers: str) -> int:
    with httpx.Client(trust_env=False) as client:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return client.request(method, url, headers=sent).status_code


async def fine(_: Any) -> PlainTextResponse:
    return PlainTextResponse("fine")


async def busy(_: Any) -> PlainTextResponse:
    return PlainTextResponse("", status_code=503)


async def broken(_: Any) -> PlainTextResponse:
    raise RuntimeError("no database")


def scope(**fields: Any) -> dict[str, Any]:
    return {"type": "http", "method": "GET", "path": "/", "client": ("127.0.0.1", 5), "headers": [], **fields}


async def call(app: Any, on: dict[str, Any], *events: dict[str, Any]) -> list[dict[str, Any]]:
    """Call *app* as a server would that has received *events*, and return what it sent."""
    received, sent = iter(events), list[dict[str, Any]]()

    async def receive() -> dict[str, Any]:
        return next(received)

    async def send(event: dict[str, Any]) -> None:
        sent.append(event)

    await app(on, receive, send)
    return sent


@pytest.mark.parametrize(
    ("method", "path", "labels"),
    [
        ("GET", "/orders/4711", ("GET", "/orders/{order_id}", "200", "", "internal")),
        ("GET", "/api/orders/4711", ("GET", "/api/orders/{order_id}", "200", "", "internal")),
        ("GET", "/busy", ("GET", "/busy", "503", "503", "internal")),
        ("GET", "/broken", ("GET", "/broken", "500", "500", "internal")),
        ("GET", "/nowhere/4711", ("GET", "", "404", "", "internal")),
        ("BREW", "/nowhere", ("_OTHER", "", "404", "", "internal")),
    ],
)
def test_a_request_is_counted_by_route_answer_and_audience(
    serve: Serve, counts: Counts, method: str, path: str, labels: tuple[str, ...]
) -> None:
    routes = [
        Route("/orders/{order_id}", fine),
        Route("/busy", busy),
        Route("/broken", broken),
        Mount("/api", routes=[Route("/orders/{order_id}", fine)]),
    ]
    assert get(serve(OrderMiddleware(Starlette(routes=routes))) + path, method) == int(labels[2])
    assert counts.wait_for(1) == {labels: 1}


def test_a_route_of_fastapi_is_its_template_below_a_router_too(serve: Serve, counts: Counts) -> None:
    app = FastAPI(telemetry=PLAIN)  # type: ignore[arg-type]
    router = APIRouter(prefix="/api")
    router.add_api_route("/orders/{order_id}", lambda order_id: order_id)
    app.include_router(router)
    app.add_middleware(OrderMiddleware)
    assert get(f"{serve(app)}/api/orders/7") == 200
    assert [labels[1] for labels in counts.wait_for(1)] == ["/api/orders/{order_id}"]


def test_raw_paths_never_become_series(serve: Serve, counts: Counts) -> None:
    url = serve(OrderMiddleware(Starlette(routes=[Route("/orders/{order_id}", fine)])))
    with httpx.Client(trust_env=False) as client:
        for number in range(20):
            client.get(f"{url}/orders/{number}")
            client.get(f"{url}/{number}.php")
    found = counts.wait_for(40)
    assert sorted((labels[1], count) for labels, count in found.items()) == [("", 20), ("/orders/{order_id}", 20)]


def test_the_number_of_series_is_bounded() -> None:
    durations = Durations("bounded", "Of a test.", ("a", "b"))
    for number in range(3000):
        durations.observe(0.1, (str(number), "x"))
    counted = Counts(lambda: durations, ("a", "b")).all
    assert len(counted) == 1001
    assert counted["other", "other"] == 2000
    assert len(durations._children) == 1001


@pytest.mark.parametrize(
    ("client", "audience"), [("10.0.0.9", "internal"), ("203.0.113.9", "external"), ("10.0.0.9, 8.8.8.8", "external")]
)
def test_the_audience_is_told_by_the_address_that_a_proxy_reports(
    serve: Serve, counts: Counts, client: str, audience: str
) -> None:
    get(serve(OrderMiddleware(Starlette(routes=[Route("/", fine)]))), x_forwarded_for=client)
    assert [labels[-1] for labels in counts.wait_for(1)] == [audience]


@pytest.mark.parametrize(
    ("audience", "fields", "expected"),
    [
        (by_client, {}, "internal"),
        (by_client, {"client": ("203.0.113.9", 1)}, "external"),
        (by_path("/b2b/", "/public/"), {"path": "/b2b/orders"}, "external"),
        (by_path("/b2b"), {"path": "/b2b"}, "external"),
        (by_path("/b2b"), {"path": "/b2b-internal"}, "internal"),
        (by_path("/"), {"path": "/anything"}, "external"),
        (by_path("/b2b/"), {"path": "/b2borders"}, "internal"),
        (by_path("/b2b/"), {}, "internal"),
        (by_host("api.shop.example"), {"headers": [(b"host", b"API.shop.example:8443")]}, "external"),
        (by_host("api.shop.example"), {"headers": [(b"host", b"api.shop.example.")]}, "external"),
        (by_host(".shop.example"), {"headers": [(b"host", b"api.shop.example")]}, "external"),
        (by_host(".shop.example"), {"headers": [(b"host", b"eshop.example")]}, "internal"),
        (by_host("API.shop.example."), {"headers": [(b"host", b"api.shop.example")]}, "external"),
        (by_host(".bücher.example"), {"headers": [(b"host", b"api.xn--bcher-kva.example")]}, "external"),
        (by_host("api.shop.example"), {"headers": [(b"host", b"mes:80")]}, "internal"),
        (by_host("api.shop.example"), {"headers": [(b"host", b"[::1")]}, "internal"),
        (by_host("api.shop.example"), {}, "internal"),
        (by_header("X-From-Edge", "1"), {"headers": [(b"x-from-edge", b"1")]}, "external"),
        (by_header("X-From-Edge", "1"), {"headers": [(b"x-from-edge", b"0")]}, "internal"),
        (by_header("X-From-Edge", "1"), {}, "internal"),
    ],
)
def test_the_audience_is_told_by_address_path_host_or_header(
    audience: Callable[[Any], str], fields: dict[str, Any], expected: str
) -> None:
    assert audience(scope(**fields)) == expected


def test_a_path_that_could_match_nothing_is_a_mistake() -> None:
    with pytest.raises(ConfigurationError, match=r"'orders'.*expected paths that start with a slash"):
        by_path("/b2b", "orders")


def test_a_host_name_with_a_port_could_match_nothing_either() -> None:
    with pytest.raises(ConfigurationError, match=r"by_host: 'shop.example:443' is no host"):
        by_host("shop.example:443")


def test_a_caller_that_leaves_in_the_middle_of_a_stream_cancelled_its_request(serve: Serve, counts: Counts) -> None:
    async def endless() -> Any:
        while True:
            yield b"more"
            await asyncio.sleep(0.01)

    async def stream(_: Any) -> StreamingResponse:
        return StreamingResponse(endless())

    url = serve(OrderMiddleware(Starlette(routes=[Route("/feed", stream)])))
    with httpx.Client(trust_env=False) as client, client.stream("GET", f"{url}/feed") as response:
        body = response.iter_raw()  # closed when nobody holds it, and the response with it
        next(body)
        assert counts.all == {}
    assert counts.wait_for(1) == {("GET", "/feed", "200", "cancelled", "internal"): 1}


def test_a_caller_that_leaves_before_the_answer_cancelled_its_request(serve: Serve, counts: Counts) -> None:
    async def patient(on: Any, receive: Any, _send: Any) -> None:
        while on["type"] == "http" and (await receive())["type"] != "http.disconnect":
            pass

    url = urlsplit(serve(OrderMiddleware(patient)))
    with socket.create_connection((url.hostname, url.port), timeout=20) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: shop\r\n\r\n")
    assert counts.wait_for(1) == {("GET", "", "", "cancelled", "internal"): 1}


@pytest.mark.anyio
async def test_a_request_that_the_server_cancels_is_counted_as_cancelled(counts: Counts) -> None:
    async def app(*_: Any) -> None:
        await asyncio.Event().wait()

    request = asyncio.create_task(call(OrderMiddleware(app), scope()))
    await asyncio.sleep(0)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert counts.all == {("GET", "", "", "cancelled", "internal"): 1}


@pytest.mark.anyio
async def test_a_server_that_refuses_to_send_means_that_the_caller_has_left(counts: Counts) -> None:
    async def send(event: Any) -> None:
        if event["type"] == "http.response.body":
            raise OSError("gone")

    async def receive() -> Any:
        return {"type": "http.request"}

    with pytest.raises(OSError, match="gone"):
        await OrderMiddleware(PlainTextResponse("x"))(scope(), receive, send)
    assert counts.all == {("GET", "", "200", "cancelled", "internal"): 1}


def test_a_stream_is_counted_with_its_last_chunk_and_takes_as_long(serve: Serve, counts: Counts) -> None:
    last = threading.Event()

    def chunks() -> Iterator[bytes]:
        yield b"first"
        last.wait(20)
        yield b"last"

    async def stream(_: Any) -> StreamingResponse:
        return StreamingResponse(chunks())

    url = serve(OrderMiddleware(Starlette(routes=[Route("/", stream)])))
    with httpx.Client(trust_env=False) as client, client.stream("GET", url) as response:
        began = time.perf_counter()
        body = response.iter_raw()
        assert next(body) == b"first"
        assert counts.all == {}
        seen = time.perf_counter() - began
        last.set()
        assert list(body) == [b"last"]
    counts.wait_for(1)
    assert sum(counts.seconds.values()) >= seen


async def talk(websocket: Any) -> None:
    await websocket.accept()
    await websocket.receive_text()
    await websocket.close()


async def refuse(websocket: Any) -> None:
    await websocket.close()


async def crash(_: Any) -> None:
    raise RuntimeError("no database")


@pytest.mark.parametrize(
    ("endpoint", "status", "error"), [(talk, "101", ""), (refuse, "403", ""), (crash, "500", "RuntimeError")]
)
@pytest.mark.anyio
async def test_a_websocket_is_counted_once_when_it_is_answered(
    counts: Counts, endpoint: Any, status: str, error: str
) -> None:
    app = OrderMiddleware(Starlette(routes=[WebSocketRoute("/ws", endpoint)]))
    events = {"type": "websocket.connect"}, {"type": "websocket.receive", "text": "bye"}
    session = call(app, scope(type="websocket", path="/ws"), *events)
    if error:
        with pytest.raises(RuntimeError):
            await session
    else:
        await session
    assert counts.all == {("GET", "/ws", status, error, "internal"): 1}


@pytest.mark.anyio
async def test_a_caller_that_leaves_before_its_websocket_is_accepted_cancelled_its_request(counts: Counts) -> None:
    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        while (await receive())["type"] != "websocket.disconnect":
            pass

    await call(
        OrderMiddleware(app), scope(type="websocket"), {"type": "websocket.connect"}, {"type": "websocket.disconnect"}
    )
    assert counts.all == {("GET", "", "", "cancelled", "internal"): 1}


@pytest.mark.anyio
async def test_a_long_websocket_session_is_no_long_request(counts: Counts) -> None:
    counted: list[int] = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        counted.append(sum(counts.all.values()))
        await send({"type": "websocket.close"})

    await call(OrderMiddleware(app), scope(type="websocket"))
    assert counted == [1]
    assert sum(counts.all.values()) == 1


def test_both_histograms_are_there_to_be_registered() -> None:
    assert [metric.name for collector in collectors() for metric in collector.collect()] == [
        "http_server_request_duration_seconds",
        "http_client_request_duration_seconds",
    ]
    assert collectors() == (server_durations().histogram, client_durations().histogram)
