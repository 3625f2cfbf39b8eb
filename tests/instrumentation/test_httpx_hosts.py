"""httpx: what is counted, who is told what, what is sent again, and who else is instrumented; against real servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest
from opentelemetry import baggage
from opentelemetry.context import attach, detach
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import TraceFlags

from otel_orders import names
from otel_orders.context import Order, bound
from otel_orders.errors import ConfigurationError
from otel_orders.instrumentation import httpx as instrumentation
from otel_orders.instrumentation.http_headers import NOTHING, Hosts, readers, told
from otel_orders.instrumentation.http_metrics import CLIENT_LABELS, client_durations
from otel_orders.privacy import pseudonym
from otel_orders.settings import read_http_settings
from tests.instrumentation.http_counts import Counts
from tests.instrumentation.test_httpx import Fetch, broken, echo, sync_and_async

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.instrumentation.conftest import Spans

ORDER = Order("4711", "acme")
KEY = "0123456789abcdef"
ENVIRONMENT = {
    "OTEL_ORDERS_INTERNAL_HOSTS": "mes.example",
    "OTEL_ORDERS_NO_TRACE_HOSTS": "bank.example,.bank.example,quiet",
    "OTEL_ORDERS_PSEUDONYM_HOSTS": ".partner.example",
    "OTEL_ORDERS_PSEUDONYM_KEY": KEY,
    "OTEL_PYTHON_HTTPX_EXCLUDED_URLS": "/health,/ready$",
}
PATCHED = (
    (httpx.Client, "send"),
    (httpx.AsyncClient, "send"),
    (httpx.HTTPTransport, "handle_request"),
    (httpx.AsyncHTTPTransport, "handle_async_request"),
)


@pytest.fixture
def url(serve: Callable[[Any], str]) -> str:
    return serve(echo)


@pytest.fixture
def counts() -> Iterator[Counts]:
    client_durations.cache_clear()
    yield Counts(client_durations, CLIENT_LABELS)
    client_durations.cache_clear()


@pytest.fixture(autouse=True)
def _instrumented() -> Iterator[None]:
    instrumentation.instrument(settings=read_http_settings(ENVIRONMENT))
    yield
    instrumentation.uninstrument()


@pytest.fixture
def official(spans: Spans) -> Iterator[HTTPXClientInstrumentor]:
    instrumentor = HTTPXClientInstrumentor()
    instrumentor.instrument(tracer_provider=spans.provider)
    yield instrumentor
    instrumentor.uninstrument()


@sync_and_async
@pytest.mark.parametrize(("status", "error"), [(200, ""), (404, "404"), (503, "503")])
@pytest.mark.usefixtures("spans")
def test_a_request_is_counted_by_host_and_answer(
    url: str, counts: Counts, fetch: Fetch, status: int, error: str
) -> None:
    fetch("GET", f"{url}/orders/4711?status={status}")
    assert counts.all == {("GET", "127.0.0.1", url.rsplit(":", 1)[1], str(status), error): 1}


@sync_and_async
@pytest.mark.usefixtures("spans")
def test_an_error_before_and_in_the_body_is_counted(counts: Counts, fetch: Fetch, serve: Callable[[Any], str]) -> None:
    with pytest.raises(httpx.ConnectError):
        fetch("GET", "http://127.0.0.1:1/")
    with pytest.raises(httpx.RemoteProtocolError):
        fetch("GET", serve(broken))
    assert sorted(labels[3:] for labels in counts.all) == [("", "ConnectError"), ("200", "RemoteProtocolError")]


@sync_and_async
@pytest.mark.parametrize(
    ("host", "traced", "order_id"),
    [
        ("mes.example", True, "4711"),
        ("pricing", True, "4711"),
        ("api.shop.example", True, None),
        ("eu.partner.example", True, pseudonym("4711", KEY.encode())),
        ("bank.example", False, None),
        ("eu.bank.example", False, None),
        ("quiet", False, None),
    ],
)
@pytest.mark.parametrize("both", [False, True])
def test_each_host_is_told_what_its_list_says(  # noqa: PLR0917 - fixtures
    url: str, spans: Spans, fetch: Fetch, host: str, traced: bool, order_id: str | None, both: bool, request: Any
) -> None:
    if both:
        request.getfixturevalue("official")
    token = attach(baggage.set_baggage("tenant", "7"))
    with bound(ORDER):
        told = fetch("GET", f"http://{host}/price", proxy=url).json()
    detach(token)
    carried = told.get("baggage", "")
    assert len(spans.of("GET")) == 1
    assert ("traceparent" in told) is traced
    assert (f"order_id={order_id}" in carried) is (order_id is not None)
    assert ("tenant" in carried) is (order_id == "4711")
    assert ("acme" in str(told)) is (order_id == "4711")


@pytest.mark.parametrize(
    ("listed", "url"),
    [
        ("bücher.example", "http://xn--bcher-kva.example/"),
        ("xn--bcher-kva.example", "http://BÜCHER.example./"),
        (".bücher.example", "http://api.bücher.example/"),
        (".XN--bcher-kva.example.", "http://api.bücher.example/"),
        ("bank.example.", "http://Bank.example/"),
        ("[0:0:0:0:0:0:0:1]", "http://[::1]/"),
    ],
)
def test_a_host_is_on_a_list_however_it_is_written(listed: str, url: str) -> None:
    (host,) = readers(httpx.URL(url), None)
    assert told(host, Hosts(untraced=(listed,))) == NOTHING
    assert told("other.example", Hosts(untraced=(listed,))) != NOTHING


@pytest.mark.parametrize("transport", [httpx.HTTPTransport, httpx.AsyncHTTPTransport])
def test_a_proxy_reads_what_is_not_encrypted(transport: Any) -> None:
    proxied = transport(proxy="http://user:secret@proxy.example:3128")
    assert readers(httpx.URL("http://mes/"), proxied) == ("mes", "proxy.example")
    assert readers(httpx.URL("https://mes/"), proxied) == ("mes",)
    assert readers(httpx.URL("http://mes/"), transport()) == ("mes",)


@sync_and_async
@pytest.mark.parametrize("path", ["/price", "/health"])
@pytest.mark.parametrize(
    ("about_the_proxy", "order_id"),
    [
        ({}, "4711"),
        ({"OTEL_ORDERS_PSEUDONYM_HOSTS": "127.0.0.1"}, pseudonym("4711", KEY.encode())),
        ({"OTEL_ORDERS_NO_TRACE_HOSTS": "127.0.0.1"}, None),
    ],
)
@pytest.mark.usefixtures("spans")
def test_a_request_through_a_proxy_tells_what_the_proxy_may_know(
    url: str, fetch: Fetch, path: str, about_the_proxy: dict[str, str], order_id: str | None
) -> None:
    instrumentation.instrument(settings=read_http_settings(ENVIRONMENT | about_the_proxy))
    with bound(ORDER):
        told = fetch("GET", f"http://mes.example{path}", proxy=url).json()
    assert (f"order_id={order_id}" in told.get("baggage", "")) is (order_id is not None)
    assert ("4711" in str(told)) is (order_id == "4711")


def test_a_mistake_in_a_list_of_the_code_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="internal_hosts: 'mes:80' is no host"):
        instrumentation.instrument(("mes:80",))


@sync_and_async
@pytest.mark.parametrize("path", ["/health", "/orders/7/ready"])
def test_an_excluded_url_has_no_span_and_still_carries_the_trace(
    url: str, spans: Spans, counts: Counts, fetch: Fetch, path: str
) -> None:
    with spans.tracer.start_as_current_span("handler") as handler, bound(ORDER):
        told = fetch("GET", url + path).json()
    assert spans.of("GET") == []
    assert f"{handler.get_span_context().span_id:016x}" in told["traceparent"]
    assert told["baggage"] == "order_id=4711,partner_id=acme"
    assert counts.all == {}


@sync_and_async
@pytest.mark.usefixtures("spans")
def test_baggage_that_no_server_would_take_is_left_out(url: str, fetch: Fetch) -> None:
    with bound(Order("4" * 65_536)):
        told = fetch("GET", url).json()
    assert "baggage" not in told
    assert "traceparent" in told


def resent(spans: Spans) -> list[Any]:
    return [(span.attributes or {}).get("http.request.resend_count") for span in spans.of("GET")]


@sync_and_async
def test_a_redirect_says_how_often_the_request_was_sent_before(url: str, spans: Spans, fetch: Fetch) -> None:
    fetch("GET", f"{url}/?status=307&to=/?status=307%26to=/", follow=True)
    fetch("GET", url)
    assert resent(spans) == [None, 1, 2, None]


@sync_and_async
def test_retries_of_the_application_are_counted_inside_one_request(url: str, spans: Spans, fetch: Fetch) -> None:
    with instrumentation.one_request():
        for status in (503, 503, 200):
            fetch("GET", f"{url}/?status={status}")
    fetch("GET", url)
    assert resent(spans) == [None, 1, 2, None]


@pytest.mark.parametrize("own", [False, True])
def test_a_retry_of_the_connection_is_seen_on_the_span(spans: Spans, own: bool) -> None:
    seen: list[str] = []
    extensions = {"trace": lambda name, _: seen.append(name)} if own else {}
    with httpx.Client(transport=httpx.HTTPTransport(retries=1)) as client, pytest.raises(httpx.ConnectError):
        client.get("http://127.0.0.1:1/", extensions=extensions)
    assert [event.name for event in spans.one("GET").events] == ["http.connection.retry", "exception"]
    assert ("connection.retry.started" in seen) is own


@pytest.mark.anyio
@pytest.mark.parametrize("own", [False, True])
async def test_a_retry_of_an_async_connection_is_seen_too(spans: Spans, own: bool) -> None:
    seen: list[str] = []

    async def trace(name: str, _: Any) -> None:
        seen.append(name)

    async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(retries=1)) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get("http://127.0.0.1:1/", extensions={"trace": trace} if own else {})
    assert [event.name for event in spans.one("GET").events] == ["http.connection.retry", "exception"]
    assert ("connection.retry.started" in seen) is own


@sync_and_async
@pytest.mark.parametrize("ours_first", [True, False])
def test_beside_the_official_instrumentor_there_is_one_span_and_it_has_the_order(  # noqa: PLR0917 - fixtures
    url: str, spans: Spans, counts: Counts, fetch: Fetch, ours_first: bool, request: Any
) -> None:
    if ours_first:
        request.getfixturevalue("official")
    else:
        instrumentation.uninstrument()
        request.getfixturevalue("official")
        instrumentation.instrument()
    with bound(ORDER):
        told = fetch("GET", url).json()
    span = spans.one("GET")
    assert (span.attributes or {}).items() >= ORDER.attributes.items()
    assert f"{span.context.span_id:016x}" in told["traceparent"]
    assert told["baggage"] == "order_id=4711,partner_id=acme"
    assert int(told[names.TRACE_STARTED_AT_HEADER])
    assert sum(counts.all.values()) == 1


@sync_and_async
@pytest.mark.parametrize(
    ("host", "told_trace", "told_baggage"),
    [("api.shop.example", True, False), ("bank.example", False, False), ("mes.example", True, True)],
)
def test_a_host_is_told_no_more_where_the_official_span_is_not_sampled(  # noqa: PLR0917 - fixtures
    url: str, monkeypatch: pytest.MonkeyPatch, fetch: Fetch, host: str, told_trace: bool, told_baggage: bool
) -> None:
    never = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    monkeypatch.setattr("otel_orders.instrumentation.spans.tracer", never.get_tracer("otel_orders"))
    theirs = HTTPXClientInstrumentor()
    theirs.instrument(tracer_provider=never)
    token = attach(baggage.set_baggage("tenant", "7"))
    with bound(ORDER):
        told = fetch("GET", f"http://{host}/price", proxy=url).json()
    detach(token)
    theirs.uninstrument()
    assert ("traceparent" in told, "tenant" in str(told)) == (told_trace, told_baggage)
    assert int(told.get("traceparent", "0")[-1], 16) & TraceFlags.SAMPLED == 0
    assert ("order_id=4711" in str(told)) is told_baggage


def test_uninstrumenting_in_the_opposite_order_restores_every_original(spans: Spans) -> None:
    instrumentation.uninstrument()
    originals = [vars(owner)[name] for owner, name in PATCHED]
    theirs, ours = HTTPXClientInstrumentor(), instrumentation.HttpxInstrumentor()
    for one in (theirs, ours):
        one.instrument(tracer_provider=spans.provider)
    assert all(vars(owner)[name] is not was for (owner, name), was in zip(PATCHED, originals, strict=True))
    for one in (ours, theirs):
        one.uninstrument()
    assert all(vars(owner)[name] is was for (owner, name), was in zip(PATCHED, originals, strict=True))


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"OTEL_ORDERS_PSEUDONYM_KEY": "secret-but-short"[:15]}, "at least 16 bytes, got 15"),
        ({"OTEL_ORDERS_PSEUDONYM_HOSTS": "a.example"}, "set OTEL_ORDERS_PSEUDONYM_KEY"),
        ({"OTEL_PYTHON_EXCLUDED_URLS": "a,("}, r"OTEL_PYTHON_EXCLUDED_URLS: '\(' is no regular expression"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_without_showing_a_secret(environment: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        read_http_settings(environment)
    assert "secret" not in str(caught.value)


def test_the_first_of_several_keys_makes_the_pseudonyms() -> None:
    key = read_http_settings({"OTEL_ORDERS_PSEUDONYM_KEY": f"{KEY}, {KEY[::-1]}"}).pseudonym_key
    assert key is not None
    assert key.pseudonym("4711") == pseudonym("4711", KEY.encode())
    assert key.stands_for(pseudonym("4711", KEY[::-1].encode()), "4711")
    assert not key.stands_for(pseudonym("4711", b"of another environment"), "4711")


def test_the_key_is_in_no_repr() -> None:
    assert KEY not in repr(read_http_settings(ENVIRONMENT))


def test_the_general_variable_is_read_where_ours_is_not_set() -> None:
    assert read_http_settings({"OTEL_PYTHON_EXCLUDED_URLS": "a, b"}).excluded_urls == ("a", "b")
