"""What tracing a request costs over the bare httpx client, ours beside the official instrumentor.

All three sides run the same httpx.Client and httpx.HTTPTransport; only httpcore's connection pool is replaced, by one
that answers from memory. A real server would cost fifty times what is measured, on the same two cores, and differ more
from run to run than the candidates do; httpx's own MockTransport is one that neither instrumentor wraps.

The bare client's time is taken off both before they are compared. The second figure gives the official instrumentor
the two Prometheus series that ours counts, as an application would write them.
"""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import httpcore
import httpx
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from prometheus_client import CollectorRegistry, Histogram

from otel_orders.context import Order, bound
from otel_orders.instrumentation import httpx as ours
from otel_orders.instrumentation import spans as instrumentation_spans
from otel_orders.instrumentation.http_metrics import BUCKETS, CLIENT_LABELS
from tests.benchmarks.harness import Figure, benchmark
from tests.benchmarks.transition import RESOURCE, DropSpans

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

URL = "http://pricing:8000/orders/4711"
ROUNDS = 60
NUMBER = 150


class Pool(httpcore.ConnectionPool):
    """Answers from memory."""

    def handle_request(self, request: httpcore.Request) -> httpcore.Response:  # noqa: ARG002
        return httpcore.Response(200, headers=[(b"content-length", b"2")], content=b"{}")


def _client() -> httpx.Client:
    transport = httpx.HTTPTransport()
    transport._pool = Pool()
    return httpx.Client(transport=transport, trust_env=False)


def _requests(client: httpx.Client) -> None:
    with bound(Order("4711", "acme")):
        for _ in range(NUMBER):
            client.get(URL)


@contextmanager
def _provider() -> Iterator[TracerProvider]:
    provider = TracerProvider(resource=RESOURCE, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(DropSpans()))
    yield provider
    provider.shutdown()


@contextmanager
def _with_ours(provider: TracerProvider) -> Iterator[None]:
    before, instrumentation_spans.tracer = instrumentation_spans.tracer, provider.get_tracer("otel_orders")
    ours.instrument()
    yield
    ours.uninstrument()
    instrumentation_spans.tracer = before


@contextmanager
def _with_theirs(provider: TracerProvider) -> Iterator[None]:
    instrumentor = HTTPXClientInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    yield
    instrumentor.uninstrument()


class CountedClient(httpx.Client):
    """Counts each request by hand."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._seconds = Histogram(
            "http_client_request_duration_seconds",
            "By hand.",
            CLIENT_LABELS,
            buckets=BUCKETS,
            registry=CollectorRegistry(),
        )

    def get(self, url: Any, **options: Any) -> httpx.Response:
        began = time.perf_counter()
        response = super().get(url, **options)
        at = response.url
        labels = ("GET", at.host, str(at.port or 80), str(response.status_code), "")
        self._seconds.labels(*labels).observe(time.perf_counter() - began)
        return response


def _counted() -> httpx.Client:
    transport = httpx.HTTPTransport()
    transport._pool = Pool()
    return CountedClient(transport=transport, trust_env=False)


def _timed(client: httpx.Client) -> float:
    before = time.process_time()
    _requests(client)
    return (time.process_time() - before) / NUMBER


def _measure(name: str, budget: float, peer: Callable[[], httpx.Client]) -> Figure:
    with ExitStack() as stack:
        provider = stack.enter_context(_provider())
        bare, counted = stack.enter_context(_client()), stack.enter_context(peer())
        rounds = [_round(provider, bare, counted) for _ in range(ROUNDS + 1)][1:]
    ratios = [(mine - plain) / (theirs - plain) for plain, mine, theirs in rounds]
    low, ratio, high = statistics.quantiles(ratios, n=4)
    plain, mine, theirs = map(statistics.median, zip(*rounds, strict=True))
    return Figure(
        name=name,
        value=(mine - plain) * 1e6,
        unit=f"us/request over the bare client's {plain * 1e6:.0f}",
        peer=(theirs - plain) * 1e6,
        ratio=ratio,
        budget=budget,
        holds=ratio <= budget,
        counts="CPU of the whole process, its exporter thread included",
        spread=(high - low) / 2 / ratio,
    )


def _round(provider: TracerProvider, bare: httpx.Client, counted: httpx.Client) -> tuple[float, float, float]:
    plain = _timed(bare)
    with _with_ours(provider):
        mine = _timed(bare)
    with _with_theirs(provider):
        return plain, mine, _timed(counted)


@benchmark("instrumentation/httpx", budget=1.1)
def spans_only(name: str, budget: float) -> Figure:
    return _measure(name, budget, _client)


@benchmark("instrumentation/httpx/with_metrics", budget=0.9)
def with_metrics(name: str, budget: float) -> Figure:
    return _measure(name, budget, _counted)
