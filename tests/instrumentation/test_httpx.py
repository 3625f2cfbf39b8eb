"""httpx, sync and async, against real servers: what hosts are told, and when the span ends."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import httpx
import pytest
from opentelemetry import baggage, trace
from opentelemetry.context import attach, detach
from opentelemetry.instrumentation.utils import suppress_http_instrumentation, suppress_instrumentation
from opentelemetry.trace import SpanKind, StatusCode

from otel_orders import names
from otel_orders.context import Order, bound
from otel_orders.instrumentation import httpx as instrumentation
from otel_orders.instrumentation.http_headers import is_internal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.instrumentation.conftest import Faults, Spans

ORDER = Order("4711", "acme")
ORIGINALS = (
    (httpx.HTTPTransport, "handle_request"),
    (httpx.AsyncHTTPTransport, "handle_async_request"),
)

Fetch = Callable[..., httpx.Response]


def fetch(method: str, url: str, *, proxy: str | None = None, follow: bool = False, **options: Any) -> httpx.Response:
    with httpx.Client(proxy=proxy, follow_redirects=follow, trust_env=False) as client:
        return client.request(method, url, **options)


def fetch_async(
    method: str, url: str, *, proxy: str | None = None, follow: bool = False, **options: Any
) -> httpx.Response:
    async def send() -> httpx.Response:
        async with httpx.AsyncClient(proxy=proxy, follow_redirects=follow, trust_env=False) as client:
            return await client.request(method, url, **options)

    return asyncio.run(send())


sync_and_async = pytest.mark.parametrize("fetch", [fetch, fetch_async])


async def echo(scope: Any, _receive: Any, send: Any) -> None:
    """Answer with the request's headers; ``?status=`` and ``?to=`` choose the status and a redirect's target."""
    if scope["type"] != "http":
        return
    query = {key: values[0] for key, values in parse_qs(scope["query_string"].decode()).items()}
    headers = [(b"location", query["to"].encode())] if "to" in query else []
    body = json.dumps({key.decode(): value.decode() for key, value in scope["headers"]}).encode()
    await send({"type": "http.response.start", "status": int(query.get("status", 200)), "headers": headers})
    await send({"type": "http.response.body", "body": body[:10], "more_body": True})
    await send({"type": "http.response.body", "body": body[10:]})


async def broken(scope: Any, _receive: Any, send: Any) -> None:
    """Promise more than is sent."""
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100")]})
    await send({"type": "http.response.body", "body": b"some", "more_body": True})
    raise ConnectionAbortedError


@pytest.fixture
def url(serve: Callable[[Any], str]) -> str:
    return serve(echo)


@pytest.fixture(autouse=True)
def _instrumented() -> Iterator[None]:
    instrumentation.instrument((".partner.example", "api.allowed.example"))
    yield
    instrumentation.uninstrument()


@sync_and_async
def test_a_request_is_a_client_span_by_the_http_conventions(url: str, spans: Spans, fetch: Fetch) -> None:
    with spans.tracer.start_as_current_span("handler") as handler, bound(ORDER):
        told = fetch("GET", f"{url}/orders/4711?token=secret").json()
        assert trace.get_current_span() is handler
    span = spans.one("GET")
    host, port = "127.0.0.1", int(url.rsplit(":", 1)[1])
    assert (span.name, span.kind) == ("GET", SpanKind.CLIENT)
    assert span.parent == handler.get_span_context()
    assert span.attributes == ORDER.attributes | {
        "http.request.method": "GET",
        "server.address": host,
        "server.port": port,
        "url.full": f"{url}/orders/4711?token=REDACTED",
        "http.response.status_code": 200,
    }
    assert span.status.status_code is StatusCode.UNSET
    assert told["traceparent"].startswith(f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-0")
    assert told["baggage"] == "order_id=4711,partner_id=acme"
    assert int(told[names.TRACE_STARTED_AT_HEADER]) == handler.start_time  # type: ignore[attr-defined]


@sync_and_async
@pytest.mark.parametrize(
    ("host", "internal"), [("partner.example", False), ("eu.partner.example", True), ("api.allowed.example", True)]
)
def test_an_external_host_is_told_the_trace_and_nothing_else(
    url: str, spans: Spans, fetch: Fetch, host: str, internal: bool
) -> None:
    token = attach(baggage.set_baggage("tenant", "7"))
    with bound(ORDER):
        told = fetch("GET", f"http://{host}/price", proxy=url).json()
    detach(token)
    assert told["host"] == host
    assert f"{spans.one('GET').context.span_id:016x}" in told["traceparent"]
    assert ("baggage" in told) is internal
    assert (names.TRACE_STARTED_AT_HEADER in told) is internal


@sync_and_async
def test_a_redirect_to_another_host_takes_no_baggage_along_and_has_its_own_span(
    url: str, spans: Spans, fetch: Fetch
) -> None:
    with bound(ORDER):
        told = fetch("GET", "http://inside/?status=307&to=http://outside.example/", proxy=url, follow=True).json()
    first, second = spans.of("GET")
    assert (first.attributes or {})["http.response.status_code"] == 307
    assert first.status.status_code is StatusCode.UNSET
    assert told["host"] == "outside.example"
    assert f"{second.context.span_id:016x}" in told["traceparent"]
    assert "baggage" not in told
    assert (second.attributes or {})["server.address"] == "outside.example"


@sync_and_async
@pytest.mark.usefixtures("spans")
def test_the_applications_own_headers_and_request_are_not_changed(url: str, fetch: Fetch) -> None:
    own = {"traceparent": "mine", "baggage": "a=1", "x-request-id": "7"}
    with bound(ORDER):
        response = fetch("GET", url, headers=own)
    told = response.json()
    assert {key: told[key] for key in own} == own
    assert "tracestate" not in told
    assert response.request.headers.items() >= own.items()
    assert names.TRACE_STARTED_AT_HEADER not in response.request.headers


@sync_and_async
def test_the_request_of_the_application_carries_nothing_of_ours_afterwards(
    url: str, spans: Spans, fetch: Fetch
) -> None:
    with bound(ORDER):
        response = fetch("POST", url, content=b"model", headers={"x-request-id": "7"})
    assert len(spans.of("POST")) == 1
    assert not {"traceparent", "baggage", names.TRACE_STARTED_AT_HEADER} & set(response.request.headers)
    assert response.request.content == b"model"
    assert response.json()["content-length"] == "5"


@sync_and_async
@pytest.mark.parametrize("status", [404, 503])
def test_a_status_of_failure_is_an_error(url: str, spans: Spans, fetch: Fetch, status: int) -> None:
    assert fetch("GET", f"{url}/?status={status}").status_code == status
    span = spans.one("GET")
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == str(status)


@sync_and_async
def test_a_failed_connection_is_an_error_and_reaches_the_caller_unchanged(spans: Spans, fetch: Fetch) -> None:
    with pytest.raises(httpx.UnsupportedProtocol):
        fetch("GET", "ftp://127.0.0.1/")
    with pytest.raises(httpx.ConnectError):
        fetch("GET", "http://127.0.0.1:1/")
    span = spans.of("GET")[-1]
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "ConnectError"


@sync_and_async
def test_an_error_in_the_middle_of_the_body_is_on_the_span(
    spans: Spans, fetch: Fetch, serve: Callable[[Any], str]
) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        fetch("GET", serve(broken))
    span = spans.one("GET")
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "RemoteProtocolError"


@pytest.mark.parametrize("read", [True, False])
def test_the_span_ends_with_the_body(url: str, spans: Spans, read: bool) -> None:
    with httpx.Client(trust_env=False) as client:
        with client.stream("GET", url) as response:
            assert isinstance(response.stream, httpx.SyncByteStream)
            assert spans.finished == []
            after_headers = time.time_ns()
            if read:
                assert b"".join(response.iter_bytes()).startswith(b"{")
                assert len(spans.finished) == 1
        assert (spans.one("GET").end_time or 0) >= after_headers
    assert spans.one("GET").status.status_code is StatusCode.UNSET


@pytest.mark.anyio
@pytest.mark.parametrize("read", [True, False])
async def test_the_span_ends_with_the_body_of_an_async_client_too(url: str, spans: Spans, read: bool) -> None:
    async with httpx.AsyncClient(trust_env=False) as client, client.stream("GET", url) as response:
        assert isinstance(response.stream, httpx.AsyncByteStream)
        assert spans.finished == []
        if read:
            assert b"".join([chunk async for chunk in response.aiter_bytes()]).startswith(b"{")
            assert len(spans.finished) == 1
    assert spans.one("GET").status.status_code is StatusCode.UNSET


@pytest.mark.anyio
async def test_a_cancelled_request_is_cancelled_and_says_so_on_its_span(
    spans: Spans, serve: Callable[[Any], str]
) -> None:
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def silent(scope: Any, receive: Any, _send: Any) -> None:
        if scope["type"] == "http":
            loop.call_soon_threadsafe(asked.set)
            while (await receive())["type"] != "http.disconnect":
                pass

    async with httpx.AsyncClient(trust_env=False) as client:
        request = asyncio.create_task(client.get(serve(silent)))
        await asyncio.wait_for(asked.wait(), 20)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
    assert (spans.one("GET").attributes or {})["error.type"] == "cancelled"


@sync_and_async
def test_a_method_that_nobody_knows_stays_out_of_the_spans_name(url: str, spans: Spans, fetch: Fetch) -> None:
    assert fetch("BREW", url).status_code == 200
    span = spans.one("HTTP")
    assert (span.attributes or {}).items() >= {
        "http.request.method": "_OTHER",
        "http.request.method_original": "BREW",
    }.items()


@pytest.mark.parametrize("suppressed", [suppress_instrumentation, suppress_http_instrumentation])
@sync_and_async
def test_suppressed_instrumentation_leaves_no_trace(url: str, spans: Spans, fetch: Fetch, suppressed: Any) -> None:
    with bound(ORDER), suppressed():
        told = fetch("GET", url).json()
    assert not {"traceparent", "baggage"} & set(told)
    assert spans.finished == []


@sync_and_async
@pytest.mark.usefixtures("spans")
def test_a_fault_of_ours_is_counted_and_the_request_is_sent_once(
    url: str, fetch: Fetch, monkeypatch: pytest.MonkeyPatch, faults: Faults
) -> None:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise OSError(name)

    monkeypatch.setattr("otel_orders.instrumentation.spans.tracer", Broken())
    response = fetch("POST", url, content=b"once")
    assert response.json()["content-length"] == "4"
    assert "traceparent" not in response.json()
    faults.expected = {"httpx"}


@sync_and_async
def test_a_propagator_that_fails_costs_the_trace_of_the_receiver_and_not_the_span(
    url: str, fetch: Fetch, spans: Spans, monkeypatch: pytest.MonkeyPatch, faults: Faults
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError

    monkeypatch.setattr("opentelemetry.propagate.get_global_textmap", fail)
    monkeypatch.setattr("opentelemetry.propagate.inject", fail)
    assert "traceparent" not in fetch("POST", url, content=b"once").json()
    assert (spans.one("POST").attributes or {})["http.response.status_code"] == 200
    faults.expected = {"httpx"}


def test_instrumenting_twice_is_harmless_and_uninstrumenting_restores_the_originals(url: str, spans: Spans) -> None:
    instrumentation.uninstrument()
    originals = [vars(owner)[name] for owner, name in ORIGINALS]
    instrumentation.instrument()
    instrumentation.instrument()
    fetch("GET", url)
    instrumentation.uninstrument()
    instrumentation.uninstrument()
    assert all(vars(owner)[name] is original for (owner, name), original in zip(ORIGINALS, originals, strict=True))
    assert len(spans.of("GET")) == 1


@pytest.mark.parametrize(
    ("host", "internal"),
    [
        ("127.0.0.1", True),
        ("10.1.2.3", True),
        ("::1", True),
        ("fd00::1", True),
        ("localhost", True),
        ("pricing", True),
        ("Pricing", True),
        ("price_list-2", True),
        ("Pricing.", False),
        ("pricing..", False),
        ("evil%2ecom", False),
        ("fe80::1", False),
        ("fe80::1%25eth0", False),
        ("ff02::1", False),
        ("abcd::1", False),
        ("fd00:ec2::254", False),
        ("fd20:ce::254", False),
        ("mes.shop.internal", True),
        ("MES.shop.INTERNAL.", True),
        ("crm.example", True),
        ("8.8.8.8", False),
        ("::ffff:8.8.8.8", False),
        ("::ffff:10.0.0.1", True),
        ("169.254.169.254", False),
        ("134744072", False),
        ("0x08080808", False),
        ("api.partner.com", False),
        ("shop.internal", False),
        ("evilshop.internal", False),
        ("sub.crm.example", False),
        ("", False),
    ],
)
def test_internal_hosts_are_private_addresses_single_labels_and_what_is_allowed(host: str, internal: bool) -> None:
    assert is_internal(host, (".shop.Internal", "crm.example")) is internal


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://api.example/a/b", "https://api.example/a/b"),
        ("https://user:password@api.example:8443/", "https://api.example:8443/"),
        ("http://h/?token=a%20b&x=&flag&y=1=2", "http://h/?token=REDACTED&x=REDACTED&REDACTED&y=REDACTED"),
        ("http://h/p?secret#fragment", "http://h/p?REDACTED"),
        ("http://[::1]:80/p?", "http://[::1]/p"),
    ],
)
def test_a_url_is_shown_without_credentials_and_values(url: str, shown: str) -> None:
    assert instrumentation.public_url(httpx.URL(url)) == shown
