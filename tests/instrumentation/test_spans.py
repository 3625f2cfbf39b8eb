"""Scopes and open spans: whatever the order of their ends, nothing stays behind and nothing is ended twice."""

from __future__ import annotations

import contextvars
import os
import threading
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.context import get_current, set_value
from opentelemetry.trace import StatusCode

from otel_orders.context import Order, bound, current_order
from otel_orders.instrumentation.spans import OpenSpan, Outbound, Scope, end_dropped, end_later, guarded

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.instrumentation.conftest import Faults, Spans


def scope(order_id: str | None) -> Scope:
    return Scope(set_value("test", order_id), None if order_id is None else Order(order_id))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=30))
def test_scopes_that_open_and_close_in_any_order_leave_nothing_behind(steps: list[tuple[bool, int]]) -> None:
    with bound(Order("outer")):
        before = get_current()
        scopes: list[Scope] = []
        for opens, which in steps:
            if opens:
                scopes.append(scope(None if which == 0 else str(which)))
            elif scopes:
                scopes.pop(which % len(scopes)).close()
        for left in scopes:
            left.close()
        assert get_current() is before
        assert current_order() == Order("outer")


def test_the_innermost_scope_stays_current_when_an_outer_one_closes() -> None:
    outer, inner = scope("outer"), scope("inner")
    outer.close()
    assert current_order() == Order("inner")
    inner.close()


def test_closing_in_another_thread_leaves_both_threads_alone() -> None:
    opened = scope("1")
    seen: list[Any] = []

    def close_it() -> None:
        with bound(Order("theirs")):
            opened.close()
            seen.append(current_order())

    thread = threading.Thread(target=close_it)
    thread.start()
    thread.join()
    assert seen == [Order("theirs")]
    assert current_order() == Order("1")
    opened.close()


def test_a_task_that_inherited_a_scope_keeps_it_until_its_own_end() -> None:
    opened = scope("1")
    inherited = contextvars.copy_context()
    opened.close()
    assert current_order() is None
    assert inherited.run(current_order) == Order("1")


def test_a_span_is_ended_once_with_the_first_error(spans: Spans) -> None:
    opened = OpenSpan("test", spans.tracer.start_span("work"))
    opened.end(KeyError("first"))
    opened.end(ValueError("second"))
    assert (spans.one("work").attributes or {})["error.type"] == "KeyError"


@pytest.mark.parametrize("where", ["set_attribute", "end"])
def test_a_span_that_cannot_be_ended_is_a_fault_and_no_error(spans: Spans, faults: Faults, where: str) -> None:
    span: Any = spans.tracer.start_span("work")

    def fail(*_: Any) -> None:
        raise OSError

    setattr(span, where, fail)
    OpenSpan("test", span).end(RuntimeError())
    faults.expected = {"test"}


def test_a_guarded_step_returns_what_it_has_or_none(faults: Faults) -> None:
    assert guarded("test", int, "7") == 7
    assert faults.counted == set()
    assert guarded("test", int, "seven") is None
    faults.expected = {"test"}


def test_what_a_finalizer_lets_go_of_ends_when_the_next_span_begins_and_as_of_then(spans: Spans) -> None:
    dropped = OpenSpan("test", spans.tracer.start_span("dropped"))
    let_go_at = time.time_ns()
    end_later(dropped, let_go_at)
    assert not spans.of("dropped")
    OpenSpan("test", spans.tracer.start_span("next"))
    assert spans.one("dropped").end_time == let_go_at


def test_what_a_generator_sends_while_it_is_closed_ends_later(spans: Spans) -> None:
    def stepping(failure: type[Exception] | None) -> Generator[None]:
        with Outbound("test", spans.tracer.start_span("left")):
            try:
                yield
            finally:
                if failure is not None:
                    raise failure

    for failure in (None, OSError):
        steps = stepping(failure)
        next(steps)
        with pytest.raises(failure) if failure else nullcontext():
            steps.close()
        assert not spans.of("left")
        end_dropped()
        assert spans.one("left").status.status_code is StatusCode.UNSET
        spans.forget()


def test_what_was_ended_meanwhile_is_not_ended_again(spans: Spans) -> None:
    dropped = OpenSpan("test", spans.tracer.start_span("dropped"))
    end_later(dropped, 1)
    dropped.end()
    end_dropped()
    assert spans.one("dropped").end_time != 1


def test_a_child_of_a_fork_ends_its_own_spans_and_none_of_its_parents(spans: Spans) -> None:
    opened = OpenSpan("test", spans.tracer.start_span("the parent's"))
    end_later(OpenSpan("test", spans.tracer.start_span("the parent's, dropped")), 1)
    if (child := os.fork()) == 0:
        opened.end()
        OpenSpan("test", spans.tracer.start_span("the child's")).end()
        os._exit([span.name for span in spans.finished] != ["the child's"])
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    opened.end()
    end_dropped()
    assert [span.name for span in spans.finished] == ["the parent's", "the parent's, dropped"]
