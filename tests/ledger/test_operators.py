"""What people change by hand: holds that last, hide and come back, erasures that stay, and their audit."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from otel_orders import names
from otel_orders.errors import OperationError
from otel_orders.ledger import apply, model
from otel_orders.ledger.check import check
from otel_orders.ledger.kept import FAILED, Hold, unpack
from otel_orders.ledger.operators import LONGEST_HOLD, Operators, ends_at
from otel_orders.ledger.removals import Import
from otel_orders.ledger.sla import GRACE
from otel_orders.ledger.store import Batch, MessageNote, Received
from otel_orders.ledger.story import story
from tests.ledger import audit
from tests.ledger.stores import spoil
from tests.ledger.strategies import DAY, HOUR, LIFECYCLE, MINUTE, PLAN, SECOND, START, event, path

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_orders.ledger.kept import Kept
    from otel_orders.ledger.store.sqlite import SqliteStore

SUBMITTED = path("INITIATED", "FILE_UPLOADED", "SUBMITTED", pause=SECOND)
STUCK_AT = SUBMITTED[-1].at + DAY


class Clock:
    def __init__(self, now: int = START) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock(SUBMITTED[-1].at + HOUR)


@pytest.fixture
def operators(store: SqliteStore, clock: Clock) -> Operators:
    return Operators(store, PLAN, clock)


def keep(store: SqliteStore, order_id: str, events: list[Kept]) -> list[str]:
    return Batch(store, PLAN).ingest([Received(order_id, one) for one in events])


def gauge(store: SqliteStore, name: str, label: str = "SUBMITTED") -> int:
    return store.totals().get((name, label), 0)


def test_an_order_on_hold_is_not_stuck_and_comes_back_when_the_hold_ends(
    store: SqliteStore, operators: Operators, clock: Clock
) -> None:
    batch = Batch(store, PLAN)
    keep(store, "1", SUBMITTED)
    clock.now = STUCK_AT + HOUR
    batch.sweep(clock.now)
    assert (gauge(store, names.STUCK), gauge(store, names.ON_HOLD)) == (1, 0)

    hold = operators.hold("1", "3d", "the customer is on holiday", "anna")

    assert hold == Hold(clock.now + 3 * DAY, "the customer is on holiday", "anna", clock.now)
    assert (gauge(store, names.STUCK), gauge(store, names.ON_HOLD), gauge(store, names.IN_STATUS)) == (0, 1, 1)
    batch.sweep(hold.until - 1)
    assert (gauge(store, names.STUCK), gauge(store, names.ON_HOLD)) == (0, 1)
    batch.sweep(hold.until)
    assert (gauge(store, names.STUCK), gauge(store, names.ON_HOLD), gauge(store, names.IN_STATUS)) == (1, 0, 1)
    assert check(store, PLAN).right


def test_a_hold_before_the_limit_keeps_the_order_from_becoming_stuck(store: SqliteStore, operators: Operators) -> None:
    keep(store, "1", SUBMITTED)
    hold = operators.hold("1", "2d", "a part is missing", "anna")
    Batch(store, PLAN).sweep(STUCK_AT + HOUR)
    assert (gauge(store, names.STUCK), gauge(store, names.ON_HOLD)) == (0, 1)
    Batch(store, PLAN).sweep(hold.until)
    assert (gauge(store, names.STUCK), gauge(store, names.ON_HOLD)) == (1, 0)


def test_a_hold_stops_no_promise(store: SqliteStore, operators: Operators, clock: Clock) -> None:
    keep(store, "1", SUBMITTED)
    clock.now = SUBMITTED[-1].at + SECOND
    operators.hold("1", "30d", "whatever", "anna")
    Batch(store, PLAN).sweep(SUBMITTED[-1].at + 5 * MINUTE + GRACE)
    assert gauge(store, names.SLA_OVERDUE, "price_in_5_minutes") == 1
    assert store.totals()[names.SLA_BREACHED, "price_in_5_minutes", "retail"] == 1


def test_a_released_order_is_stuck_at_once_if_it_is(store: SqliteStore, operators: Operators, clock: Clock) -> None:
    keep(store, "1", SUBMITTED)
    clock.now = STUCK_AT + HOUR
    operators.hold("1", "3d", "whatever", "anna")
    clock.now += HOUR
    operators.release("1", "berta")
    assert (gauge(store, names.STUCK), gauge(store, names.ON_HOLD)) == (1, 0)
    with pytest.raises(OperationError, match="not on hold"):
        operators.release("1", "berta")


def test_a_hold_goes_with_the_order_and_ends_with_it(store: SqliteStore, operators: Operators, clock: Clock) -> None:
    keep(store, "1", SUBMITTED)
    operators.hold("1", "30d", "whatever", "anna")
    keep(store, "1", [event("PRICE_CALCULATED", clock.now + HOUR, "SUBMITTED")])
    assert (gauge(store, names.ON_HOLD), gauge(store, names.ON_HOLD, "PRICE_CALCULATED")) == (0, 1)
    keep(store, "1", [event("CANCELLED", clock.now + 2 * HOUR, "PRICE_CALCULATED")])
    assert audit.totals(store, {names.ON_HOLD}) == {}
    assert check(store, PLAN).right


def test_a_hold_survives_a_refold_another_lifecycle_and_a_restart(
    store: SqliteStore, operators: Operators, open_store: Callable[[], SqliteStore]
) -> None:
    keep(store, "1", SUBMITTED[1:])
    hold = operators.hold("1", "30d", "whatever", "anna")
    keep(store, "1", SUBMITTED[:1])  # late: its history is folded anew
    assert gauge(store, names.ON_HOLD) == 1
    patient = msgspec.structs.replace(LIFECYCLE, hash="another")
    Batch(store, model.Plan(patient)).rebase()
    assert gauge(store, names.ON_HOLD) == 1
    again = open_store()
    assert unpack(again.state("1") or b"").hold == hold
    assert gauge(again, names.ON_HOLD) == 1


def test_a_new_hold_takes_the_place_of_the_one_before(store: SqliteStore, operators: Operators, clock: Clock) -> None:
    keep(store, "1", SUBMITTED)
    operators.hold("1", "30d", "whatever", "anna")
    hold = operators.hold("1", "1d", "sooner", "berta")
    assert gauge(store, names.ON_HOLD) == 1
    assert unpack(store.state("1") or b"").hold == hold
    clock.now = hold.until
    Batch(store, PLAN).sweep(clock.now)
    assert (gauge(store, names.STUCK), gauge(store, names.ON_HOLD)) == (1, 0)


def test_the_story_says_who_holds_the_order_until_when_and_why(
    store: SqliteStore, operators: Operators, clock: Clock
) -> None:
    keep(store, "1", SUBMITTED)
    hold = operators.hold("1", "3d", "call anna@example.com", "berta")
    told = story("1", unpack(store.state("1") or b""), PLAN, STUCK_AT + HOUR)
    assert (told["stuck"], told["stuck_at"]) == (False, hold.until)
    expected = {"until": hold.until, "why": "call [email]", "by": "berta", "at": clock.now, "lasts": True}
    assert told["hold"] == expected
    later = story("1", unpack(store.state("1") or b""), PLAN, hold.until)
    assert (later["stuck"], later["hold"]) == (True, expected | {"lasts": False})


@pytest.mark.parametrize(
    ("order_id", "says"),
    [
        ("nobody", "no event of this order"),
        ("ended", "has ended in CANCELLED"),
        ("failed", "status is not known yet"),
        ("rotten", "cannot be read"),
    ],
)
def test_what_cannot_wait_cannot_be_held(store: SqliteStore, operators: Operators, order_id: str, says: str) -> None:
    keep(store, "ended", path("INITIATED", "CANCELLED"))
    keep(store, "failed", [event("INITIATED", START, kind=FAILED)])
    keep(store, "rotten", SUBMITTED)
    spoil(store, "rotten", b"\xff")
    before = store.totals()
    with pytest.raises(OperationError, match=says) as refused:
        operators.hold(order_id, "3d", "whatever", "anna")
    assert refused.value.known is (order_id != "nobody")
    assert (store.totals(), operators.audit()) == (before, [])


NOON = int(datetime.fromisoformat("2026-12-20T12:00+00:00").timestamp()) * SECOND


@pytest.mark.parametrize(
    ("until", "at"),
    [
        ("2026-12-24", datetime(2026, 12, 24).astimezone()),
        ("2026-12-24T10:00+01:00", datetime.fromisoformat("2026-12-24T09:00+00:00")),
        ("2026-12-24T10:00:00Z", datetime.fromisoformat("2026-12-24T10:00+00:00")),
        ("3d", datetime.fromisoformat("2026-12-23T12:00+00:00")),
        ("1h30m", datetime.fromisoformat("2026-12-20T13:30+00:00")),
    ],
)
def test_the_end_of_a_hold_is_a_date_a_moment_or_a_time_from_now(until: str, at: datetime) -> None:
    assert ends_at(until, NOON) == int(at.timestamp()) * SECOND


@pytest.mark.parametrize(
    ("until", "says"),
    [
        ("soon", "expected 2026-12-24, 2026-12-24T10:00"),
        ("", "expected"),
        ("2026-13-24", "expected"),
        ("2026-12-24T10:00", "no offset from UTC"),
        ("2026-12-19", "is over"),
        ("2020-01-01T00:00Z", "is over"),
        (f"{LONGEST_HOLD // DAY + 1}d", "more than a year"),
    ],
)
def test_an_end_that_is_none_says_what_is_expected(until: str, says: str) -> None:
    with pytest.raises(OperationError, match=says):
        ends_at(until, NOON)


@pytest.mark.parametrize("text", ["", " ", "two\nlines", "x" * 257, "\x1b[2J"])
def test_a_reason_and_a_name_are_one_line_of_text(store: SqliteStore, operators: Operators, text: str) -> None:
    keep(store, "1", SUBMITTED)
    for why, by in ((text, "anna"), ("whatever", text)):
        with pytest.raises(OperationError, match="expected 1 to 256 printable characters"):
            operators.hold("1", "3d", why, by)
    assert unpack(store.state("1") or b"").hold is None


def test_an_erased_order_is_gone_and_its_counters_stay(store: SqliteStore, operators: Operators) -> None:
    failure = event("PRICE_CALCULATED", START + MINUTE, "SUBMITTED", kind=FAILED, error_code="NoMesh")
    keep(store, "anna@example.com", [*SUBMITTED, failure])
    keep(store, "2", SUBMITTED)
    counted = audit.counters(store)

    operators.erase("anna@example.com", "berta")

    assert store.state("anna@example.com") is None
    assert audit.totals(store, model.STANDING) == {(names.IN_STATUS, "SUBMITTED"): 1}
    assert audit.counters(store) == counted | {(names.REMOVED, "erased"): 1}
    assert check(store, PLAN).right
    with pytest.raises(OperationError, match="no event of this order"):
        operators.erase("anna@example.com", "berta")


def test_what_comes_later_of_an_erased_order_is_refused_also_elsewhere_and_after_a_restart(
    store: SqliteStore, operators: Operators, open_store: Callable[[], SqliteStore]
) -> None:
    running = Batch(store, PLAN)
    running.ingest([Received("1", one) for one in SUBMITTED])
    operators.erase("1", "anna")
    later = event("PRICE_CALCULATED", START + HOUR, "SUBMITTED")
    received = [Received("1", later), Received("2", later)]
    assert running.ingest(received) == [apply.ERASED, apply.ACCEPTED]
    assert Batch(open_store(), PLAN).ingest(received) == [apply.ERASED, apply.DUPLICATE]
    assert store.state("1") is None
    assert store.totals()[names.LEDGER_EVENTS, "erased"] == 2
    assert check(store, PLAN).right


@pytest.mark.parametrize("kind", ["sqlite"], scope="session")
@pytest.mark.parametrize("partner", [False, True], ids=["order", "partner"])
def test_nothing_of_an_erased_order_is_left_in_the_file_or_its_log(
    store: SqliteStore, operators: Operators, *, partner: bool
) -> None:
    secret = "anna-9f86d081"  # noqa: S105 - of a person
    keep(store, secret, [msgspec.structs.replace(one, partner=f"{secret}-gmbh") for one in SUBMITTED])
    operators.hold(secret, "3d", f"{secret} is away", "berta")
    with store.transaction() as tx:
        tx.published([MessageNote("pricing.requests", "m-1", secret, START)])
    files = [Path(store._path), Path(f"{store._path}-wal")]
    assert any(secret.encode() in file.read_bytes() for file in files)
    (operators.erase_partner if partner else operators.erase)(f"{secret}-gmbh" if partner else secret, "berta")
    assert store.oldest_messages()["pricing.requests"].order_id == ""
    assert not any(secret.encode() in file.read_bytes() for file in files)  # the store is still open
    with store.snapshot():  # a reader of an older moment keeps no operator from his work
        store._writer.execute("PRAGMA busy_timeout = 10")
        keep(store, "1", SUBMITTED)
        operators.erase("1", "berta")


def test_a_tombstone_lasts_for_ever_since_an_import_takes_events_however_old(
    store: SqliteStore, operators: Operators, clock: Clock
) -> None:
    plan = model.Plan(LIFECYCLE)
    batch = Batch(store, plan)
    batch.ingest([Received("1", one) for one in SUBMITTED])
    operators.erase("1", "anna")
    later = clock.now + 1000 * DAY
    Batch(store, plan).sweep(later)
    [(tombstone, _)] = store.items("erased:").items()
    assert re.fullmatch("erased:[0-9a-f]{32}", tombstone)  # no plain id
    for one in (Batch(store, plan), batch):
        imported = one.ingest([Received("1", SUBMITTED[0])], imported=Import(later))
        assert imported == [apply.ERASED]
    assert store.state("1") is None


def test_all_orders_of_a_partner_are_erased_and_no_others(store: SqliteStore, operators: Operators) -> None:
    for number in range(1200):
        partner = ("acme", "globex", None)[number % 3]
        keep_one = [msgspec.structs.replace(one, partner=partner) for one in SUBMITTED]
        Batch(store, PLAN).ingest([Received(f"{number:04}", one) for one in keep_one[:1]])
    assert operators.erase_partner("acme", "anna") == 400
    left = audit.orders(store)
    assert len(left) == 800
    assert not [order for order in left.values() if order.fold.partner == "acme"]
    assert Batch(store, PLAN).ingest([Received("0000", SUBMITTED[1])]) == [apply.ERASED]
    assert check(store, PLAN).right
    assert operators.erase_partner("acme", "anna") == 0


def test_a_partner_whose_id_no_person_would_write_is_erased_too(store: SqliteStore, operators: Operators) -> None:
    keep(store, "1", [msgspec.structs.replace(one, partner="a\nb") for one in SUBMITTED])
    assert operators.erase_partner("a\nb", "anna") == 1
    for none in ("", "x" * 257):
        with pytest.raises(OperationError, match="partner_id: expected 1 to 256 characters"):
            operators.erase_partner(none, "anna")


def test_the_audit_says_who_did_what_when_and_names_no_order(
    store: SqliteStore, operators: Operators, clock: Clock
) -> None:
    keep(store, "order-1", [msgspec.structs.replace(one, partner="acme") for one in SUBMITTED])
    keep(store, "order-2", [msgspec.structs.replace(one, partner="acme") for one in SUBMITTED])
    start = clock.now
    operators.hold("order-1", "3d", "whatever", "anna")
    clock.now += SECOND
    operators.release("order-1", "berta")
    clock.now += SECOND
    operators.erase("order-1", "carl")
    clock.now += SECOND
    operators.erase_partner("acme", "dora")
    found = operators.audit()
    assert [(entry.what, entry.by, entry.at - start, entry.orders) for entry in found] == [
        ("hold", "anna", 0, 1),
        ("release", "berta", SECOND, 1),
        ("erase", "carl", 2 * SECOND, 1),
        ("erase_partner", "dora", 3 * SECOND, 1),
    ]
    assert found[0].until == start + 3 * DAY
    assert [entry.what for entry in operators.audit("order-1")] == ["hold", "release", "erase"]
    assert operators.audit("order-2") == []
    told = msgspec.json.encode(found)
    assert b"order-1" not in told
    assert b"acme" not in told
