"""The README's section "What is exact, and when": each of its sentences, word by word, with the test that proves it."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from otel_orders import names
from otel_orders.ledger import apply
from otel_orders.ledger.figures import report
from otel_orders.ledger.kept import unpack
from otel_orders.ledger.reading import Reading
from otel_orders.ledger.report import Selection
from otel_orders.ledger.sla import GRACE
from otel_orders.ledger.store import Batch, Received
from otel_orders.ledger.story import story
from tests.ledger import audit
from tests.ledger.senders import ENV, changed
from tests.ledger.strategies import DAY, HOUR, LIFECYCLE, MINUTE, PLAN, SECOND, START, event, path

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from otel_orders.ledger.kept import Kept
    from otel_orders.ledger.store.sqlite import SqliteStore

    Test = Callable[..., None]

README = (Path(__file__).parents[2] / "README.md").read_text()
SAID: list[str] = []
NOW = START + DAY
LIFE = path("INITIATED", "FILE_UPLOADED", "SUBMITTED", "PRICE_CALCULATED", pause=HOUR)
LOOP = path("INITIATED", "FILE_UPLOADED", "SUBMITTED", "PRICE_REJECTED", "FILE_UPLOADED", "SUBMITTED", pause=HOUR)
COUNTED = (names.TIME_IN_STATUS, names.MILESTONE, names.REACHED, names.SLA_MET, names.SLA_BREACHED)


def says(sentence: str) -> Callable[[Test], Test]:
    """Mark the test that proves *sentence*."""
    SAID.append(sentence)
    return lambda test: test


def keep(store: SqliteStore, *events: Kept) -> list[str]:
    """Let *events* of order 1 come, each by itself."""
    return [Batch(store, PLAN).ingest([Received("1", one)])[0] for one in events]


def told(store: SqliteStore) -> dict[str, Any]:
    return story("1", unpack(store.state("1") or b""), PLAN, NOW)


def stays(store: SqliteStore, status: str) -> int:
    """How many stays in *status* were counted."""
    return sum(
        count
        for series, count in store.totals().items()
        if series[:2] == (names.TIME_IN_STATUS, status) and series[-1] != "sum"
    )


def counted(store: SqliteStore) -> dict[tuple[str | int, ...], int]:
    return audit.totals(store, COUNTED)


def test_the_readme_says_exactly_what_is_tested_here() -> None:
    section = README.split("### What is exact, and when", 1)[1].split("\n##", 1)[0]
    bullets = [" ".join(bullet.split()) for bullet in re.split(r"\n- ", section)[1:]]
    assert bullets == SAID


@says("An event that comes twice, by whichever paths, counts once.")
def test_twice(store: SqliteStore) -> None:
    assert keep(store, *LIFE, *LIFE) == [apply.ACCEPTED] * 4 + [apply.DUPLICATE] * 4
    assert (stays(store, "SUBMITTED"), len(told(store)["events"])) == (1, 4)


@says("Events may come in any order: stays, status and story are the same in the end.")
@pytest.mark.parametrize("order", [(3, 2, 1, 0), (1, 0, 3, 2), (2, 3, 0, 1)])
def test_any_order(store: SqliteStore, order: tuple[int, ...]) -> None:
    keep(store, *(LIFE[place] for place in order))
    assert [visit["status"] for visit in told(store)["visits"]] == [one.to for one in LIFE]
    assert told(store)["oddities"] == []
    assert {status: stays(store, status) for status in ("INITIATED", "FILE_UPLOADED", "SUBMITTED")} == {
        "INITIATED": 1,
        "FILE_UPLOADED": 1,
        "SUBMITTED": 1,
    }


@says("A late event takes its place in the history, and never moves an order backwards.")
def test_late(store: SqliteStore) -> None:
    keep(store, *LIFE[:1], *LIFE[2:])
    before = told(store)
    keep(store, LIFE[1])
    after = told(store)
    assert (after["status"], after["since"]) == (before["status"], before["since"]) == ("PRICE_CALCULATED", LIFE[3].at)
    assert [visit["status"] for visit in after["visits"]] == [one.to for one in LIFE]


@says(
    "A step that nobody reported leaves a gap: no stay is made up for it, and those around it are counted"
    " when its event comes."
)
def test_gap(store: SqliteStore) -> None:
    keep(store, *LIFE[:1], *LIFE[2:])
    assert (stays(store, "INITIATED"), stays(store, "FILE_UPLOADED"), stays(store, "SUBMITTED")) == (0, 0, 1)
    assert any("an event is missing" in oddity for oddity in told(store)["oddities"])
    keep(store, LIFE[1])
    assert (stays(store, "INITIATED"), stays(store, "FILE_UPLOADED"), stays(store, "SUBMITTED")) == (1, 1, 1)
    assert counted(store)[names.REACHED, "FILE_UPLOADED"] == 1


@says(
    "A move that skips statuses, or that the lifecycle does not allow, is kept, counted as skipped or illegal"
    " and told in the story; the order is where its newest event says."
)
@pytest.mark.parametrize(("to", "result"), [("MANUFACTURING_STARTED", apply.SKIPPED), ("INITIATED", apply.ILLEGAL)])
def test_skipped_and_illegal(store: SqliteStore, to: str, result: str) -> None:
    assert keep(store, *LIFE, event(to, NOW, "PRICE_CALCULATED"))[-1] == result
    assert store.totals()[names.LEDGER_EVENTS, result] == 1
    assert told(store)["status"] == to
    assert told(store)["oddities"] == [f"{result} move from PRICE_CALCULATED to {to}, reported by shop-api"]


@says("An order that goes round has a stay for each time, and is counted once in `orders_reached_total`.")
def test_loop(store: SqliteStore) -> None:
    keep(store, *LOOP, event("PRICE_CALCULATED", NOW, "SUBMITTED"))
    assert (stays(store, "FILE_UPLOADED"), stays(store, "SUBMITTED")) == (2, 2)
    assert counted(store)[names.REACHED, "SUBMITTED"] == 1
    assert told(store)["oddities"] == []


@says(
    "A milestone or SLA starts at the first, the last or each entry, as the lifecycle says: who goes round is"
    " measured as that says."
)
def test_start(store: SqliteStore) -> None:
    again = [*LOOP, event("PRICE_CALCULATED", LOOP[-1].at + MINUTE, "SUBMITTED")]
    rest = path("PRICE_CALCULATED", "MANUFACTURING_APPROVED", "MANUFACTURING_STARTED", start=again[-1].at)[1:]
    keep(store, *again, *[event(one.to, one.at, one.left) for one in rest])
    sums = {
        str(series[1]): took
        for series, took in store.totals().items()
        if (series[0], series[-1]) == (names.MILESTONE, "sum")
    }
    assert sums["submitted_to_manufacturing"] == 3 * 60_000  # last: from the second time on
    assert sums["submitted_to_priced"] == 60_000 + (3 * 3600 + 60) * 1000  # each: the first one took the way round


@says(
    "A cancelled order leaves no time in a milestone, and breaks no promise but one that was due, with its"
    " grace, before."
)
def test_cancelled(store: SqliteStore) -> None:
    late = event("CANCELLED", LIFE[2].at + 5 * MINUTE + GRACE + 1, "SUBMITTED")
    keep(store, *LIFE[:3], late)
    found = counted(store)
    assert [series for series in found if series[0] == names.MILESTONE] == []
    assert [series[1] for series in found if series[0] == names.SLA_BREACHED] == ["price_in_5_minutes"]
    assert [series for series in found if series[0] == names.SLA_MET] == []


def test_cancelled_in_time(store: SqliteStore) -> None:
    """The other side of the same sentence."""
    keep(store, *LIFE[:3], event("CANCELLED", LIFE[2].at + 5 * MINUTE + GRACE, "SUBMITTED"))
    Batch(store, PLAN).sweep(NOW + 60 * DAY)
    assert [series for series in counted(store) if series[0] in (names.SLA_BREACHED, names.SLA_MET)] == []


@says(
    "Clocks of services may differ by 10 s: within that, what an event says that it left decides, and not its"
    " time; the negative stay is counted nowhere, and told."
)
def test_skew(store: SqliteStore) -> None:
    early = event("PRICE_CALCULATED", LIFE[2].at - 9 * SECOND, "SUBMITTED", service="pricing-worker")
    assert keep(store, *LIFE[:3], early)[-1] == apply.NEGATIVE_DURATION
    assert told(store)["status"] == "PRICE_CALCULATED"
    assert stays(store, "SUBMITTED") == 0
    assert [oddity for oddity in told(store)["oddities"] if "the clocks of two services differ" in oddity]


@says("Beyond 10 s time decides, and the story says that something is missing.")
def test_more_skew(store: SqliteStore) -> None:
    keep(store, *LIFE[:3], event("PRICE_CALCULATED", LIFE[2].at - 11 * SECOND, "SUBMITTED"))
    assert told(store)["status"] == "SUBMITTED"
    assert [oddity for oddity in told(store)["oddities"] if "an event is missing" in oddity]


@says("Where senders give `order_version`, versions decide, whatever the clocks say.")
def test_versions(store: SqliteStore) -> None:
    keep(store, *(event(one.to, START - place * DAY, one.left, version=place) for place, one in enumerate(LIFE)))
    assert [visit["status"] for visit in told(store)["visits"]] == [one.to for one in LIFE]


@says(
    "Counters never go down: where a late event proves a counted value wrong, it stays,"
    " `order_corrections_total` says so, and the next equal value is not counted again."
)
def test_corrections(store: SqliteStore) -> None:
    # A snapshot of an hour later is taken for the stay's end, until the real one comes.
    seen = event("PRICE_CALCULATED", LIFE[3].at + HOUR, "SUBMITTED")
    keep(store, *LIFE[:3], seen)
    wrong = (names.TIME_IN_STATUS, "SUBMITTED", "retail", "sum")
    before = store.totals()
    keep(store, LIFE[3])
    after = store.totals()
    assert before[wrong] == 2 * 3600 * 1000
    assert after[wrong] == before[wrong] + 3600 * 1000
    assert after[names.CORRECTIONS, names.TIME_IN_STATUS] == 1
    assert all(after[series] >= count for series, count in before.items() if series[0] in COUNTED)
    loop = path("PRICE_CALCULATED", "FILE_UPLOADED", "SUBMITTED", start=NOW, pause=HOUR)[1:]
    ended = event("PRICE_CALCULATED", loop[-1].at + 2 * HOUR, "SUBMITTED")
    keep(store, *[event(one.to, one.at, one.left) for one in loop], ended)
    assert store.totals()[wrong] == after[wrong]


@says("A breach is counted 2 minutes after its deadline, so an event that is that late is in time.")
def test_grace(store: SqliteStore) -> None:
    deadline, batch = LIFE[2].at + 5 * MINUTE, Batch(store, PLAN)
    keep(store, *LIFE[:3])
    batch.sweep(deadline)
    batch.sweep(deadline + GRACE - 1)
    keep(store, event("PRICE_CALCULATED", deadline, "SUBMITTED"))
    found = counted(store)
    assert found[names.SLA_MET, "price_in_5_minutes", "retail"] == 1
    assert (names.SLA_BREACHED, "price_in_5_minutes", "retail") not in found
    assert [series for series in store.totals() if series[0] == names.CORRECTIONS] == []


@says("Gauges are right after each commit, to the second that timers were last looked at.")
def test_gauges(store: SqliteStore) -> None:
    batch, stuck_at = Batch(store, PLAN), LIFE[2].at + DAY
    keep(store, *LIFE[:3])
    for now, stuck in ((stuck_at - 1, 0), (stuck_at, 1)):
        while batch.sweep(now):
            pass
        assert store.totals().get((names.STUCK, "SUBMITTED"), 0) == stuck
    keep(store, event("PRICE_CALCULATED", stuck_at + HOUR, "SUBMITTED"))
    assert audit.totals(store, {names.STUCK, names.IN_STATUS}) == {(names.IN_STATUS, "PRICE_CALCULATED"): 1}


@says(
    "Stories and reports are told anew from all events, so they have no corrections: what came late is simply in them."
)
def test_reports(store: SqliteStore) -> None:
    keep(store, *LIFE[:3], event("PRICE_CALCULATED", LIFE[3].at + HOUR, "SUBMITTED"), LIFE[3])
    submitted = next(stay for stay in report(store, PLAN, Selection(), NOW).stays if stay.status == "SUBMITTED")
    assert (submitted.times.finished, submitted.times.average) == (1, 3600.0)


@says(
    "What is older than the retention, or more than 10 minutes ahead, is refused, counted as late or"
    " rejected, and its sender is told."
)
def test_refused() -> None:
    now = time.time_ns()
    reading = Reading(LIFECYCLE, ENV, now)
    for at in (now - 90 * DAY - 1, now - 90 * DAY, now + 600 * SECOND, now + 601 * SECOND):
        reading.take(changed("1", occurred_at=at))
    assert len(reading.received) == 2
    assert (reading.rejected, reading.reasons) == ({"late": 1, "rejected": 1}, {"late": 1, "future": 1})
