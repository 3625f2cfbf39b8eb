"""What is made to cost much: it is cut before anybody looks for personal data in it, and what was cut is counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import httpx
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValueList

from otel_orders import names
from tests.collector.far_end import FarEnd, far_end
from tests.collector.gate import post
from tests.collector.orders import request
from tests.collector.planted import span
from tests.collector.processes import GATEWAY, collecting
from tests.ledger import senders
from tests.ledger.senders import key_values
from tests.sinks.receiver import attributes, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from opentelemetry.proto.trace.v1.trace_pb2 import Span

MANY = 30_000
MOST = 128
"""Attributes of anything, and events of a span."""
LONGEST = 65_536 + len("[cut]")
"""Bytes of a log line."""
MAILS = AnyValue(kvlist_value=KeyValueList(values=key_values({f"k{n}": f"a{n}@b.example" for n in range(MANY)})))


def heavy() -> list[Span]:
    """Return failed spans: of many attributes, of a map with many values, of many events, and of much text."""
    wide, deep, long, text = (span("x", number) for number in range(1, 5))
    wide.attributes.extend(key_values({f"note {n}": f"a{n}@b.example" for n in range(MANY)}))
    deep.attributes.add(key="error.message", value=MAILS)
    for _ in range(MANY):
        long.events.add(name="to a@b.example", attributes=key_values({"error.message": "to a@b.example"}))
    text.attributes.extend(key_values({"exception.stacktrace": "to a@b.example " * MANY}))
    text.name = text.status.message = "to a@b.example " * MANY
    return [wide, deep, long, text]


def lines() -> ExportLogsServiceRequest:
    made = ExportLogsServiceRequest()
    records = made.resource_logs.add().scope_logs.add().log_records
    records.add(body=MAILS, attributes=key_values({"order_id": "A-1"}))
    records.add(body=AnyValue(string_value="é to a@b.example " * MANY))
    return made


class Cut(NamedTuple):
    """What left the gateway.  seconds: of CPU that all of it took."""

    store: FarEnd
    seconds: float


@pytest.fixture(scope="module")
def cut(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cut]:
    folder = tmp_path_factory.mktemp("costly")
    event = senders.changed("A-1", **{f"note_{n}": f"a{n}@b.example" for n in range(MANY)})
    with far_end() as store:
        environ = dict.fromkeys(("OTELCOL_TRACES", "OTELCOL_LOKI", "OTELCOL_LEDGER"), store.url)
        with (
            collecting(binary, (*GATEWAY, "loki"), folder, **environ, OTELCOL_MEMORY_MIB="2000") as gateway,
            httpx.Client(base_url=gateway.url, trust_env=False, timeout=60) as client,
        ):
            before = gateway.cpu()
            for one in heavy():
                post(client, "/v1/traces", request([one]))
            post(client, "/v1/logs", lines())
            post(client, "/v1/logs", senders.logs([event]))
            wait_for(lambda: len(store.spans()) == 4 and len(store.records()) == 3, seconds=60)
            yield Cut(store, gateway.cpu() - before)


def test_what_is_made_to_cost_much_costs_little(cut: Cut) -> None:
    assert cut.seconds < 15  # uncut, one of them took 22 with more of the same


def test_no_more_attributes_and_events_leave_than_sdks_send_and_the_rest_is_counted(cut: Cut) -> None:
    wide, _, long, _ = sorted(cut.store.spans(), key=lambda one: int.from_bytes(one.span_id, "big"))
    assert len(wide.attributes) <= MOST
    assert wide.dropped_attributes_count >= MANY - MOST
    assert len(long.events) == MOST
    assert attributes(wide)["order_id"] == "order-1"


def test_an_event_record_keeps_its_own_fields_whatever_else_it_has(cut: Cut) -> None:
    [event] = [one for one in cut.store.records() if names.EVENT_TYPE in attributes(one)]
    assert len(event.attributes) == MOST
    assert {names.ORDER_ID, names.TO_STATUS, names.OCCURRED_AT, names.SERVICE} <= attributes(event).keys()


def test_long_texts_are_cut_and_nothing_personal_is_left_at_the_cut(cut: Cut) -> None:
    assert max(len(one.body.string_value.encode()) for one in cut.store.records()) <= LONGEST
    assert max(len(one.name) + len(one.status.message) for one in cut.store.spans()) < LONGEST
    assert b"@b" not in cut.store.raw
