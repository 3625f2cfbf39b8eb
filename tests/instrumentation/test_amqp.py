"""What both AMQP clients share, without a broker: names, headers of any shape, and whose trace a consumer is in."""

from __future__ import annotations

import copy
import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from opentelemetry import baggage, propagate, trace
from opentelemetry.context import attach, detach, get_current
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otel_orders import names
from otel_orders.context import Order, bound, current_order
from otel_orders.instrumentation import amqp, headers
from otel_orders.instrumentation.amqp import TRACING, Message, Propagation, Sending, Tracing
from otel_orders.instrumentation.delivery import history
from otel_orders.instrumentation.frames import leaves_room
from otel_orders.instrumentation.processing import Processing
from otel_orders.instrumentation.semconv import destination
from otel_orders.instrumentation.spans import end_dropped

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.instrumentation.conftest import Faults, Spans

ORDER = Order("4711", "acme")
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SECOND = 1_000_000_000

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters())
    | st.binary()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.datetimes(timezones=st.just(UTC))
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5)
OURS = st.sampled_from(amqp.CARRIED)
NEARLY_RIGHT = st.sampled_from(
    [
        PARENT,
        PARENT.encode(),
        PARENT[:-1],
        "order_id=4711,partner_id=acme",
        "order_id=",
        b"order_id=4711",
        "order_id=\ud800",
        "k=v;p=1, x = y,,=",
        "a" * 65_536,
        "rojo=1,congo=2",
        str(2**63),
        "\u00b2",
        "\u0663",
    ]
)
KEYS = st.text(st.characters(codec="utf-8"), max_size=20) | st.binary(max_size=5) | OURS
HEADERS = st.none() | st.dictionaries(KEYS, VALUES | NEARLY_RIGHT) | st.dictionaries(OURS, NEARLY_RIGHT | VALUES)

many = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def message(carried: Any = None, **fields: Any) -> Message:
    return Message(**{"exchange": "orders", "routing_key": "pricing", "headers": carried, **fields})


def sent(carried: Any = None) -> dict[Any, Any]:
    with Sending(message(carried)) as sending:
        return sending.headers


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (("orders", "pricing"), "orders:pricing"),
        (("orders", ""), "orders"),
        (("", "pricing.requests"), "pricing.requests"),
        (("", ""), "amq.default"),
        (("orders", "pricing", "pricing.requests"), "orders:pricing:pricing.requests"),
        (("orders", "pricing", "pricing"), "orders:pricing"),
        (("", "pricing", "pricing"), "pricing"),
        (("orders", "", "pricing.requests"), "orders:pricing.requests"),
    ],
)
def test_a_destination_is_named_by_what_is_not_empty_and_said_once(parts: tuple[str, ...], name: str) -> None:
    assert destination(*parts) == name


@many
@given(HEADERS)
@example({"one": "a" * 65_536, "other": "a" * 65_536})
def test_headers_of_any_shape_are_sent_with_all_that_the_application_put_there(
    spans: Spans, faults: Faults, own: Any
) -> None:
    as_before = copy.deepcopy(own)
    with bound(ORDER):
        carried = sent(own)
    assert own == as_before
    kept = {key: value for key, value in (own or {}).items() if key not in amqp.CARRIED}
    assert {key: value for key, value in carried.items() if key not in amqp.CARRIED} == kept
    assert spans.of("send")[-1].status.is_ok or spans.of("send")[-1].status.is_unset
    if not leaves_room(own or {}):
        faults.expected = {amqp.FAULT}


@many
@given(HEADERS | st.integers() | st.text())
@pytest.mark.usefixtures("spans")
def test_headers_of_any_shape_can_be_processed(received: Any) -> None:
    before = get_current()
    as_before = copy.deepcopy(received)
    with Processing(message(received, queue="q"), TRACING):
        assert trace.get_current_span().is_recording()
    assert received == as_before
    assert get_current() is before
    assert current_order() is None


@many
@given(st.dictionaries(KEYS, VALUES), st.text(st.characters(codec="utf-8"), min_size=1, max_size=100))
@pytest.mark.usefixtures("spans")
def test_any_order_arrives_as_it_was_sent(own: Any, order_id: str) -> None:
    order = Order("".join(filter(str.isprintable, order_id)).strip() or "blank", "ринг & Co, 1=2;3")
    others = {key: value for key, value in own.items() if key not in amqp.CARRIED}
    with bound(order):
        carried = sent(others)
    with Processing(message(carried), TRACING):
        assert current_order() == order
        assert baggage.get_all() == {}


@pytest.mark.usefixtures("spans")
def test_what_is_sent_carries_trace_order_and_times() -> None:
    before = time.time_ns()
    with bound(ORDER):
        carried = sent()
    assert set(carried) == {"traceparent", "baggage", names.PUBLISHED_AT_HEADER}
    assert before <= carried[names.PUBLISHED_AT_HEADER] <= time.time_ns()


@pytest.mark.usefixtures("spans")
def test_a_trace_that_begins_with_a_message_dated_by_the_application_tells_its_own_start() -> None:
    before = time.time_ns()
    assert before <= sent({names.PUBLISHED_AT_HEADER: 12})[names.TRACE_STARTED_AT_HEADER] <= time.time_ns()


def test_an_order_travels_even_where_nothing_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otel_orders.instrumentation.spans.tracer", trace.NoOpTracer())
    with bound(ORDER):
        carried = sent()
    assert set(carried) == {"baggage", names.PUBLISHED_AT_HEADER}
    with Processing(message(carried), TRACING):
        assert current_order() == ORDER


def test_a_trace_that_is_not_sampled_begins_for_all_we_know_now(monkeypatch: pytest.MonkeyPatch) -> None:
    unsampled = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False).get_tracer("otel_orders")
    monkeypatch.setattr("otel_orders.instrumentation.spans.tracer", unsampled)
    before = time.time_ns()
    assert sent()[names.TRACE_STARTED_AT_HEADER] >= before


def test_a_trace_began_with_its_first_span(spans: Spans) -> None:
    with spans.tracer.start_as_current_span("root"):
        carried = sent()
    assert carried[names.TRACE_STARTED_AT_HEADER] == spans.one("root").start_time


@pytest.mark.usefixtures("spans")
def test_the_applications_baggage_travels_beside_the_order() -> None:
    token = attach(baggage.set_baggage("tenant", "7", baggage.set_baggage(names.PARTNER_ID, "stale")))
    with bound(Order("4711")):
        carried = sent({"baggage": "shop=berlin"})
    detach(token)
    assert sorted(carried["baggage"].split(",")) == ["order_id=4711", "shop=berlin", "tenant=7"]


@pytest.mark.usefixtures("spans")
def test_a_published_time_of_the_applications_own_is_kept() -> None:
    assert sent({names.PUBLISHED_AT_HEADER: 12})[names.PUBLISHED_AT_HEADER] == 12


def test_a_trace_context_of_the_applications_own_is_kept_and_linked(spans: Spans) -> None:
    """As an outbox has it, which sends later what a transaction wrote."""
    with bound(ORDER):
        carried = sent({"traceparent": PARENT, "tracestate": "a=1"})
    assert (carried["traceparent"], carried["tracestate"]) == (PARENT, "a=1")
    assert names.TRACE_STARTED_AT_HEADER not in carried
    assert "order_id=4711" in carried["baggage"]
    span = spans.one("send")
    assert span.kind is SpanKind.CLIENT
    assert [f"{link.context.span_id:x}" for link in span.links] == ["b7ad6b7169203331"]


def test_a_context_that_the_application_injected_by_hand_gives_way_to_the_spans(spans: Spans) -> None:
    carried: dict[str, Any] = {"baggage": "shop=berlin"}
    with spans.tracer.start_as_current_span("handler"):
        propagate.inject(carried)
        carried = sent(carried)
    assert carried["traceparent"].split("-")[2] == f"{spans.one('send').context.span_id:016x}"
    assert carried["baggage"] == "shop=berlin"
    assert spans.one("send").kind is SpanKind.PRODUCER
    assert spans.one("send").links == ()


def test_a_span_that_the_application_made_for_each_message_stays_the_messages_own(spans: Spans) -> None:
    """As the conventions want it for batches: a create span a message, linked from the one that sends it."""
    carried: dict[str, Any] = {}
    with spans.tracer.start_as_current_span("batch"):
        with spans.tracer.start_as_current_span("create"):
            propagate.inject(carried)
        carried = sent(carried)
    assert [link.context.span_id for link in spans.one("send").links] == [spans.one("create").context.span_id]
    assert carried["traceparent"].split("-")[2] == f"{spans.one('create').context.span_id:016x}"
    assert carried[names.TRACE_STARTED_AT_HEADER] == spans.one("batch").start_time


def test_headers_copied_from_the_message_at_work_carry_the_new_span(spans: Spans) -> None:
    received = {"traceparent": PARENT, "tracestate": "a=1", names.PUBLISHED_AT_HEADER: 1, "retries": 2}
    with Processing(message(received), TRACING):
        carried = sent(received)
    assert carried["retries"] == 2
    assert carried["traceparent"].split("-")[2] == f"{spans.one('send').context.span_id:016x}"
    assert carried[names.PUBLISHED_AT_HEADER] > 1
    assert spans.one("send").parent == spans.one("process").context


@pytest.mark.parametrize("started", ["header", b"header", 0, None, True, "later", 2**64, -5, [1], datetime.now(UTC)])
@pytest.mark.usefixtures("spans")
def test_a_trace_of_unknown_age_is_continued(started: Any) -> None:
    with Processing(message({"traceparent": PARENT, names.TRACE_STARTED_AT_HEADER: started}), TRACING):
        assert trace.get_current_span().get_span_context().trace_id == int(PARENT.split("-")[1], 16)


@pytest.mark.parametrize("as_type", [int, str, lambda value: str(value).encode()])
@pytest.mark.parametrize("header", [names.TRACE_STARTED_AT_HEADER, names.PUBLISHED_AT_HEADER])
@pytest.mark.parametrize(("age", "continued"), [(19, True), (-60, True), (21, False)])
def test_a_trace_is_continued_for_twenty_seconds_after_its_start(
    spans: Spans, age: int, continued: bool, header: str, as_type: Any
) -> None:
    started = as_type(time.time_ns() - age * SECOND)
    with Processing(message({"traceparent": PARENT, header: started}), TRACING):
        pass
    span = spans.one("process")
    assert (span.parent is not None) is continued
    assert len(span.links) == (not continued)


@pytest.mark.usefixtures("spans")
def test_a_trace_that_was_linked_begins_anew() -> None:
    old = time.time_ns() - 100 * SECOND
    with Processing(message({"traceparent": PARENT, names.TRACE_STARTED_AT_HEADER: old}), TRACING):
        assert sent()[names.TRACE_STARTED_AT_HEADER] > old


@pytest.mark.usefixtures("spans")
def test_a_trace_of_the_applications_own_inside_a_handler_has_its_own_start() -> None:
    old = time.time_ns() - 10 * SECOND
    with Processing(message({"traceparent": PARENT, names.TRACE_STARTED_AT_HEADER: old}), TRACING):
        assert sent()[names.TRACE_STARTED_AT_HEADER] == old
        token = attach(trace.set_span_in_context(trace.INVALID_SPAN))
        assert names.TRACE_STARTED_AT_HEADER not in sent()  # it begins with the message
        detach(token)


@pytest.mark.parametrize("queue", ["pricing.requests", "other"])
def test_only_a_queue_marked_long_never_continues_a_trace(spans: Spans, queue: str) -> None:
    propagation = Propagation(long_queues=frozenset({"pricing.requests"}))
    with Processing(message({"traceparent": PARENT}, queue=queue), Tracing(propagation)):
        pass
    assert (spans.one("process").parent is None) is (queue == "pricing.requests")


def test_the_order_arrives_even_where_baggage_is_not_among_the_configured_propagators(
    spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(propagate, "_HTTP_TEXT_FORMAT", CompositePropagator([TraceContextTextMapPropagator()]))
    with bound(ORDER):
        carried = sent()
    with Processing(message(carried), TRACING):
        assert current_order() == ORDER
    assert spans.one("process").parent is not None


def test_a_propagator_that_fails_costs_the_trace_of_the_receiver_and_not_the_span(
    spans: Spans, monkeypatch: pytest.MonkeyPatch, faults: Faults
) -> None:
    def fail() -> None:
        raise OSError

    monkeypatch.setattr("opentelemetry.propagate.get_global_textmap", fail)
    assert "traceparent" not in sent()
    assert (spans.one("send").attributes or {})[names.OUTCOME] == "unconfirmed"
    faults.expected = {"amqp"}


@given(SCALARS | st.just(Decimal(7)))
def test_a_time_is_a_positive_number_that_a_header_can_hold(value: Any) -> None:
    read = headers.nanoseconds(value)
    assert read is None or 0 < read <= headers.MAX_TIME


@given(st.integers(1, headers.MAX_TIME))
def test_a_time_reads_the_same_as_number_text_and_bytes(value: int) -> None:
    assert headers.nanoseconds(value) == headers.nanoseconds(str(value)) == headers.nanoseconds(b"%d" % value) == value


@pytest.mark.parametrize("oversized", ["x" * 65_536, "a=" + "b" * 65_536])
def test_oversized_baggage_is_left_aside_without_a_word(
    spans: Spans, oversized: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Processing(message({"traceparent": PARENT, "baggage": oversized}), TRACING):
        assert baggage.get_all() == {}
    assert spans.one("process").parent is not None
    assert caplog.records == []


FORGED = "1%5D%20ok%0A2026-11-26%20INFO%20paid%1B%5B2J"


@pytest.mark.parametrize("others", ["", ",theirs=1"])
@pytest.mark.usefixtures("spans")
def test_an_id_that_could_forge_a_log_line_is_none(others: str) -> None:
    with Processing(message({"baggage": f"order_id={FORGED}{others}"}), TRACING):
        assert current_order() is None
    with Processing(message({"baggage": f"order_id=4711,partner_id={FORGED}{others}"}), TRACING):
        assert current_order() == Order("4711")


def test_an_order_that_no_receiver_would_take_is_not_sent() -> None:
    with bound(Order("47\n11")):
        assert "baggage" not in sent({})
    with bound(Order("4711", "ac\nme")):
        assert sent({})["baggage"] == "order_id=4711"


def test_a_metric_that_fails_costs_neither_the_order_nor_the_span(spans: Spans, faults: Faults) -> None:
    class FullDisk:
        def delivered(self, *_: Any, **__: Any) -> None:
            raise OSError("No space left on device")

        processed = delivered

    with Processing(message({"baggage": "order_id=4711"}), Tracing(metrics=cast("Any", FullDisk()))):
        assert current_order() == Order("4711")
    assert spans.one("process")
    faults.expected = {"amqp"}


def test_a_publishing_whose_coroutine_is_closed_ends_later_and_as_of_then(spans: Spans) -> None:
    def publishing() -> Generator[None, None, None]:
        with Sending(message({}), TRACING):
            yield

    closed = publishing()
    next(closed)
    closed.close()
    assert not spans.finished
    closed_by = time.time_ns()
    end_dropped()
    assert (spans.one("send").end_time or 0) <= closed_by
    assert spans.one("send").status.status_code is StatusCode.UNSET


def test_a_count_of_retries_that_no_span_can_hold_is_the_highest_that_it_can() -> None:
    death = {"queue": "q", "count": 2**63 - 1}
    assert history({"x-death": [death, death]}, "q", redelivered=False)[names.RETRY_ATTEMPT] == 2**63 - 1
