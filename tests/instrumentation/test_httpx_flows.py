"""httpx as applications use it: challenges, cookies, uploads, timeouts, hooks, pools, HTTP/2, own transports."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import h2.config
import h2.connection
import h2.events
import httpx
import pytest
from opentelemetry.sdk.trace import SpanProcessor
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from otel_orders.context import Order, bound
from otel_orders.instrumentation import httpx as instrumentation
from otel_orders.instrumentation.http_metrics import CLIENT_LABELS, client_durations
from otel_orders.instrumentation.spans import end_dropped
from tests.instrumentation.http_counts import Counts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from opentelemetry.sdk.trace import ReadableSpan
    from starlette.requests import Request

    from tests.instrumentation.conftest import Spans

ORDER = Order("4711", "acme")

USER, PASSWORD, REALM, NONCE = "shop", "secret", "mes", "0a0b"


async def guarded_by_digest(request: Request) -> Response:
    """Ask for digest authentication (RFC 7616), and check it."""
    given = request.headers.get("authorization", "")
    ha1, ha2 = (
        hashlib.md5(text.encode()).hexdigest()  # noqa: S324 - the protocol's
        for text in (f"{USER}:{REALM}:{PASSWORD}", f"GET:{request.url.path}")
    )
    expected = hashlib.md5(f"{ha1}:{NONCE}:{ha2}".encode()).hexdigest()  # noqa: S324
    if f'response="{expected}"' in given:
        return PlainTextResponse("welcome")
    challenge = f'Digest realm="{REALM}", nonce="{NONCE}"'
    return PlainTextResponse("who?", status_code=401, headers={"www-authenticate": challenge})


async def token(_: Request) -> Response:
    return JSONResponse({"token": "t"})


async def guarded_by_token(request: Request) -> Response:
    return PlainTextResponse("", status_code=200 if request.headers.get("authorization") == "Bearer t" else 401)


async def set_cookie(_: Request) -> Response:
    answer = RedirectResponse("/cookies")
    answer.set_cookie("session", "7")
    return answer


async def echo(request: Request) -> Response:
    told = {"headers": dict(request.headers), "cookies": request.cookies, "length": len(await request.body())}
    return JSONResponse(told)


async def stalling(_: Request) -> Response:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"some"
        await asyncio.Event().wait()

    return StreamingResponse(chunks())


async def silent(request: Request) -> Response:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    return Response()


ROUTES = [
    Route("/digest", guarded_by_digest),
    Route("/token", token, methods=["POST"]),
    Route("/with-token", guarded_by_token),
    Route("/set-cookie", set_cookie),
    Route("/cookies", echo),
    Route("/echo", echo, methods=["GET", "POST"]),
    Route("/stalling", stalling),
    Route("/silent", silent),
]


@pytest.fixture
def url(serve: Callable[[Any], str]) -> str:
    return serve(Starlette(routes=ROUTES))


@pytest.fixture
def counts() -> Iterator[Counts]:
    client_durations.cache_clear()
    yield Counts(client_durations, CLIENT_LABELS)
    client_durations.cache_clear()


@pytest.fixture(autouse=True)
def _instrumented() -> Iterator[None]:
    instrumentation.instrument()
    yield
    instrumentation.uninstrument()


Use = Callable[[httpx.AsyncClient], Any]


def both(run: Callable[[Any], Any]) -> None:
    """Have a synchronous client do what *run* tells, and then an asynchronous one."""
    with httpx.Client(trust_env=False) as client:
        run(client)

    async def asynchronously() -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            await run(client)

    asyncio.run(asynchronously())


def seen(spans: Spans) -> list[tuple[str, Any, Any]]:
    """Return path, status and resend count of each span, by their end."""
    return [
        (
            str((span.attributes or {})["url.full"]).rpartition("/")[2],
            (span.attributes or {}).get("http.response.status_code"),
            (span.attributes or {}).get("http.request.resend_count"),
        )
        for span in spans.finished
    ]


def test_a_challenge_is_answered_by_sending_again(url: str, spans: Spans) -> None:
    both(lambda client: client.get(f"{url}/digest", auth=httpx.DigestAuth(USER, PASSWORD)))
    assert seen(spans) == [("digest", 401, None), ("digest", 200, 1)] * 2


class TokenAuth(httpx.Auth):
    requires_response_body = True

    def __init__(self, url: str, known: str) -> None:
        self._url = url
        self._known = known

    def auth_flow(self, request: httpx.Request) -> Any:
        if not self._known:
            self._known = (yield httpx.Request("POST", self._url)).json()["token"]
        request.headers["authorization"] = f"Bearer {self._known}"
        if (yield request).status_code == 401:
            request.headers["authorization"] = f"Bearer {(yield httpx.Request('POST', self._url)).json()['token']}"
            yield request


def test_a_token_that_is_asked_for_in_between_is_another_request(url: str, spans: Spans) -> None:
    both(lambda client: client.get(f"{url}/with-token", auth=TokenAuth(f"{url}/token", "")))
    assert seen(spans) == [("token", 200, None), ("with-token", 200, None)] * 2


def test_an_expired_token_is_renewed_and_the_request_sent_again(url: str, spans: Spans) -> None:
    both(lambda client: client.get(f"{url}/with-token", auth=TokenAuth(f"{url}/token", "expired")))
    assert seen(spans) == [("with-token", 401, None), ("token", 200, None), ("with-token", 200, 1)] * 2


def test_cookies_of_a_redirect_are_kept_and_sent(url: str, spans: Spans) -> None:
    with httpx.Client(trust_env=False, follow_redirects=True) as client:
        assert client.get(f"{url}/set-cookie").json()["cookies"] == {"session": "7"}
        assert dict(client.cookies) == {"session": "7"}
    assert seen(spans) == [("set-cookie", 307, None), ("cookies", 200, 1)]


def test_an_upload_that_streams_arrives_whole_and_inside_the_order(url: str, spans: Spans) -> None:
    with bound(ORDER), httpx.Client(trust_env=False) as client:
        told = client.post(f"{url}/echo", content=(b"x" * 1000 for _ in range(50))).json()

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield b"x" * 1000

    async def asynchronously() -> Any:
        async with httpx.AsyncClient(trust_env=False) as client:
            return (await client.post(f"{url}/echo", content=parts())).json()

    with bound(ORDER):
        told_async = asyncio.run(asynchronously())
    for one in (told, told_async):
        assert one["length"] == 50_000
        assert one["headers"]["baggage"] == "order_id=4711,partner_id=acme"
    assert len(spans.finished) == 2


@pytest.mark.parametrize(("path", "status"), [("silent", ""), ("stalling", "200")])
def test_a_timeout_is_the_error_of_the_request(url: str, spans: Spans, counts: Counts, path: str, status: str) -> None:
    def failing(client: httpx.Client) -> None:
        with pytest.raises(httpx.ReadTimeout):
            client.get(f"{url}/{path}", timeout=0.1)

    async def failing_async() -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.get(f"{url}/{path}", timeout=0.1)

    with httpx.Client(trust_env=False) as client:
        failing(client)
    asyncio.run(failing_async())
    assert [(span.attributes or {})["error.type"] for span in spans.finished] == ["ReadTimeout"] * 2
    assert {labels[3:]: count for labels, count in counts.all.items()} == {(status, "ReadTimeout"): 2}


def test_a_pool_without_a_free_connection_is_the_error_of_who_waited(url: str, spans: Spans) -> None:
    limits = httpx.Limits(max_connections=1)
    with (
        httpx.Client(trust_env=False, limits=limits, timeout=httpx.Timeout(5, pool=0.05)) as client,
        client.stream("GET", f"{url}/stalling") as held,
    ):
        assert held.status_code == 200
        with pytest.raises(httpx.PoolTimeout):
            client.get(f"{url}/echo")
        assert [(span.attributes or {})["error.type"] for span in spans.finished] == ["PoolTimeout"]
    assert len(spans.finished) == 2


def test_requests_of_one_connection_have_a_span_each_and_only_their_own_order(url: str, spans: Spans) -> None:
    with httpx.Client(trust_env=False) as client:
        for order_id in ("A-1", "A-2"):
            with bound(Order(order_id)):
                assert client.get(f"{url}/echo").json()["headers"]["baggage"] == f"order_id={order_id}"
        assert "baggage" not in client.get(f"{url}/echo").json()["headers"]
    assert [(span.attributes or {}).get("order_id") for span in spans.finished] == ["A-1", "A-2", None]


def test_hooks_see_the_applications_own_request_and_what_they_add_is_sent(url: str, spans: Spans) -> None:
    seen_by_hook: list[set[str]] = []

    def before(request: httpx.Request) -> None:
        seen_by_hook.append(set(request.headers))
        request.headers["x-own"] = "1"

    hooks = {"request": [before], "response": [lambda response: response.read()]}
    with httpx.Client(trust_env=False, event_hooks=hooks) as client:
        told = client.get(f"{url}/echo").json()["headers"]
    assert told["x-own"] == "1"
    assert "traceparent" in told
    assert "traceparent" not in seen_by_hook[0]
    assert len(spans.finished) == 1


def test_a_hook_that_fails_reaches_the_caller_and_the_span_ends(url: str, spans: Spans) -> None:
    def refuse(_: httpx.Response) -> None:
        raise ValueError("not this one")

    with httpx.Client(trust_env=False, event_hooks={"response": [refuse]}) as client, pytest.raises(ValueError):  # noqa: PT011
        client.get(f"{url}/echo")
    assert len(spans.finished) == 1


def test_a_response_that_nobody_closes_ends_its_span_as_of_when_nobody_held_it_any_more(
    url: str, spans: Spans, counts: Counts
) -> None:
    with httpx.Client(trust_env=False) as client:
        response = client.send(client.build_request("GET", f"{url}/stalling"), stream=True)
        assert spans.finished == []
        del response
        gc.collect()
        let_go_at = time.time_ns()
        client.get(f"{url}/echo")
    assert (spans.finished[0].end_time or 0) <= let_go_at
    assert {labels[3:]: count for labels, count in counts.all.items()} == {("200", ""): 2}


class Collecting(SpanProcessor):
    """As a span processor that holds its lock while the garbage collector runs."""

    locked = False
    entered_twice = False

    def on_end(self, span: ReadableSpan) -> None:
        if self.locked:  # which is a deadlock
            self.entered_twice = True
        elif span.name == "work":
            self.locked = True
            gc.collect()
            self.locked = False


def left_unread(url: str) -> None:
    with httpx.Client(trust_env=False) as client:
        response = client.send(client.build_request("GET", url), stream=True)
    response.extensions["cycle"] = response


def left_by_its_reader(url: str) -> None:
    def read() -> Iterator[bytes]:
        with httpx.Client(trust_env=False) as client, client.stream("GET", url) as response:
            assert cycle
            yield from response.iter_raw()

    cycle: list[Any] = []
    cycle.append(read())
    next(cycle[0])


def left_unread_in_a_loop(url: str) -> None:
    async def ask() -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            response = await client.send(client.build_request("GET", url), stream=True)
        response.extensions["cycle"] = response

    asyncio.run(ask())


@pytest.mark.filterwarnings("ignore:.*:ResourceWarning")
@pytest.mark.parametrize("leave", [left_unread, left_by_its_reader, left_unread_in_a_loop])
def test_the_garbage_collector_ends_no_span(
    url: str, spans: Spans, counts: Counts, leave: Callable[[str], None]
) -> None:
    collecting = Collecting()
    spans.provider.add_span_processor(collecting)
    gc.collect()
    gc.disable()
    leave(f"{url}/stalling")
    with spans.tracer.start_as_current_span("work"):
        pass
    gc.enable()
    assert not collecting.entered_twice
    end_dropped()
    assert len(spans.of("GET")) == 1
    assert {labels[3:]: count for labels, count in counts.all.items()} == {("200", ""): 1}


def test_what_is_still_unread_ends_when_the_instrumentation_does(url: str, spans: Spans, counts: Counts) -> None:
    with httpx.Client(trust_env=False) as client, client.stream("GET", f"{url}/stalling"):
        instrumentation.uninstrument()
        assert len(spans.of("GET")) == 1
    assert sum(counts.all.values()) == 1


UNREAD_AT_THE_END = """
import gc, os, sys, httpx
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from otel_orders.instrumentation import httpx as instrumentation

parent = os.getpid()
provider = TracerProvider()
written = ConsoleSpanExporter(formatter=lambda span: f"{span.name} {os.getpid() == parent}\\n")
provider.add_span_processor(SimpleSpanProcessor(written))
trace.set_tracer_provider(provider)
instrumentation.instrument()
client = httpx.Client(trust_env=False)
responses = [client.send(client.build_request("GET", sys.argv[1]), stream=True) for _ in range(2)]
del responses[0]
gc.collect()
if child := os.fork():
    os.waitpid(child, 0)
"""


def test_what_is_still_unread_at_the_end_of_the_program_ends_with_it_and_not_with_that_of_a_child(url: str) -> None:
    program = [sys.executable, "-c", UNREAD_AT_THE_END, f"{url}/stalling"]
    ran = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.stdout.splitlines(), ran.stderr) == (["GET True"] * 2, "")


class Retrying(httpx.BaseTransport):
    """A transport as applications write them: it sends through httpx's own."""

    def __init__(self) -> None:
        self._inner = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        for _ in range(2):
            self._inner.handle_request(request).close()
        return self._inner.handle_request(request)

    def close(self) -> None:
        self._inner.close()


def test_a_transport_around_httpxs_own_has_a_span_for_each_time_that_it_sends(url: str, spans: Spans) -> None:
    with httpx.Client(transport=Retrying()) as client:
        assert "traceparent" in client.get(f"{url}/echo").json()["headers"]
    assert seen(spans) == [("echo", 200, None), ("echo", 200, 1), ("echo", 200, 2)]


def test_a_mounted_transport_is_traced_too(url: str, spans: Spans) -> None:
    with httpx.Client(trust_env=False, mounts={"http://mes/": httpx.HTTPTransport(proxy=url)}) as client:
        assert client.get(f"{url}/echo").status_code == 200
        assert client.get("http://mes/echo").status_code == 404  # no proxy, but it was asked
    assert [(span.attributes or {})["server.address"] for span in spans.finished] == ["127.0.0.1", "mes"]


def test_what_sends_nothing_is_left_alone(spans: Spans) -> None:
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200)

    with bound(ORDER), httpx.Client(transport=httpx.MockTransport(answer)) as client:
        client.get("http://mes/")
    assert not {"traceparent", "baggage"} & set(requests[0].headers)
    assert spans.finished == []


def _answer_over_http2(listener: socket.socket) -> None:
    """Answer the requests of one connection with the headers of each (RFC 9113, with prior knowledge)."""
    connection, _ = listener.accept()
    protocol = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    protocol.initiate_connection()
    with connection:
        connection.sendall(protocol.data_to_send())
        while received := connection.recv(65_536):
            for event in protocol.receive_data(received):
                if isinstance(event, h2.events.RequestReceived):
                    body = json.dumps({name.decode(): value.decode() for name, value in event.headers or []}).encode()
                    protocol.send_headers(event.stream_id or 0, [(":status", "200")])
                    protocol.send_data(event.stream_id or 0, body, end_stream=True)
            connection.sendall(protocol.data_to_send())


def test_http2_carries_the_same_and_its_streams_have_a_span_each(spans: Spans) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_answer_over_http2, args=(listener,))
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        with bound(ORDER), httpx.Client(trust_env=False, http1=False, http2=True) as client:
            answers = [client.get(url) for _ in range(2)]
        thread.join(20)
    told = [answer.json() for answer in answers]
    assert [answer.http_version for answer in answers] == ["HTTP/2"] * 2
    assert [one["baggage"] for one in told] == ["order_id=4711,partner_id=acme"] * 2
    span_ids = [f"{span.context.span_id:016x}" for span in spans.of("GET")]
    assert [span_id in one["traceparent"] for span_id, one in zip(span_ids, told, strict=True)] == [True, True]
