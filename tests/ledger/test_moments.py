"""Times of other systems: what they mean is certain, or they are refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from otel_orders.errors import ConfigurationError, EventError
from otel_orders.ledger.moments import Moments, zone

NS = 1_764_158_400_000_000_000
"""2025-11-26 12:00 UTC."""
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    "written",
    [
        "2025-11-26T12:00:00Z",
        "2025-11-26T13:00:00+01:00",
        " 2025-11-26 13:00:00.000000+01:00 ",
        "20251126T120000Z",
        "1764158400",
        "1764158400000",
        "1764158400000000",
        "1764158400000000000",
        1_764_158_400,
        datetime(2025, 11, 26, 12, tzinfo=UTC),
        datetime(2025, 11, 26, 6, tzinfo=timezone(timedelta(hours=-6))),
    ],
)
def test_a_time_that_says_its_distance_from_utc_needs_no_zone(written: object) -> None:
    assert Moments().read(written) == NS
    assert Moments(BERLIN).read(written) == NS


@pytest.mark.parametrize(
    ("written", "hours_before"),
    [
        ("2025-11-26T12:00:00", 1),  # winter
        ("2025-07-01 12:00", 2),  # summer
        ("2025-11-26", 1),
        ("2025-10-26T02:30:00", 2),  # comes twice; the first one is meant
        (datetime(2025, 7, 1, 12), 2),  # noqa: DTZ001 - that is the point
    ],
)
def test_one_that_does_not_is_read_in_the_zone_that_was_said(written: object, hours_before: int) -> None:
    with pytest.raises(EventError, match="no offset from UTC"):
        Moments().read(written)
    naive = written if isinstance(written, datetime) else datetime.fromisoformat(str(written))
    utc = naive.replace(tzinfo=UTC) - timedelta(hours=hours_before)
    assert Moments(BERLIN).read(written) == int(utc.timestamp()) * 10**9


def test_a_format_of_its_own_is_read_as_it_says() -> None:
    assert Moments(BERLIN, "%d.%m.%Y %H:%M").read("26.11.2025 13:00") == NS
    assert Moments(None, "%d.%m.%Y %H:%M %z").read("26.11.2025 13:00 +0100") == NS
    with pytest.raises(EventError, match="no time"):
        Moments(BERLIN, "%d.%m.%Y").read("2025-11-26")


def test_a_fraction_of_a_second_is_kept_to_the_microsecond() -> None:
    assert Moments().read("2025-11-26T12:00:00.123456Z") == NS + 123_456_000


@pytest.mark.parametrize(
    "written",
    ["", "yesterday", None, True, 1.5, "12", "202511261200", "20251126120000", "9" * 30, "-1764158400", [], "²"],
)
def test_what_is_no_time_is_refused(written: object) -> None:
    with pytest.raises(EventError) as refused:
        Moments(BERLIN).read(written)
    assert refused.value.reason == "bad_time"


def test_a_zone_that_there_is_not_is_a_mistake() -> None:
    assert zone(None) is None
    for name in ("Europe/Nowhere", "../etc/passwd", ""):
        with pytest.raises(ConfigurationError, match="expected the name of a zone"):
            zone(name)
