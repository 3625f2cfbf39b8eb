"""What takes events in gives way to look-ups, and is not stopped by them."""

from __future__ import annotations

import threading
import time

import pytest

from otel_orders.ledger import courtesy
from otel_orders.ledger.courtesy import AT_ONCE, Lookups


def given_way(lookups: Lookups) -> float:
    """Return for how many seconds another thread gives way."""
    taken: list[float] = []

    def work() -> None:
        before = time.monotonic()
        lookups.give_way()
        taken.append(time.monotonic() - before)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return taken[0]


def test_work_goes_on_at_once_when_the_last_look_up_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courtesy, "AT_ONCE", 60)
    lookups, going_on = Lookups(), threading.Event()

    def work() -> None:
        lookups.give_way()
        going_on.set()

    thread = threading.Thread(target=work)
    with lookups:
        with lookups:
            thread.start()
        assert not going_on.wait(0.05)
    assert going_on.wait(30)
    thread.join()


def test_work_waits_for_a_bounded_time_and_then_works_as_long() -> None:
    lookups = Lookups()
    with lookups:
        assert given_way(lookups) >= AT_ONCE
        lookups._busy_until += 60  # a slow machine may need longer than AT_ONCE to come here
        assert given_way(lookups) < 30
        lookups._busy_until = 0
        assert given_way(lookups) >= AT_ONCE


def test_the_thread_that_serves_does_not_wait_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courtesy, "AT_ONCE", 60)
    lookups, before = Lookups(), time.monotonic()
    with lookups:
        lookups.give_way()
    assert time.monotonic() - before < 30


def test_a_look_up_that_fails_has_ended() -> None:
    lookups = Lookups()
    with pytest.raises(ZeroDivisionError), lookups:
        raise ZeroDivisionError
    assert lookups._under_way == 0
