from __future__ import annotations

from collections import Counter
from itertools import pairwise

import msgspec
import pytest

from otel_orders import names
from otel_orders.ledger import model
from otel_orders.ledger.kept import CHANGED, FAILED, MESSAGE, OBSERVED, Fact, Fold, Kept, Order, pack, unpack
from otel_orders.ledger.model import Plan, due_at, folded, standing
from otel_orders.ledger.sla import GRACE
from otel_orders.lifecycle import parse_lifecycle
from tests.ledger.strategies import DAY, HOUR, MINUTE, PLAN, SECOND, START, event, path

LIFE = path("INITIATED", "FILE_UPLOADED", "SUBMITTED", "PRICE_CALCULATED")


def facts(events: list[Kept], swept_at: int = 0, plan: Plan = PLAN) -> Counter[Fact]:
    return Counter(folded(events, swept_at, plan)[1].added)


def visits(events: list[Kept]) -> list[tuple[object, ...]]:
    return sorted(fact[1:] for fact in facts(events).elements() if fact[0] == names.TIME_IN_STATUS)


def results(events: list[Kept], plan: Plan, swept_at: int = 0) -> Counter[Fact]:
    shown = (names.SLA_MET, names.SLA_BREACHED, names.MILESTONE)
    return Counter(fact for fact in facts(events, swept_at, plan).elements() if fact[0] in shown)


def now_is(events: list[Kept], now: int, plan: Plan = PLAN) -> set[Fact]:
    return standing(folded(events, now, plan)[0], now, plan)


def test_each_stay_is_counted_when_it_ends() -> None:
    assert visits(LIFE) == [(status, "retail", 60_000) for status in ("FILE_UPLOADED", "INITIATED", "SUBMITTED")]
    assert folded(LIFE, 0, PLAN)[0].entered_at == START + 3 * MINUTE


def test_a_gap_waits_for_its_missing_event_and_then_counts_both_visits() -> None:
    initiated, uploaded, submitted, priced = LIFE
    assert visits([initiated, submitted, priced]) == [("SUBMITTED", "retail", 60_000)]
    assert visits(LIFE) == sorted(
        [*visits([initiated, submitted, priced]), *visits([initiated, uploaded, submitted])[:2]]
    )


def test_what_is_not_said_is_inferred() -> None:
    assert visits([LIFE[0], event("FILE_UPLOADED", START + MINUTE)]) == [("INITIATED", "retail", 60_000)]


def test_a_stay_is_not_cut_in_two_by_a_handler_that_ran_twice() -> None:
    again = event("SUBMITTED", START + 2 * MINUTE + 20 * SECOND, "FILE_UPLOADED")
    assert visits([*LIFE, again]) == visits(LIFE)


def test_an_order_that_leaves_a_status_for_itself_stays_twice() -> None:
    again = event("SUBMITTED", START + 2 * MINUTE + 20 * SECOND, "SUBMITTED")
    stays = [("SUBMITTED", "retail", 20_000), ("SUBMITTED", "retail", 40_000)]
    assert visits([*LIFE, again])[-2:] == stays


def test_a_snapshot_of_what_is_known_says_nothing() -> None:
    seen = event("SUBMITTED", START + 2 * MINUTE + SECOND, kind=OBSERVED)
    assert facts([*LIFE, seen]) == facts(LIFE)


def test_a_snapshot_moves_an_order_that_telemetry_lost() -> None:
    fold, _ = folded([event("PACKAGING", START, kind=OBSERVED)], 0, PLAN)
    assert (fold.status, fold.entered_at) == ("PACKAGING", START)


@pytest.mark.parametrize("kind", [FAILED, MESSAGE])
def test_what_moves_nothing_is_not_folded(kind: int) -> None:
    failed = event("PRICE_CALCULATED", START + DAY, "SUBMITTED", kind=kind)
    assert folded([*LIFE, failed], 0, PLAN)[0] == folded(LIFE, 0, PLAN)[0]


def test_a_negative_stay_is_not_counted() -> None:
    early = event("PRICE_CALCULATED", START - SECOND, "SUBMITTED")
    assert visits([event("SUBMITTED", START), early]) == []
    assert folded([event("SUBMITTED", START), early], 0, PLAN)[0].status == "PRICE_CALCULATED"


def test_a_stay_that_is_over_a_limit_by_a_nanosecond_is_over_it_in_milliseconds() -> None:
    assert [model.milliseconds(value) for value in (0, 1, 1_000_000, 1_000_001)] == [0, 1, 1, 2]


def test_an_order_reaches_a_status_once() -> None:
    back = path("SUBMITTED", "PRICE_REJECTED", "FILE_UPLOADED", "SUBMITTED", start=START + HOUR)
    reached = Counter({fact: count for fact, count in facts([*LIFE, *back]).items() if fact[0] == names.REACHED})
    assert reached[names.REACHED, "SUBMITTED"] == 1
    assert reached.total() == 5


def test_statuses_that_nobody_declared_share_a_label() -> None:
    found = facts([event("MADE_UP", START), event("ALSO_MADE_UP", START + MINUTE, "MADE_UP")])
    assert found == {(names.REACHED, "unknown"): 1, (names.TIME_IN_STATUS, "unknown", "retail", 60_000): 1}


def test_a_partner_that_is_named_late_labels_what_comes_after() -> None:
    named = event("PRICE_CALCULATED", START + 3 * MINUTE, "SUBMITTED", partner="acme")
    assert [visit[1] for visit in visits([*LIFE[:3], named])] == ["retail", "retail", "acme"]


def plan_of(start: str = "last", within: str = "5m", void_on: str = "[GONE]") -> Plan:
    return Plan(
        parse_lifecycle(f"""
version: 1
statuses:
  NEW: {{owner: us, initial: true, next: [WORK]}}
  WORK: {{owner: us, next: [DONE, NEW, GONE], stuck_after: 1h}}
  DONE: {{owner: us, next: [SENT, WORK]}}
  SENT: {{owner: us, terminal: true}}
  GONE: {{owner: us, terminal: true}}
owners:
  us: {{services: [ours]}}
milestones:
  way: {{from: WORK, to: DONE, start: {start}}}
slas:
  quick: {{from: WORK, to: DONE, within: {within}, objective: 0.9, start: {start}, void_on: {void_on}}}
""")
    )


QUICK = plan_of()
DEADLINE = START + 5 * MINUTE
WORK = [event("NEW", START - HOUR), event("WORK", START, "NEW")]
MET, BREACHED = (names.SLA_MET, "quick", "retail"), (names.SLA_BREACHED, "quick", "retail")


@pytest.mark.parametrize(
    ("ended", "result"),
    [
        pytest.param(DEADLINE - MINUTE, MET, id="before the deadline"),
        pytest.param(DEADLINE, MET, id="at the deadline"),
        pytest.param(DEADLINE + 1, BREACHED, id="a nanosecond late"),
        pytest.param(DEADLINE + DAY, BREACHED, id="a day late"),
    ],
)
@pytest.mark.parametrize("swept_at", [0, DEADLINE, DEADLINE + 2 * DAY])
def test_a_promise_is_kept_up_to_its_deadline_whenever_it_is_looked_at(ended: int, result: Fact, swept_at: int) -> None:
    assert results([*WORK, event("DONE", ended, "WORK")], QUICK, swept_at)[result] == 1
    assert len(results([*WORK, event("DONE", ended, "WORK")], QUICK, swept_at)) == 2


@pytest.mark.parametrize(
    ("now", "shown", "counted"),
    [
        pytest.param(START + 4 * MINUTE - 1, set(), 0, id="young"),
        pytest.param(START + 4 * MINUTE, {(names.SLA_AT_RISK, "quick")}, 0, id="four fifths"),
        pytest.param(DEADLINE, {(names.SLA_OVERDUE, "quick")}, 0, id="deadline"),
        pytest.param(DEADLINE + GRACE - 1, {(names.SLA_OVERDUE, "quick")}, 0, id="within grace"),
        pytest.param(DEADLINE + GRACE, {(names.SLA_OVERDUE, "quick")}, 1, id="after grace"),
        pytest.param(START + HOUR, {(names.SLA_OVERDUE, "quick"), (names.STUCK, "WORK")}, 1, id="stuck"),
    ],
)
def test_a_promise_grows_risky_overdue_and_broken(now: int, shown: set[Fact], counted: int) -> None:
    assert now_is(WORK, now, QUICK) == {(names.IN_STATUS, "WORK"), *shown}
    assert results(WORK, QUICK, now)[BREACHED] == counted


def test_an_order_is_looked_at_when_each_of_its_timers_is_due() -> None:
    fold, _ = folded(WORK, 0, QUICK)
    looked_at, now = [], START
    while (now := due_at(fold, now, QUICK)) != model.NEVER:
        looked_at.append(now - START)
    assert looked_at == [4 * MINUTE, 5 * MINUTE, 7 * MINUTE, HOUR]


@pytest.mark.parametrize("ends", ["GONE", "SENT"])
def test_an_order_that_ended_is_nowhere_and_waits_for_nothing(ends: str) -> None:
    ended = [*WORK, event(ends, START + MINUTE, "WORK")]
    assert now_is(ended, START + 30 * DAY, QUICK) == set()
    assert due_at(folded(ended, 0, QUICK)[0], 0, QUICK) == model.NEVER
    assert results(ended, QUICK, START + 30 * DAY) == {}


def test_a_breach_that_was_due_before_the_order_was_cancelled_stays_one() -> None:
    assert results([*WORK, event("GONE", DEADLINE + GRACE + 1, "WORK")], QUICK)[BREACHED] == 1
    assert results([*WORK, event("GONE", DEADLINE + GRACE, "WORK")], QUICK) == {}


AGAIN = [event("NEW", START + 3 * MINUTE, "WORK"), event("WORK", START + 4 * MINUTE, "NEW")]


@pytest.mark.parametrize(
    ("start", "runs", "took"),
    [
        pytest.param("first", [BREACHED], [7], id="first"),
        pytest.param("last", [MET], [3], id="last"),
        pytest.param("each", [MET, BREACHED], [3, 7], id="each"),
    ],
)
def test_an_order_that_passes_twice_starts_the_clock_as_the_lifecycle_says(
    start: str, runs: list[Fact], took: list[int]
) -> None:
    done = event("DONE", START + 7 * MINUTE, "WORK")
    ways: list[Fact] = [(names.MILESTONE, "way", "retail", minutes * 60_000) for minutes in took]
    assert results([*WORK, *AGAIN, done], plan_of(start)) == Counter([*runs, *ways])


def test_a_clock_for_the_first_entry_does_not_start_again_after_its_end() -> None:
    way = path("WORK", "DONE", "WORK", "DONE")
    assert results(way, plan_of("first"))[MET] == 1
    assert results(way, plan_of("last"))[MET] == 2


def test_a_timer_beyond_what_a_store_can_hold_is_none() -> None:
    fold, _ = folded([event("WORK", model.NEVER - 1)], 0, QUICK)
    assert due_at(fold, 0, QUICK) == model.NEVER


def test_a_lifecycle_may_have_more_statuses_than_a_number_has_bits() -> None:
    statuses = [f"S{number}" for number in range(150)]
    lines = [f"  {here}: {{owner: us, initial: true, next: [{then}]}}\n" for here, then in pairwise(statuses)]
    sla = "".join(f"  sla{n}: {{from: S{n}, to: S149, within: 1h, objective: 0.9, start: first}}\n" for n in range(149))
    plan = Plan(
        parse_lifecycle(
            f"version: 1\nstatuses:\n{''.join(lines)}  S149: {{owner: us, terminal: true}}\n"
            f"owners:\n  us: {{services: [ours]}}\nslas:\n{sla}"
        )
    )
    fold, found = folded(path(*statuses), 0, plan)
    assert len(found.added) == 149 + 150 + 149
    assert unpack(pack(Order(fold))).fold == fold


def test_a_row_comes_back_as_it_was_packed() -> None:
    fold, _ = folded(LIFE, DEADLINE, PLAN)
    whole = Kept(
        b"1" * 16, CHANGED, START, "SUBMITTED", None, "shop-api", "acme", b"t" * 16, b"s" * 8, 5, 7, "E", {"a": 1.5}
    )
    order = Order(fold, DEADLINE, [*LIFE, whole], [(names.TIME_IN_STATUS, "SUBMITTED", "retail", 5)])
    assert unpack(pack(order)) == order


def test_a_row_of_an_older_layout_is_read() -> None:
    """Fields are only ever added at the end."""
    older = [["SUBMITTED", START, START], 5, [[b"1" * 16, CHANGED, START, "SUBMITTED", None, "shop-api"]]]
    kept = Kept(b"1" * 16, CHANGED, START, "SUBMITTED", None, "shop-api")
    assert unpack(msgspec.msgpack.encode(older)) == Order(Fold("SUBMITTED", START, START), 5, [kept])


def test_a_row_of_a_newer_layout_is_read() -> None:
    order = Order(Fold(), 5)
    newer = [*msgspec.msgpack.decode(pack(order)), "something new"]
    assert unpack(msgspec.msgpack.encode(newer)) == order
