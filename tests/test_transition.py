from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.trace import SpanKind, StatusCode

import otel_orders
from otel_orders import current_order, order_context, record, transition, transition_context
from otel_orders.error_codes import MAX_ERROR_CODES, ErrorCodes
from otel_orders.errors import ConfigurationError
from otel_orders.event import StatusChanged, TransitionFailed, versioned_event_id
from otel_orders.lifecycle import parse_lifecycle
from otel_orders.recorder import Recorder, activate
from otel_orders.sinks.traces import TraceSink
from otel_orders.testing import captured_events
from tests.sinks.memory import Counted, added, kept_spans

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


@pytest.fixture
def events() -> Iterator[list[Any]]:
    with captured_events() as found:
        yield found


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """The spans that end in the test, described by the sink."""
    before = activate(Recorder([TraceSink()], service="mes", env="test"))
    with kept_spans() as exporter:
        yield exporter
    activate(before)


class Refused(Exception):  # noqa: N818 - an application's own
    error_code = "price_refused"


class Broken(Exception):  # noqa: N818
    @property
    def error_code(self) -> str:
        raise RuntimeError("no code")


class Status(str, Enum):  # noqa: UP042 - the form that many applications have
    SHIPPED = "SHIPPED"


# The event.


def test_the_normal_end_of_a_decorated_function_is_the_event(events: list[StatusChanged]) -> None:
    @transition("SHIPPED", from_status="PACKAGING", order_id="order_id", partner_id="partner")
    def ship(order_id: int, partner: str) -> str:  # noqa: ARG001
        assert events == []
        return "label"

    assert ship(4711, partner="acme") == "label"
    (event,) = events
    assert isinstance(event, StatusChanged)
    assert (event.order_id, event.partner_id, event.from_status, event.to_status) == (
        "4711",
        "acme",
        "PACKAGING",
        "SHIPPED",
    )
    assert (event.service, event.env, event.order_version) == ("test", "test", None)
    assert event.duration > 0


def test_a_coroutine_is_recorded_when_it_has_ended(events: list[Any]) -> None:
    @transition("SHIPPED", order_id="order_id")
    async def ship(order_id: str) -> str:  # noqa: ARG001
        await asyncio.sleep(0)
        assert events == []
        return "label"

    assert asyncio.run(ship("A-1")) == "label"
    assert [event.to_status for event in events] == ["SHIPPED"]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_block_takes_what_it_learns_inside(events: list[StatusChanged], asynchronous: bool) -> None:
    def work(move: otel_orders.Move) -> None:
        move.from_status, move.version = "PACKAGING", 7
        move.set(price_cents=1200)
        move.set(rush=True)

    async def within() -> None:
        async with transition_context("A-1", "SHIPPED", partner_id="acme") as move:
            work(move)

    if asynchronous:
        asyncio.run(within())
    else:
        with transition_context("A-1", "SHIPPED", partner_id="acme") as move:
            work(move)
    (event,) = events
    assert (event.from_status, event.order_version, event.partner_id) == ("PACKAGING", 7, "acme")
    assert event.attributes == {"price_cents": 1200, "rush": True}
    assert event.event_id == versioned_event_id("A-1", 7, "SHIPPED")


def test_without_a_version_each_event_has_an_id_of_its_own(events: list[StatusChanged]) -> None:
    for _ in range(2):
        record("A-1", "SHIPPED")
    assert len({event.event_id for event in events}) == 2


def test_what_already_happened_is_recorded_without_a_duration(events: list[StatusChanged]) -> None:
    record("A-1", "SHIPPED", from_status="PACKAGING", partner_id="acme", version=3, weight=2.5)
    (event,) = events
    assert (event.from_status, event.partner_id, event.order_version) == ("PACKAGING", "acme", 3)
    assert (event.attributes, event.duration) == ({"weight": 2.5}, 0)


LONG_AGO = datetime(2026, 1, 5, 10, 0, 0, 250, tzinfo=timezone(timedelta(hours=3)))


@pytest.mark.parametrize("moment", [LONG_AGO, 1_767_596_400_000_250_000])
def test_what_happened_at_another_time_is_recorded_at_that_time(
    moment: datetime | int, events: list[StatusChanged]
) -> None:
    record("A-1", "SHIPPED", occurred_at=moment)
    assert [event.occurred_at for event in events] == [1_767_596_400_000_250_000]


@pytest.mark.parametrize("moment", ["2026-01-05T10:00:00Z", LONG_AGO.replace(tzinfo=None), -1, True, 2**63])
def test_a_time_that_is_none_is_counted_and_the_event_happens_now(moment: Any, events: list[StatusChanged]) -> None:
    counted, before = Counted(), time.time_ns()
    record("A-1", "SHIPPED", occurred_at=moment)
    assert before <= events[0].occurred_at <= time.time_ns()
    assert counted.faults() == {"transition": 1}


def test_a_status_may_be_an_enum(events: list[StatusChanged]) -> None:
    with transition_context("A-1", Status.SHIPPED) as move:
        move.from_status = Status.SHIPPED
    assert [(event.from_status, event.to_status) for event in events] == [("SHIPPED", "SHIPPED")]
    assert type(events[0].to_status) is str


def test_a_skipped_block_records_nothing(events: list[Any]) -> None:
    with transition_context("A-1", "SHIPPED") as move:
        move.skip()
    with pytest.raises(ValueError, match="late"), transition_context("A-1", "SHIPPED") as move:  # noqa: PT012
        move.skip()
        raise ValueError("late")
    assert events == []


def test_the_partner_of_an_enclosing_block_is_kept_for_the_same_order_only(events: list[StatusChanged]) -> None:
    with order_context("A-1", partner_id="acme"):
        record("A-1", "SHIPPED")
        record("A-2", "SHIPPED")
    assert [(event.order_id, event.partner_id) for event in events] == [("A-1", "acme"), ("A-2", None)]


@pytest.mark.parametrize("order_id", [None, ""])
def test_a_block_without_an_order_runs_and_is_counted(order_id: object, events: list[Any]) -> None:
    counted = Counted()
    with transition_context(order_id, "SHIPPED") as move:
        move.set(x=1)
        move.outbox(None)
    assert events == []
    assert counted.faults() == {"transition": 1}


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_an_order_id_that_cannot_be_printed_is_counted_and_harms_nobody(events: list[Any]) -> None:
    counted = Counted()
    record(Unprintable(), "SHIPPED")
    assert events == []
    assert counted.faults() == {"transition": 1}


@pytest.mark.parametrize("version", ["7", 2**63, 1.5])
def test_a_version_that_is_none_costs_itself_only(version: Any, events: list[StatusChanged]) -> None:
    counted = Counted()
    record("A-1", "SHIPPED", version=version)
    assert [event.order_version for event in events] == [None]
    assert counted.faults() == {"transition": 1}


# Failures.


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Refused("too big"), "price_refused"),
        (ValueError("a@b.com"), "ValueError"),
        (Broken(), "Broken"),
        (asyncio.CancelledError(), "cancelled"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
    ],
)
def test_an_exception_is_recorded_with_its_code_and_reaches_the_caller_unchanged(
    error: BaseException, code: str, events: list[TransitionFailed]
) -> None:
    @transition("SHIPPED", from_status="PACKAGING", order_id="order_id")
    def ship(order_id: str) -> None:  # noqa: ARG001
        raise error

    with pytest.raises(type(error)) as caught:
        ship("A-1")
    assert caught.value is error
    (event,) = events
    assert isinstance(event, TransitionFailed)
    assert (event.error_code, event.from_status, event.to_status) == (code, "PACKAGING", "SHIPPED")


def test_a_cancelled_coroutine_is_recorded_as_cancelled(events: list[TransitionFailed]) -> None:
    @transition("SHIPPED", order_id="order_id")
    async def wait(order_id: str) -> None:  # noqa: ARG001
        await asyncio.Event().wait()

    async def cancel() -> None:
        task = asyncio.create_task(wait("A-1"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert [event.error_code for event in events] == ["cancelled"]


def test_registered_codes_hold_for_subclasses_and_yield_to_the_exceptions_own() -> None:
    codes = ErrorCodes()
    codes.register({LookupError: "not_found", Refused: "never"})
    assert [codes.of(error) for error in (KeyError(), LookupError(), Refused(), ValueError())] == [
        "not_found",
        "not_found",
        "price_refused",
        "ValueError",
    ]
    codes.forget()
    assert codes.of(KeyError()) == "KeyError"


def test_there_are_never_more_than_50_codes() -> None:
    codes = ErrorCodes()
    given = [codes.bounded(f"code_{number}") for number in range(200)]
    assert len(set(given)) == MAX_ERROR_CODES
    assert given[-1] == "other"
    assert codes.bounded("code_0") == "code_0"


def test_a_code_is_bounded_in_length() -> None:
    class LongError(Exception):
        error_code = "x" * 1000

    assert ErrorCodes().of(LongError()) == "x" * 256


# The current order.


def test_the_order_is_current_inside_and_what_was_before_is_afterwards() -> None:
    with order_context("B-2"):
        with transition_context("A-1", "SHIPPED"):
            assert current_order() == otel_orders.context.Order("A-1")
        with pytest.raises(ValueError, match="x"), transition_context("A-1", "SHIPPED"):
            raise ValueError("x")
        assert current_order() == otel_orders.context.Order("B-2")
    assert current_order() is None


def test_leaving_a_block_in_another_context_than_it_was_entered_in_harms_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    import contextvars  # noqa: PLC0415

    block = order_context("A-1")
    contextvars.copy_context().run(block.__enter__)
    block.__exit__(None, None, None)
    assert caplog.records == []


def test_an_order_context_that_was_given_a_callable_binds_nothing_as_a_block() -> None:
    counted = Counted()
    with order_context(lambda: "A-1"):
        assert current_order() is None
    assert counted.faults() == {"transition": 1}


def test_an_order_context_works_as_an_async_block() -> None:
    async def inside() -> object:
        async with order_context("A-1", partner_id="acme"):
            return current_order()

    assert repr(asyncio.run(inside())) == "Order('A-1', partner_id='acme')"


# The lifecycle.

LIFECYCLE = parse_lifecycle(
    """
version: 1
statuses:
  PACKAGING: {owner: mes, initial: true, next: [SHIPPED], stuck_after: 1d}
  SHIPPED: {owner: mes, terminal: true}
owners:
  mes: {services: [mes]}
"""
)


@pytest.mark.parametrize(("to_status", "from_status"), [("SHIPED", None), ("SHIPPED", "PACKING")])
def test_a_status_that_the_lifecycle_does_not_have_is_an_error_at_decoration(
    to_status: str, from_status: str | None
) -> None:
    with captured_events(lifecycle=LIFECYCLE), pytest.raises(ConfigurationError, match="it has PACKAGING, SHIPPED"):
        transition(to_status, from_status=from_status, order_id="order_id")


def test_an_unknown_status_at_run_time_is_recorded_for_the_ledger_to_judge() -> None:
    with captured_events(lifecycle=LIFECYCLE) as events:
        record("A-1", "SHIPED")
    assert [event.to_status for event in events if isinstance(event, StatusChanged)] == ["SHIPED"]


# The span.


def test_a_transition_is_an_internal_span_with_the_events_fields(spans: InMemorySpanExporter) -> None:
    with transition_context("4711", "SHIPPED", from_status="PACKAGING", partner_id="acme") as move:
        move.version = 3
        move.set(price_cents=1200, order_id="forged")
    (span,) = spans.get_finished_spans()
    attributes = dict(span.attributes or {})
    assert (span.name, span.kind, span.status.status_code) == (
        "transition SHIPPED",
        SpanKind.INTERNAL,
        StatusCode.UNSET,
    )
    assert attributes.pop("occurred_at") == span.end_time
    assert attributes == {
        "order_id": "4711",
        "order_bucket": 33,
        "partner_id": "acme",
        "service": "mes",
        "env": "test",
        "event_type": "order.status_changed",
        "event_id": versioned_event_id("4711", 3, "SHIPPED"),
        "from_status": "PACKAGING",
        "to_status": "SHIPPED",
        "status": "SHIPPED",
        "order_version": 3,
        "price_cents": 1200,
    }


def test_a_failed_transition_is_a_span_with_an_error_and_without_the_exceptions_text(
    spans: InMemorySpanExporter,
) -> None:
    with pytest.raises(ValueError, match="Ivan"), transition_context("A-1", "SHIPPED", from_status="PACKAGING"):
        raise ValueError("Ivan Petrov lives here")
    (span,) = spans.get_finished_spans()
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "ValueError")
    attributes = span.attributes or {}
    assert (attributes["error_code"], attributes["status"], attributes["to_status"]) == (
        "ValueError",
        "PACKAGING",
        "SHIPPED",
    )
    assert span.events == ()


def test_what_happens_inside_is_the_transitions_child_and_the_event_names_its_span(
    spans: InMemorySpanExporter,
) -> None:
    with captured_events() as events, transition_context("A-1", "SHIPPED"):
        trace.get_tracer("theirs").start_span("inside").end()
    inside, outside = spans.get_finished_spans()
    assert inside.parent == outside.context
    assert outside.context is not None
    assert (events[0].trace_id, events[0].span_id) == (
        f"{outside.context.trace_id:032x}",
        f"{outside.context.span_id:016x}",
    )


@pytest.mark.parametrize("how", ["skip", "close"])
def test_a_span_of_what_was_not_recorded_does_not_pass_for_an_event(how: str, spans: InMemorySpanExporter) -> None:
    @transition("SHIPPED", order_id="order_id")
    def work(order_id: str) -> Iterator[int]:  # noqa: ARG001
        yield 1

    if how == "skip":
        with transition_context("A-1", "SHIPPED") as move:
            move.skip()
    else:
        generator: Any = work("A-1")
        next(generator)
        generator.close()
    (span,) = spans.get_finished_spans()
    assert "to_status" not in (span.attributes or {})


def test_the_trace_context_of_the_caller_is_put_back(spans: InMemorySpanExporter) -> None:  # noqa: ARG001
    before = otel_context.get_current()
    with transition_context("A-1", "SHIPPED"):
        pass
    assert otel_context.get_current() == before


class Sabotage(SpanProcessor):
    def __init__(self, moment: str) -> None:
        self.moment = moment

    def on_start(self, span: Any, parent_context: Any = None) -> None:  # noqa: ARG002
        if self.moment == "start":
            raise RuntimeError("start")

    def on_end(self, span: Any) -> None:  # noqa: ARG002
        if self.moment == "end":
            raise RuntimeError("end")


@pytest.mark.parametrize(("moment", "faults"), [("start", {"transition": 1}), ("end", {"traces": 1})])
def test_a_span_processor_of_the_applications_that_fails_costs_the_span_only(
    moment: str, faults: dict[str, int], events: list[StatusChanged]
) -> None:
    counted = Counted()
    with added(Sabotage(moment)), transition_context("A-1", "SHIPPED"):
        assert current_order() is not None
    assert [event.to_status for event in events] == ["SHIPPED"]
    assert counted.faults() == faults


# The outbox.


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(otel_orders.OUTBOX_SCHEMA["sqlite"])
        connection.execute("CREATE TABLE orders (id TEXT, status TEXT)")
        connection.commit()
        yield connection


def rows(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM otel_orders_outbox").fetchone()[0])


def ship(connection: sqlite3.Connection) -> None:
    with transition_context("A-1", "SHIPPED") as move:
        connection.execute("INSERT INTO orders VALUES ('A-1', 'SHIPPED')")
        move.version = 3
        move.outbox(connection)


@pytest.mark.parametrize(("end", "kept"), [("commit", 1), ("rollback", 0)])
def test_the_outbox_row_is_there_exactly_if_the_transaction_commits(
    database: sqlite3.Connection, events: list[Any], end: str, kept: int
) -> None:
    ship(database)
    getattr(database, end)()
    assert rows(database) == kept
    assert events == [], "the ledger follows the table; the same event is not sent on another way too"


def test_an_outboxed_transition_still_has_its_span(database: sqlite3.Connection, spans: InMemorySpanExporter) -> None:
    ship(database)
    (span,) = spans.get_finished_spans()
    assert (span.attributes or {})["event_id"] == versioned_event_id("A-1", 3, "SHIPPED")


def break_table(connection: sqlite3.Connection) -> sqlite3.Connection:
    connection.execute("DROP TABLE otel_orders_outbox")
    return connection


@pytest.mark.parametrize("connection_of", [break_table, lambda _connection: object()])
def test_where_the_row_cannot_be_written_the_event_is_sent_as_usual(
    database: sqlite3.Connection,
    events: list[StatusChanged],
    connection_of: Callable[[sqlite3.Connection], Any],
) -> None:
    counted = Counted()
    connection = connection_of(database)
    with transition_context("A-1", "SHIPPED") as move:
        database.execute("INSERT INTO orders VALUES ('A-1', 'SHIPPED')")
        move.outbox(connection)
    database.commit()
    assert [event.to_status for event in events] == ["SHIPPED"]
    assert counted.faults() == {"outbox": 1}
    assert database.execute("SELECT count(*) FROM orders").fetchone() == (1,)


def test_a_block_that_fails_after_its_outbox_is_recorded_as_failed(
    database: sqlite3.Connection, events: list[Any]
) -> None:
    with pytest.raises(ValueError, match="late"), transition_context("A-1", "SHIPPED") as move:  # noqa: PT012
        move.outbox(database)
        raise ValueError("late")
    database.rollback()
    assert [type(event) for event in events] == [TransitionFailed]
    assert rows(database) == 0
