"""The watch over a store: what it decides, keeps and learns; two of them, and one that was away."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from otel_orders import names
from otel_orders.ledger import flow, queues
from otel_orders.ledger.flow import read_verdicts
from otel_orders.ledger.operators import Operators
from otel_orders.ledger.queues import QueueFact
from otel_orders.ledger.rhythm import Rhythm
from otel_orders.ledger.service import Ledger, open_store
from otel_orders.ledger.stages import BLIND, FLOWING, STALLED
from otel_orders.ledger.store import Batch, MessageNote, Received, Seen
from otel_orders.ledger.store.postgres import PostgresStore
from otel_orders.ledger.watch import Watch
from tests.ledger.senders import ENV, changed
from tests.ledger.strategies import DAY, HOUR, LIFECYCLE, MINUTE, PLAN, SECOND, START, event
from tests.ledger.test_metrics import keep, value
from tests.sinks.receiver import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from otel_orders.ledger.store.sqlite import SqliteStore

QUEUE = "pricing.requests"
NEVER = 10**6
"""Seconds between two looks of a watch that looks when it is told to."""


class World:
    """A store in which time passes when a test says so."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.now = START
        self.watch = Watch(store, LIFECYCLE, NEVER)
        self.watch._since = START
        self._batch = Batch(store, PLAN)
        self._count = 0

    def wait(self, span: int, *, beats: bool = True, step: int = 10 * SECOND) -> None:
        """Let *span* ns pass, with looks in between; beats: whether all services are heard."""
        end = self.now + span
        while self.now < end:
            self.now = min(self.now + step, end)
            services = sorted(LIFECYCLE.services) if beats else []
            self._batch.ingest([], seen=[Seen(name, "i", "", self.now, "") for name in services], now=self.now)
            self.watch.look(self.now)

    def submit(self, order_id: str | None = None) -> str:
        self._count += 1
        order_id = order_id or f"A-{self._count}"
        self.take(order_id, event("SUBMITTED", self.now, "FILE_UPLOADED", id=self._count.to_bytes(16)))
        return order_id

    def price(self, order_id: str) -> None:
        self._count += 1
        self.take(order_id, event("PRICE_CALCULATED", self.now, "SUBMITTED", id=self._count.to_bytes(16)))

    def take(self, order_id: str, one: Any) -> None:
        self._batch.ingest([Received(order_id, one)], now=self.now)

    def state(self, status: str = "SUBMITTED", store: SqliteStore | None = None) -> str:
        verdict = read_verdicts(store or self.store).get(status)
        return FLOWING if verdict is None else verdict.state

    def rhythm(self, status: str = "SUBMITTED") -> Rhythm:
        return msgspec.json.decode(self.store.get(flow.RHYTHMS + status) or "{}", type=Rhythm)


@pytest.fixture
def world(store: SqliteStore) -> Iterator[World]:
    made = World(store)
    made.wait(MINUTE)
    yield made
    made.watch.close()


def test_a_stage_that_nobody_leaves_is_stalled_after_its_limit_and_flows_again(world: World) -> None:
    first, second = world.submit(), world.submit()
    world.wait(30 * MINUTE - 10 * SECOND)
    assert world.state() == FLOWING
    world.wait(10 * SECOND)
    assert world.state() == STALLED
    world.price(first)
    world.wait(30 * SECOND)
    assert world.state() == STALLED
    world.price(second)
    world.wait(10 * SECOND)
    assert world.state() == FLOWING


def test_an_order_that_was_lost_stalls_no_stage(world: World) -> None:
    world.submit("lost")
    for _ in range(8):
        other = world.submit()
        world.wait(5 * MINUTE, step=40 * SECOND)
        world.price(other)
    world.wait(2 * HOUR, step=40 * SECOND)
    assert world.state() == FLOWING


def test_who_was_overtaken_is_found_among_many(world: World) -> None:
    for place in range(60):
        world.submit(f"lost-{place}")
    world.wait(MINUTE)
    world.price(world.submit())
    world.wait(MINUTE)
    world.submit("waits")
    world.wait(30 * MINUTE, step=40 * SECOND)
    assert world.state() == STALLED
    assert "61 orders wait, the first for 30 min" in world.watch.told_at(world.now)["SUBMITTED"].evidence


def test_a_stage_is_found_stalled_however_many_were_overtaken(world: World) -> None:
    """Twelve hundred lost orders, as after a purge, and then nobody leaves any more."""
    arrivals = [event("SUBMITTED", world.now, "FILE_UPLOADED", id=place.to_bytes(16)) for place in range(1, 1201)]
    world.now += SECOND
    world._batch.ingest([Received(f"lost-{one.id.hex()}", one) for one in arrivals], now=world.now)
    world._count = 1201
    world.wait(MINUTE)
    world.price(world.submit())
    world.wait(35 * MINUTE, step=MINUTE)
    assert world.state() == FLOWING  # nobody else waits
    world.submit()
    world.wait(31 * MINUTE, step=MINUTE)
    assert world.state() == STALLED


def test_an_order_on_hold_stalls_no_stage_until_the_hold_ends(world: World) -> None:
    operators = Operators(world.store, PLAN, lambda: world.now)
    first = world.submit("A-1")
    world.wait(10 * MINUTE, step=MINUTE)
    operators.hold(first, "2h", "a part is missing", "ann")
    world.wait(HOUR, step=MINUTE)
    assert world.state() == FLOWING
    assert "1 on hold" in world.watch.told_at(world.now)["SUBMITTED"].evidence
    world.wait(HOUR + 29 * MINUTE, step=MINUTE)
    assert world.state() == FLOWING
    world.wait(2 * MINUTE, step=MINUTE)
    assert world.state() == STALLED
    operators.hold(first, "2h", "still missing", "ann")
    world.wait(10 * SECOND)
    assert world.state() == FLOWING


def test_a_stage_is_stalled_by_the_orders_beside_those_on_hold(world: World) -> None:
    operators = Operators(world.store, PLAN, lambda: world.now)
    for _ in range(4):
        operators.hold(world.submit(), "1d", "a part is missing", "ann")
        world.wait(MINUTE)
    world.submit()
    world.wait(29 * MINUTE, step=MINUTE)
    assert world.state() == FLOWING
    world.wait(2 * MINUTE, step=MINUTE)
    assert world.state() == STALLED
    evidence = world.watch.told_at(world.now)["SUBMITTED"].evidence
    assert "5 orders wait, the first for 31 min; 4 on hold" in evidence


def test_a_stage_is_blind_when_the_consumer_of_its_queue_is_not_heard(world: World) -> None:
    world.wait(2 * MINUTE + 20 * SECOND, beats=False)
    assert world.state() == BLIND
    assert world.state("MANUFACTURING_STARTED") == BLIND
    assert world.state("MANUFACTURING_COMPLETED") == FLOWING  # the old MES cannot send heartbeats
    world.wait(20 * SECOND)
    assert world.state() == FLOWING


def test_what_the_broker_says_is_in_the_evidence_and_tells_dead_from_mute(world: World) -> None:
    world.submit()
    for _ in range(40):
        world.wait(MINUTE, beats=False, step=30 * SECOND)
        fact = QueueFact(QUEUE, world.now, world.now + 2 * MINUTE, ready=31, unacked=0, consumers=0)
        with world.store.transaction() as tx:
            tx.put(queues.FACTS + QUEUE, queues.encode(fact))
    assert world.state() == STALLED
    evidence = world.watch.told_at(world.now)["SUBMITTED"].evidence
    assert "queue pricing.requests holds 31, no consumer" in evidence
    assert "pricing-worker has been quiet for 40 min" in evidence


def test_after_a_restart_and_in_a_replica_it_is_the_same(world: World, open_store: Callable[[], SqliteStore]) -> None:
    world.submit()
    world.wait(31 * MINUTE)
    other = open_store()
    assert world.state(store=other) == STALLED
    with closing(Watch(other, LIFECYCLE, NEVER)) as replica:
        replica.look(world.now)
        assert read_verdicts(other) == read_verdicts(world.store)
        assert replica.told_at(world.now) == world.watch.told_at(world.now)


def test_what_happened_while_nobody_listened_is_no_silence(world: World) -> None:
    world.submit()
    world.now += DAY  # the ledger was away
    world.wait(29 * MINUTE)
    assert world.state() == FLOWING
    world.wait(2 * MINUTE)
    assert world.state() == STALLED


def test_a_short_break_does_not_start_it_anew(world: World) -> None:
    world.submit()
    world.wait(20 * MINUTE)
    world.now += 40 * SECOND  # a restart
    world.wait(10 * MINUTE)
    assert world.state() == STALLED


def test_two_watches_learn_a_gap_once(world: World, open_store: Callable[[], SqliteStore]) -> None:
    with closing(Watch(open_store(), LIFECYCLE, NEVER)) as replica:
        for _ in range(5):
            order_id = world.submit()
            world.wait(20 * SECOND)
            replica.look(world.now)
            world.price(order_id)
            world.wait(SECOND)
            replica.look(world.now)
    assert sum(world.rhythm().gaps["workday 2"]) == 4  # before the first, nothing is known
    assert world.rhythm().gaps["workday 2"][5] == 4


def test_nights_are_learned_from_what_really_happens(world: World) -> None:
    for _ in range(3 * 24):
        waiting = world.submit()
        world.wait(HOUR, step=15 * MINUTE)
        if 9 <= world.now // HOUR % 24 < 18:
            world.price(waiting)
    monday = world.rhythm()._closed()[:24]
    # In the zone of the lifecycle's calendar, which is three hours ahead.
    assert [hour for hour, closed in enumerate(monday) if not closed] == list(range(12, 21))


def test_nothing_is_written_where_nothing_is_new(world: World) -> None:
    world.wait(MINUTE)
    if isinstance(world.store, PostgresStore):
        pytest.skip("only SQLite counts what is written")
    before = world.store._writer.total_changes
    world.watch.look(world.now)
    world.watch.look(world.now)
    assert world.store._writer.total_changes == before


def test_settled_messages_are_forgotten_and_waiting_ones_are_not(world: World) -> None:
    with world.store.transaction() as tx:
        tx.published([MessageNote(QUEUE, f"m-{place}", "A-1", START + place * MINUTE) for place in range(3)])
        tx.settled([MessageNote(QUEUE, "m-0", "A-1", START + MINUTE)])

    def kept() -> int:
        count: int = world.store._read("SELECT count(*) FROM messages")[0][0]
        return count

    world.wait(55 * MINUTE, step=MINUTE)
    assert kept() == 3
    world.wait(20 * MINUTE, step=MINUTE)
    assert kept() == 2
    with world.store.transaction() as tx:  # an older one, which waits, keeps none of them
        tx.settled([MessageNote(QUEUE, "m-2", "A-1", world.now)])
    world.wait(62 * MINUTE, step=MINUTE)
    assert kept() == 1
    world.now += 91 * DAY
    world.wait(MINUTE)
    assert kept() == 0
    assert world.store.totals()[names.MESSAGES_GONE, QUEUE] == 1


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    patient = {name: msgspec.structs.replace(s, stalled_after=None) for name, s in LIFECYCLE.statuses.items()}
    hasty = msgspec.structs.replace(LIFECYCLE.statuses["SUBMITTED"], stalled_after=SECOND)
    lifecycle = msgspec.structs.replace(LIFECYCLE, statuses=patient | {"SUBMITTED": hasty})
    with closing(Ledger(open_store(f"sqlite:///{tmp_path / 'ledger.db'}"), lifecycle, ENV)) as opened:
        yield opened


def test_a_stalled_stage_is_in_the_metrics_on_the_board_and_in_the_story_of_its_orders(ledger: Ledger) -> None:
    assert value(ledger, names.STAGE_STALLED, status="SUBMITTED") == 0
    assert value(ledger, names.STAGE_BLIND, status="SUBMITTED") == 0
    assert value(ledger, names.STAGE_STALLED, status="CLOSED") is None
    keep(ledger, changed("A-1", "SUBMITTED", "FILE_UPLOADED"), changed("A-2", "CLOSED", "SHIPPED"))
    wait_for(lambda: value(ledger, names.STAGE_STALLED, status="SUBMITTED") == 1)
    (stage,) = [stage for stage in ledger.board() if stage.state == STALLED]
    assert stage.status == "SUBMITTED"
    assert stage.evidence.startswith("no order has left SUBMITTED yet; 1 order waits for ")
    told = ledger.story("A-1")
    assert told
    assert told["stage"]["state"] == STALLED
    ended = ledger.story("A-2")
    assert ended
    assert ended["stage"] is None


def test_services_that_run_another_lifecycle_are_counted_and_named(ledger: Ledger) -> None:
    now = time.time_ns()

    def beat(service: str, instance: str, lifecycle_hash: str, at: int = now) -> dict[str, Any]:
        told = changed("", event_type=names.HEARTBEAT, service=service, instance=instance, occurred_at=at)
        return told | {"lifecycle_hash": lifecycle_hash}

    keep(ledger, beat("mes-api", "a", "old1"), beat("mes-api", "b", "old2"), beat("mes-api", "c", LIFECYCLE.hash))
    keep(ledger, beat("crm-api", "a", ""), beat("shop-api", "a", "old1", now - HOUR), changed("A-1"))
    found = {service: value(ledger, names.OTHER_LIFECYCLE, service_name=service) for service in LIFECYCLE.services}
    assert found == {service: 2 if service == "mes-api" else 0 for service in LIFECYCLE.services}
    (other,) = ledger.other_lifecycles()
    assert (other.service, other.instances, other.hashes) == ("mes-api", 2, ("old1", "old2"))
