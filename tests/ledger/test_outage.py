"""What is said and counted of a store that cannot be written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_orders.errors import StoreConflictError, StoreUnavailableError
from otel_orders.ledger.outage import Outage

if TYPE_CHECKING:
    import pytest

FULL = StoreUnavailableError("the disk is full", "full")


def test_a_full_disk_is_said_once_and_lasts_until_seconds_pass_without_a_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = [0.0]
    outage = Outage(lambda: now[0])
    for second in range(10):
        now[0] = second
        outage.failed(FULL)
        outage.succeeded()  # a small write, between large ones that fail
        assert outage.why == "the disk is full"
    now[0] = 20.0
    outage.succeeded()
    assert outage.why is None
    assert [record.message for record in caplog.records] == [
        "otel_orders: nothing can be kept now; senders are told to try again: the disk is full",
        "otel_orders: the store is written again, after 20 s",
    ]
    assert outage.errors == {"full": 10}


def test_an_outage_of_another_kind_is_over_with_the_first_success() -> None:
    outage = Outage(lambda: 0.0)
    outage.failed(StoreUnavailableError("the database is away"))
    outage.succeeded()
    assert (outage.why, outage.errors) == (None, {"unavailable": 1})


def test_outages_that_come_again_and_again_are_said_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    outage = Outage(lambda: now[0])
    for second in range(0, 120, 10):
        now[0] = second
        outage.failed(FULL)
        now[0] = second + 9
        outage.succeeded()
    assert caplog.text.count("nothing can be kept now") == 2


def test_a_lost_race_is_counted_and_is_no_outage() -> None:
    outage = Outage()
    outage.failed(StoreConflictError("another replica came first"))
    assert (outage.why, outage.errors) == (None, {"conflict": 1})
