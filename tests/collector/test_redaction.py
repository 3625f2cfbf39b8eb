"""What leaves a gateway holds nothing personal: read from the raw bytes that arrive at the stores."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.semconv import attributes as stable_attributes
from opentelemetry.semconv._incubating import attributes as attributes_of_the_conventions
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from otel_orders import instrumentation, names
from otel_orders.event import order_bucket
from otel_orders.instrumentation.asgi import OrderMiddleware
from otel_orders.instrumentation.audience import by_path
from otel_orders.personal_data import OWN_FIELDS
from otel_orders.privacy import pseudonym
from tests.collector.far_end import FarEnd, far_end
from tests.collector.gate import post
from tests.collector.orders import RATIO, request
from tests.collector.planted import AROUND, TEXTS, events, in_context, lines, secrets, span, traces
from tests.collector.processes import COLLECTOR, GATEWAY, Collector, collecting
from tests.ledger.senders import key_values
from tests.sinks.memory import kept_spans
from tests.sinks.receiver import attributes, wait_for
from tests.test_privacy import INNOCENT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

    from opentelemetry.proto.trace.v1.trace_pb2 import Span
    from starlette.requests import Request

KEY = "0123456789abcdef0123456789abcdef"
ORDER = "A-100234"
LINES = (4 + len(AROUND)) * len(TEXTS)


class Left:
    """What left the gateway, and the gateway, which has stopped sending."""

    def __init__(self, gateway: Collector, traces: FarEnd, logs: FarEnd, ledger: FarEnd) -> None:
        self.gateway, self.traces, self.logs, self.ledger = gateway, traces, logs, ledger
        self.of_the_corpus = b""
        """All bytes that left before anything innocent was sent."""

    def span(self, name: str) -> Any:
        return next(span for span in self.traces.spans() if span.name == name)


def public(order_id: Any = ORDER) -> Span:
    """Return the server span of a public endpoint that says which order it is about wherever it can."""
    said = f"order {order_id} is unknown"
    made = span("nothing", 9_000)
    made.ClearField("attributes")
    where = {"url.path": f"/orders/{order_id}", "url.full": f"https://b2b.example/orders/{order_id}"}
    seen = {"http.route": "/orders/{id}", "error.message": said, "network.peer.address": "203.0.113.7"}
    made.attributes.extend(key_values({"order_id": order_id, "audience": "external", **where, **seen}))
    made.name, made.status.message = f"GET {order_id}", said
    made.events[0].attributes.extend(key_values({"exception.message": said}))
    return made


def innocent() -> list[Span]:
    found = []
    for number, text in enumerate(INNOCENT, 5_000):
        made = span("nothing", number)
        made.name = f"innocent {number}"
        made.ClearField("attributes")
        made.attributes.extend(key_values({"error.message": text, "order_id": text or "-"}))
        found.append(made)
    return found


@pytest.fixture(scope="module")
def left(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Left]:
    folder = tmp_path_factory.mktemp("redaction")
    with ExitStack() as stack:
        stores = [stack.enter_context(far_end()) for _ in range(3)]
        environ = dict(
            zip(("OTELCOL_TRACES", "OTELCOL_LOKI", "OTELCOL_LEDGER"), [one.url for one in stores], strict=True)
        )
        configs = (*GATEWAY, "loki", "pseudonyms")
        gateway = stack.enter_context(collecting(binary, configs, folder, **environ, OTELCOL_PSEUDONYM_KEY=KEY))
        client = stack.enter_context(httpx.Client(base_url=gateway.url, trust_env=False, timeout=30))
        spans = [public(), *innocent()]
        post(client, "/v1/traces", traces(TEXTS))
        post(client, "/v1/logs", lines(TEXTS))
        post(client, "/v1/logs", in_context(TEXTS))
        post(client, "/v1/logs", events(TEXTS))
        found = Left(gateway, *stores)
        wait_for(lambda: len(found.traces.spans()) == len(TEXTS), seconds=60)
        wait_for(lambda: len(found.logs.records()) == LINES, seconds=60)
        wait_for(lambda: len(found.ledger.records()) == len(TEXTS), seconds=60)
        found.of_the_corpus = found.traces.raw + found.logs.raw + found.ledger.raw
        post(client, "/v1/traces", request(spans))
        wait_for(lambda: len(found.traces.spans()) == len(TEXTS) + len(spans), seconds=60)
        yield found


def test_no_personal_field_of_the_corpus_leaves_wherever_it_was_planted(left: Left) -> None:
    raw = left.of_the_corpus.lower()
    leaked = {text: found for text in TEXTS if (found := [one for one in secrets(text) if one.lower() in raw])}
    assert leaked == {}


@pytest.mark.parametrize("key", ["note", "url.query", "baggage", "customer_name", "enduser.id", "owner"])
def test_a_key_that_is_not_known_does_not_leave_with_a_span_or_a_line(left: Left, key: str) -> None:
    kept = [key for holder in (*left.traces.spans(), *left.logs.records()) for key in attributes(holder)]
    assert key not in kept
    assert not [key for key in kept if key.startswith(("otel_orders.", "http.request.header", "key "))]


def test_the_rest_of_a_span_stays_as_it_was(left: Left) -> None:
    found = left.span("innocent 5000")
    assert attributes(found)["error.message"] == INNOCENT[0]
    assert (found.status.message, found.events[0].name) == ("ValueError: nothing", "exception nothing")


@pytest.mark.parametrize("text", INNOCENT)
def test_an_order_id_is_never_masked_even_where_it_looks_like_something_personal(left: Left, text: str) -> None:
    orders = {attributes(one)["order_id"] for one in left.traces.spans() if "order_id" in attributes(one)}
    assert (text or "-") in orders


OVER = {"4111111111111112", "?key=&q=1", "token: "}
"""Masked here: no checksum is made, what a URL asks for goes as a whole, and so does the key of a secret."""


def test_what_only_looks_like_personal_data_is_left_alone(left: Left) -> None:
    kept = {attributes(one)["error.message"] for one in left.traces.spans() if one.name.startswith("innocent")}
    masked = {text for text in INNOCENT if text not in kept}
    assert {text for text in masked if "_id" not in text} == OVER


def test_a_fraction_is_not_taken_for_a_card(left: Left) -> None:
    ages = {attributes(one).get("message_age_seconds") for one in left.traces.spans()} - {None}
    assert ages == {0.4111111111111111}


def test_a_public_endpoint_names_its_order_by_the_pseudonym_of_x_order_ref_and_nowhere_else(left: Left) -> None:
    [found] = [one for one in left.traces.spans() if attributes(one).get("audience") == "external"]
    assert attributes(found)["order_id"] == pseudonym(ORDER, KEY.encode())
    assert ORDER.encode() not in found.SerializeToString()
    assert not {"url.path", "url.full", "network.peer.address"} & attributes(found).keys()
    assert attributes(found)["http.route"] == "/orders/{id}"


async def told(application: Starlette, path: str) -> httpx.Response:
    """Ask *application* as somebody from the world does."""
    transport = httpx.ASGITransport(application, client=("203.0.113.9", 1))
    async with httpx.AsyncClient(transport=transport, base_url="https://b2b.example") as client:
        return await client.get(path)


async def shipped(_: Request) -> PlainTextResponse:
    return PlainTextResponse("shipped")


def test_the_order_on_a_stored_span_of_the_library_is_what_the_caller_was_told(
    binary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_ORDERS_PSEUDONYM_KEY", KEY)
    order_id = next(f"A-{number}" for number in range(1_000) if order_bucket(f"A-{number}") < RATIO * 100)
    application = Starlette(routes=[Route("/orders/{order_id}", shipped)])
    application.add_middleware(OrderMiddleware, audience=by_path("/orders/"), order_id="path:order_id", order_ref=True)
    with kept_spans() as spans:
        answer = asyncio.run(told(application, f"/orders/{order_id}"))
    with far_end() as store:
        environ = {"OTELCOL_TRACES": store.url, "OTELCOL_PSEUDONYM_KEY": KEY}
        with (
            collecting(binary, (*GATEWAY, "pseudonyms"), tmp_path, **environ) as gateway,
            httpx.Client(base_url=gateway.url, trust_env=False) as client,
        ):
            post(client, "/v1/traces", encode_spans(spans.get_finished_spans()))
            wait_for(store.spans)
    [found] = store.spans()
    assert attributes(found)["order_id"] == answer.headers["x-order-ref"]
    assert order_id.encode() not in store.raw


@pytest.mark.parametrize("order_id", [ORDER, "Заказ № 4711", "a.b*(c)[d]", 4711001])
def test_without_a_key_a_public_endpoint_names_no_order(binary: Path, tmp_path: Path, order_id: Any) -> None:
    with far_end() as store, collecting(binary, GATEWAY, tmp_path, OTELCOL_TRACES=store.url) as gateway:
        with httpx.Client(base_url=gateway.url, trust_env=False) as client:
            post(client, "/v1/traces", request([public(order_id), span("x", 1)]))
        wait_for(lambda: len(store.spans()) == 2)
    assert str(order_id).encode() not in store.raw
    [found] = [one for one in store.spans() if attributes(one).get("audience") == "external"]
    assert "order_id" not in attributes(found)


def test_event_records_reach_the_ledger_with_all_their_fields(left: Left) -> None:
    found = [attributes(record) for record in left.ledger.records()]
    sent = [attributes(record) for record in events(TEXTS).resource_logs[0].scope_logs[0].log_records]
    assert {one["order_id"] for one in found} == {one["order_id"] for one in sent}
    assert {frozenset(one) for one in found} == {frozenset(one) for one in sent}
    assert {(one["price"], one["weight"], one["to_status"]) for one in found} == {
        (4200, 0.4111111111111111, "SUBMITTED")
    }


def test_what_was_masked_is_counted_on_the_span_and_by_the_collector(left: Left) -> None:
    masked = sum("redaction.masked.count" in attributes(one) for one in left.traces.spans())
    counted = partial(left.gateway.metric, filter="filter/masked")  # Prometheus's parser adds _total to counters
    wait_for(lambda: counted("otelcol_processor_filter_spans_filtered_total") == masked)
    assert masked > len(TEXTS)
    assert counted("otelcol_processor_filter_logs_filtered_total") == LINES


def constants(package: ModuleType) -> set[str]:
    """Return the strings that the modules of *package* have names in capitals for."""
    modules = [import_module(f"{package.__name__}.{one.name}") for one in iter_modules(package.__path__)]
    named = (item for module in modules for item in vars(module).items())
    return {value for name, value in named if name.isupper() and isinstance(value, str)}


KNOWN = yaml.safe_load((COLLECTOR / "known_keys.yaml").read_text())["processors"]["redaction/telemetry"]["allowed_keys"]
CONVENTIONS = constants(attributes_of_the_conventions) | constants(stable_attributes)


def test_every_attribute_of_the_library_is_known() -> None:
    of_messages = {names.EXCHANGE, names.ROUTING_KEY, names.PUBLISHED_AT, names.REDELIVERED, names.DELIVERY_COUNT}
    of_messages |= {names.DEAD_LETTERED, names.RETRY_ATTEMPT, names.MESSAGE_AGE_SECONDS, names.AUDIENCE}
    used = {value for value in constants(instrumentation) & CONVENTIONS if "." in value}
    assert OWN_FIELDS | of_messages | used <= set(KNOWN)


def test_the_fields_that_are_never_masked_are_the_librarys() -> None:
    processors = yaml.safe_load((COLLECTOR / "redaction.yaml").read_text())["processors"]
    for name in ("redaction/telemetry", "redaction/events"):
        assert set(processors[name]["ignored_keys"]) == OWN_FIELDS


def test_a_known_key_is_the_librarys_or_the_conventions_and_stands_there_once() -> None:
    ours = OWN_FIELDS | {value for value in vars(names).values() if isinstance(value, str)}
    others = {
        key for key in KNOWN if key not in CONVENTIONS | ours and not key.startswith(("otel_orders.", "tailsampling."))
    }
    assert others == set()
    assert len(KNOWN) == len(set(KNOWN))
