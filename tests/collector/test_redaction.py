"""What leaves a gateway holds nothing personal: read from the raw bytes that arrive at the stores."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.semconv import attributes as stable_attributes
from opentelemetry.semconv._incubating import attributes as attributes_of_the_conventions

from otel_orders import instrumentation, names
from otel_orders.personal_data import IDS, NEVER_MASKED, OWN_FIELDS
from tests.collector.far_end import FarEnd, far_end
from tests.collector.gate import post
from tests.collector.orders import request
from tests.collector.planted import AROUND, TEXTS, events, in_context, lines, secrets, span, traces
from tests.collector.processes import COLLECTOR, GATEWAY, Collector, collecting
from tests.ledger.senders import key_values
from tests.sinks.receiver import attributes, wait_for
from tests.test_privacy import INNOCENT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType


LINES = (4 + len(AROUND)) * len(TEXTS)
BEHIND_A_SLASH = 2
"""Addresses of IPv4 that are left alone there: they are versions of programs as often."""


class Left:
    """What left the gateway, and the gateway, which has stopped sending."""

    def __init__(self, gateway: Collector, traces: FarEnd, logs: FarEnd, ledger: FarEnd) -> None:
        self.gateway, self.traces, self.logs, self.ledger = gateway, traces, logs, ledger
        self.of_the_corpus = b""
        """All bytes that left before anything innocent was sent."""

    def span(self, name: str) -> Any:
        return next(span for span in self.traces.spans() if span.name == name)


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
        configs = (*GATEWAY, "loki")
        gateway = stack.enter_context(collecting(binary, configs, folder, **environ))
        client = stack.enter_context(httpx.Client(base_url=gateway.url, trust_env=False, timeout=30))
        spans = [*innocent(), asked(Span.SPAN_KIND_SERVER, 7_000), asked(Span.SPAN_KIND_CLIENT, 7_001)]
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


def test_no_statement_of_the_configs_fails(left: Left) -> None:
    assert "failed to" not in left.gateway.log


def test_the_rest_of_a_span_stays_as_it_was(left: Left) -> None:
    found = left.span("innocent 5000")
    assert attributes(found)["error.message"] == INNOCENT[0]
    assert (found.status.message, found.events[0].name) == ("ValueError: nothing", "exception nothing")


@pytest.mark.parametrize("text", INNOCENT)
def test_an_order_id_is_never_masked_even_where_it_looks_like_something_personal(left: Left, text: str) -> None:
    orders = {attributes(one)["order_id"] for one in left.traces.spans() if "order_id" in attributes(one)}
    assert (text or "-") in orders


OVER = {"4111111111111112", "?key=&q=1", "token: ", "2001:0db8:85a3:0000:0000:8a2e:0370:7334"}
"""Masked here: no checksum is made, what a URL asks for goes as a whole, so does the key of a secret, and an address
that is for examples only is one."""


def test_what_only_looks_like_personal_data_is_left_alone(left: Left) -> None:
    kept = {attributes(one)["error.message"] for one in left.traces.spans() if one.name.startswith("innocent")}
    masked = {text for text in INNOCENT if text not in kept}
    assert {text for text in masked if "_id" not in text} == OVER


def test_a_fraction_is_not_taken_for_a_card(left: Left) -> None:
    ages = {attributes(one).get("message_age_seconds") for one in left.traces.spans()} - {None}
    assert ages == {0.4111111111111111}


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
    assert counted("otelcol_processor_filter_logs_filtered_total") == LINES - BEHIND_A_SLASH


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
        assert set(processors[name]["ignored_keys"]) == NEVER_MASKED | IDS


def test_a_known_key_is_the_librarys_or_the_conventions_and_stands_there_once() -> None:
    ours = OWN_FIELDS | {value for value in vars(names).values() if isinstance(value, str)}
    others = {
        key for key in KNOWN if key not in CONVENTIONS | ours and not key.startswith(("otel_orders.", "tailsampling."))
    }
    assert others == set()
    assert len(KNOWN) == len(set(KNOWN))


def asked(kind: Span.SpanKind.ValueType, number: int) -> Span:
    """Return a span of a server, or of a client, that knows the address at the other end."""
    made = span("nothing", number)
    made.kind = kind
    made.attributes.extend(key_values({"network.peer.address": "10.0.0.7", "network.peer.port": 80}))
    return made


def test_who_asks_a_server_is_not_kept_and_whom_a_client_asks_is(left: Left) -> None:
    kept = {one.kind for one in left.traces.spans() if "network.peer.address" in attributes(one)}
    assert kept == {Span.SPAN_KIND_CLIENT}


def test_an_id_of_a_message_stays_and_what_is_none_becomes_a_hash_of_it(left: Left) -> None:
    found = {attributes(one)["message_id"] for one in left.ledger.records()}
    assert {one for one in found if not one.startswith("masked-")} == {"5105105105105100"}
    assert len(found) == len(TEXTS)
