"""Line by line: what the official httpx instrumentor leaves open, and ours closes.  The same scenario with each.

Each test is one line of the README's table.  Where the official one gets better, the test fails, and the line goes.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from opentelemetry import baggage
from opentelemetry.context import attach, detach
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_orders.context import Order, bound
from otel_orders.instrumentation import httpx as ours
from otel_orders.instrumentation.http_metrics import CLIENT_LABELS, client_durations
from otel_orders.settings import read_http_settings
from tests.instrumentation.http_counts import Counts
from tests.instrumentation.test_httpx import Fetch, broken, echo, sync_and_async

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.instrumentation.conftest import Spans

ORDER = Order("4711", "acme")

each = pytest.mark.parametrize("whose", ["official", "ours"])


@contextmanager
def instrumented(whose: str, spans: Spans) -> Iterator[None]:
    instrumentor = HTTPXClientInstrumentor()
    if whose == "official":
        instrumentor.instrument(tracer_provider=spans.provider)
    else:
        ours.instrument(settings=read_http_settings())
    yield
    if whose == "official":
        instrumentor.uninstrument()
    else:
        ours.uninstrument()


@pytest.fixture
def url(serve: Callable[[Any], str]) -> str:
    return serve(echo)


@each
@sync_and_async
def test_baggage_stays_inside(url: str, spans: Spans, fetch: Fetch, whose: str) -> None:
    token = attach(baggage.set_baggage("tenant", "7"))
    with instrumented(whose, spans):
        told = fetch("GET", "http://partner.example/", proxy=url).json()
    detach(token)
    assert "traceparent" in told
    assert ("baggage" in told) is (whose == "official")


@each
@sync_and_async
def test_the_order_travels_with_the_request(url: str, spans: Spans, fetch: Fetch, whose: str) -> None:
    with instrumented(whose, spans), bound(ORDER):
        told = fetch("GET", url).json()
    assert ("order_id=4711" in told.get("baggage", "")) is (whose == "ours")


@each
@sync_and_async
def test_an_excluded_url_keeps_its_headers(
    url: str, spans: Spans, fetch: Fetch, whose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_PYTHON_HTTPX_EXCLUDED_URLS", "/health")
    with instrumented(whose, spans), spans.tracer.start_as_current_span("handler"):
        told = fetch("GET", f"{url}/health").json()
    assert spans.of("GET") == []
    assert ("traceparent" in told) is (whose == "ours")


@each
def test_the_span_lasts_as_long_as_the_body(url: str, spans: Spans, whose: str) -> None:
    with instrumented(whose, spans), httpx.Client(trust_env=False) as client, client.stream("GET", url) as response:
        before_the_body = len(spans.of("GET"))
        response.read()
    assert before_the_body == (1 if whose == "official" else 0)
    assert len(spans.of("GET")) == 1


@each
@sync_and_async
def test_an_error_in_the_body_is_on_the_span(
    spans: Spans, fetch: Fetch, whose: str, serve: Callable[[Any], str]
) -> None:
    with instrumented(whose, spans), pytest.raises(httpx.RemoteProtocolError):
        fetch("GET", serve(broken))
    assert spans.one("GET").status.is_ok is (whose == "official")


@each
@sync_and_async
def test_a_redirect_is_seen_as_sent_again(url: str, spans: Spans, fetch: Fetch, whose: str) -> None:
    with instrumented(whose, spans):
        fetch("GET", f"{url}/?status=307&to=/", follow=True)
    found = [(span.attributes or {}).get("http.request.resend_count") for span in spans.of("GET")]
    assert found == ([None, None] if whose == "official" else [None, 1])


@each
def test_a_retry_of_the_connection_is_seen(spans: Spans, whose: str) -> None:
    transport = httpx.HTTPTransport(retries=1)
    with instrumented(whose, spans), httpx.Client(transport=transport) as client, pytest.raises(httpx.ConnectError):
        client.get("http://127.0.0.1:1/")
    events = [event.name for event in spans.one("GET").events]
    assert ("http.connection.retry" in events) is (whose == "ours")


@each
@sync_and_async
def test_the_values_of_a_query_stay_out_of_the_span(url: str, spans: Spans, fetch: Fetch, whose: str) -> None:
    with instrumented(whose, spans):
        fetch("GET", f"{url}/?card=4111")
    assert ("4111" in str(dict(spans.one("GET").attributes or {}))) is (whose == "official")


@each
@sync_and_async
def test_the_applications_request_is_not_changed(url: str, spans: Spans, fetch: Fetch, whose: str) -> None:
    with instrumented(whose, spans):
        request = fetch("GET", url).request
    assert ("traceparent" in request.headers) is (whose == "official")


@sync_and_async
def test_a_failed_request_is_counted(spans: Spans, fetch: Fetch) -> None:
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    official = HTTPXClientInstrumentor()
    official.instrument(tracer_provider=spans.provider, meter_provider=meters)
    with pytest.raises(httpx.ConnectError):
        fetch("GET", "http://127.0.0.1:1/")
    official.uninstrument()
    assert reader.get_metrics_data() is None
    meters.shutdown()

    client_durations.cache_clear()
    with instrumented("ours", spans), pytest.raises(httpx.ConnectError):
        fetch("GET", "http://127.0.0.1:1/")
    counted = Counts(client_durations, CLIENT_LABELS).all
    client_durations.cache_clear()
    assert counted == {("GET", "127.0.0.1", "1", "", "ConnectError"): 1}
