"""What is special about PostgreSQL: replicas that write at once, a server that goes away, a schema, a password."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from otel_orders import names
from otel_orders.errors import (
    ConfigurationError,
    StoreConflictError,
    StoreError,
    StoreLifecycleError,
    StoreUnavailableError,
    StoreVersionError,
)
from otel_orders.ledger.operators import Operators
from otel_orders.ledger.reading import Reading
from otel_orders.ledger.service import Ledger, open_store
from otel_orders.ledger.store import RETENTION, Batch, MessageNote, Received, Row, Seen
from otel_orders.ledger.store import postgres_schema as schema
from otel_orders.ledger.store import postgres_transaction as module
from otel_orders.ledger.store.postgres import PostgresStore
from otel_orders.ledger.writer import Writer
from tests.ledger import audit
from tests.ledger.senders import ENV, changed
from tests.ledger.stores import impatient, raw
from tests.ledger.strategies import AFTER, DAY, PLAN, START, event, path, plan_of
from tests.ledger.strategies import LIFECYCLE as REFERENCE
from tests.sinks.receiver import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_orders.ledger.kept import Kept
    from tests.postgres import Postgres

LIFE = path("INITIATED", "FILE_UPLOADED", "SUBMITTED")


@pytest.fixture(scope="session")
def kind() -> str:
    return "postgres"


def of(order_id: str, events: list[Kept]) -> list[Received]:
    return [Received(order_id, one) for one in events]


def row(order_id: str) -> Row:
    return Row(order_id, None, 0, START, START, b"")


# Replicas.


def test_an_order_that_another_replica_makes_meanwhile_is_a_conflict(open_store: Callable[[], PostgresStore]) -> None:
    store, other = open_store(), open_store()
    with pytest.raises(StoreConflictError), store.transaction() as tx:  # noqa: PT012
        assert tx.find(["1"]) == {}
        Batch(other, PLAN).ingest(of("1", LIFE[:1]))
        tx.create([row("0"), row("1"), row("2")])
    assert list(audit.orders(store)) == ["1"]
    Batch(store, PLAN).ingest(of("1", LIFE[1:]))
    audit.check(store, {"1": LIFE}, PLAN)


def test_replicas_that_are_sent_the_same_new_orders_at_once_lose_and_double_nothing(
    open_store: Callable[[], PostgresStore],
) -> None:
    stores = [open_store() for _ in range(3)]
    start = threading.Barrier(3)
    events = {f"order-{place}": LIFE for place in range(400)}

    def send(store: PostgresStore) -> int:
        batch, duplicates = Batch(store, PLAN), 0
        for first in range(0, 400, 20):
            start.wait()
            received = [one for place in range(first, first + 20) for one in of(f"order-{place}", LIFE)]
            random.shuffle(received)
            duplicates += batch.ingest(received).count("duplicate")
        return duplicates

    with ThreadPoolExecutor(3) as pool:
        assert sum(pool.map(send, stores)) == 2 * 3 * 400
    audit.check(stores[0], events, PLAN)


def test_replicas_write_sweep_and_start_at_once_without_a_deadlock(open_store: Callable[[], PostgresStore]) -> None:
    """All of them touch the same few orders, in any order, while timers fire and another one folds them anew."""
    events = {f"order-{place}": path("INITIATED", "FILE_UPLOADED", "SUBMITTED", "CANCELLED") for place in range(30)}
    received = [one for order_id, some in events.items() for one in of(order_id, some)]
    Batch(open_store(), PLAN).rebase()

    def run(seed: int, store: PostgresStore) -> None:
        rng, batch = random.Random(seed), Batch(store, PLAN)
        for _ in range(40):
            seen = [Seen("mes-api", f"pod-{rng.randrange(3)}", "web", START + rng.randrange(99), "") for _ in range(3)]
            batch.ingest(rng.sample(received, 60), seen=seen, notes={f"note-{rng.randrange(3)}": "x"})
            batch.sweep(START + rng.randrange(DAY), rng.randrange(1, 20))
            if rng.random() < 0.1:
                with store.transaction() as tx:
                    tx.put(RETENTION, "")  # so that it is folded anew
                batch.rebase()

    stores = [open_store() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(run, seed, store) for seed, store in enumerate(stores)]:
            future.result(120)
    batch = Batch(stores[0], PLAN)
    batch.ingest(received)
    while batch.sweep(START + 60 * DAY):
        pass
    audit.check(stores[1], events, PLAN, START + 60 * DAY)


def test_each_replica_adds_in_a_slot_of_its_own_and_all_show_the_sum(
    open_store: Callable[[], PostgresStore],
) -> None:
    stores = [open_store() for _ in range(3)]
    assert len({store._slot for store in stores}) == 3
    for store in stores:
        with store.transaction() as tx:
            tx.add({("made", "up"): 5})
    assert [store.totals() for store in stores] == [{("made", "up"): 15}] * 3
    stores[0].close()
    again = open_store()
    assert again._slot == stores[0]._slot
    assert again.totals() == {("made", "up"): 15}


def test_no_replica_waits_for_anothers_commit(open_store: Callable[[], PostgresStore]) -> None:
    store, other = open_store(), open_store()
    Batch(store, PLAN).ingest(of("1", LIFE[:1]))
    impatient(other)
    with store.transaction() as tx:
        tx.find(["1"])
        tx.add({(names.REACHED, "INITIATED"): 1, (names.LEDGER_EVENTS, "accepted"): 1})
        Batch(other, PLAN).ingest(of("2", LIFE))
        Batch(other, PLAN).sweep(START + DAY)
        with pytest.raises(StoreUnavailableError, match="lock timeout"):  # it does wait for the order itself
            Batch(other, PLAN).ingest(of("1", LIFE))


def test_replicas_that_share_a_slot_only_wait(
    open_store: Callable[[], PostgresStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("otel_orders.ledger.store.postgres.SLOTS", 1)
    stores = [open_store() for _ in range(2)]

    def add(store: PostgresStore) -> None:
        for place in range(50):
            with store.transaction() as tx:
                tx.add({("made", f"{name}"): 1 for name in random.sample(range(20), 20)} | {("place", place): 1})

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(add, stores))
    assert set(stores[0].totals().values()) == {100, 2}


def test_a_late_moment_of_another_replica_takes_none_back(open_store: Callable[[], PostgresStore]) -> None:
    stores = [open_store() for _ in range(3)]
    start = threading.Barrier(3)

    def advance(place: int) -> dict[Any, int]:
        start.wait()
        with stores[place].transaction() as tx:
            return tx.advance({("left", "A"): 10 + place, ("left", "B"): 20 - place})

    with ThreadPoolExecutor(3) as pool:
        before = list(pool.map(advance, range(3)))
    assert stores[0].moments() == {("left", "A"): 12, ("left", "B"): 20}
    assert [len(one) for one in before].count(0) == 1, "each one after the first knows what was before"


def test_messages_and_signs_of_life_may_come_twice_in_a_batch(store: PostgresStore) -> None:
    notes = [MessageNote("q", "m", "1", at) for at in (3, 1)]
    with store.transaction() as tx:
        tx.published(notes)
        tx.settled([MessageNote("q", "n", "1", at) for at in (3, 1)])
        tx.see([Seen("s", "i", "r", at, str(at)) for at in (1, 3, 2)])
    assert store.oldest_messages() == {"q": MessageNote("q", "m", "1", 1)}
    assert store.seen() == [Seen("s", "i", "r", 3, "3")]
    with store.transaction() as tx:
        assert tx.forget_messages("q", 4) == 1


# The sweeper.


def test_one_replica_sweeps_and_another_takes_over_when_it_is_gone(
    open_store: Callable[[], PostgresStore],
) -> None:
    stores = [open_store() for _ in range(2)]
    writers = [Writer(Batch(store, PLAN)) for store in stores]
    try:
        wait_for(lambda: [store.swept_elsewhere() is None for store in stores].count(True) == 1)
        sweeps = [store.swept_elsewhere() is None for store in stores].index(True)
        first, other = writers[sweeps], writers[1 - sweeps]
        before = other.swept_at
        wait_for(lambda: other.swept_at > before)  # it shows that the first one does it
        first.close()  # says no goodbye to the other
        died = time.monotonic()
        wait_for(lambda: stores[1 - sweeps].swept_elsewhere() is None)
        old = changed("A-1", occurred_at=time.time_ns() - 2 * DAY)
        reading = Reading(REFERENCE, ENV, time.time_ns())
        reading.take(old)
        other.submit(reading).result(20)
        wait_for(lambda: stores[sweeps].totals().get((names.STUCK, "INITIATED")))
        assert time.monotonic() - died < 10
    finally:
        for writer in writers:
            writer.close()


def test_a_sweeper_leaves_to_the_other_what_it_works_on(open_store: Callable[[], PostgresStore]) -> None:
    store, other = open_store(), open_store()
    Batch(store, PLAN).ingest([*of("1", LIFE), *of("2", LIFE)])
    with store.transaction() as tx:
        assert len(tx.due(START + DAY, 1)) == 1
        assert Batch(other, PLAN).sweep(START + DAY) == 1
    assert Batch(store, PLAN).sweep(START + DAY) == 1


# Another lifecycle.


def test_a_replica_with_the_old_lifecycle_changes_and_shows_nothing_any_more(store_url: str) -> None:
    new = plan_of(AFTER).lifecycle
    with closing(Ledger(open_store(store_url), REFERENCE, ENV)) as old:
        assert old.ready
        with closing(Ledger(open_store(store_url), new, ENV)) as ledger:
            assert ledger.ready
            reading = old.new_reading()
            reading.take(changed("A-1"))
            with pytest.raises(StoreLifecycleError, match=f"under lifecycle {new.hash}, .* start it again"):
                old.writer.submit(reading).result(20)
            for show in (old.board, old.metrics.page, lambda: old.story("A-1"), lambda: old.ready):
                with pytest.raises(StoreLifecycleError):
                    show()
            assert ledger.writer.submit(reading).result(20) == ["accepted"]


def test_a_lifecycle_is_changed_while_events_come(open_store: Callable[[], PostgresStore]) -> None:
    """Whatever was acknowledged is there, folded under the new one; what came too late says so."""
    old, new = open_store(), open_store()
    Batch(old, PLAN).rebase()
    kept: dict[str, list[Kept]] = {}
    started = threading.Event()

    def send() -> None:
        batch = Batch(old, PLAN)
        for place in range(10_000):
            batch.ingest(of(f"order-{place}", LIFE))
            kept[f"order-{place}"] = LIFE
            if place == 20:
                started.set()

    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send)
        started.wait(20)
        plan = plan_of(AFTER)
        Batch(new, plan).rebase()
        with pytest.raises(StoreLifecycleError):
            sending.result(60)
    while Batch(new, plan).sweep(START + DAY):
        pass
    assert {order_id: len(order.events) for order_id, order in audit.orders(new).items()} == dict.fromkeys(kept, 3)
    assert new.totals()[names.IN_STATUS, "SUBMITTED"] == new.totals()[names.STUCK, "SUBMITTED"] == len(kept)


def test_of_several_that_start_with_another_lifecycle_one_folds(open_store: Callable[[], PostgresStore]) -> None:
    stores = [open_store() for _ in range(3)]
    Batch(stores[0], PLAN).rebase()
    Batch(stores[0], PLAN).ingest([one for place in range(50) for one in of(str(place), LIFE)])
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda store: Batch(store, plan_of(AFTER)).rebase(), stores))
    assert stores[0].totals()[names.IN_STATUS, "SUBMITTED"] == 50
    with raw(stores[0]) as connection:  # had two of them folded, two slots would say so
        found = connection.execute(
            "SELECT count(*) FROM totals WHERE series LIKE '%\"orders_in_status\"%' AND value < 0"
        )
        assert found.fetchone()[0] <= 1


def test_two_that_claim_a_new_store_for_different_envs_do_not_both_get_it(store_url: str) -> None:
    start = threading.Barrier(2)

    def claim(env: str) -> str:
        store = open_store(store_url)
        start.wait()
        try:
            Ledger(store, REFERENCE, env).close()
        except ConfigurationError:
            store.close()
            return "refused"
        return env

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(claim, ("prod", "test"))).count("refused") == 1


# The schema.


def test_a_newer_schema_is_refused_and_left_alone(store_url: str) -> None:
    with closing(PostgresStore(store_url)) as store, raw(store) as connection:
        connection.execute("UPDATE schema_version SET version = 99")
        with pytest.raises(StoreVersionError, match=r"postgresql://.* has schema 99, written by a newer.*upgrade"):
            PostgresStore(store_url)
        with pytest.raises(StoreVersionError):  # also by one that was running when it came
            Batch(store, PLAN).ingest(of("1", LIFE))
        assert connection.execute("SELECT version FROM schema_version").fetchall() == [(99,)]
        assert connection.execute("SELECT count(*) FROM orders").fetchall() == [(0,)]


def test_a_schema_moves_forward_once_whoever_starts_at_once(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(PostgresStore(store_url)) as store:
        Batch(store, PLAN).ingest(of("1", LIFE))
    step = ("CREATE TABLE added (x integer)", "INSERT INTO added VALUES (1)")
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, step))
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(lambda _: PostgresStore(store_url), range(4)))
    with raw(stores[0]) as connection:
        assert connection.execute("SELECT * FROM added").fetchall() == [(1,)]
        assert connection.execute("SELECT version FROM schema_version").fetchall() == [(schema.VERSION + 1,)]
    audit.check(stores[3], {"1": LIFE}, PLAN)
    for store in stores:
        store.close()


def test_a_migration_that_fails_leaves_the_version_that_was(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    PostgresStore(store_url).close()
    with monkeypatch.context() as patched:
        patched.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, ("CREATE TABLE added (x integer)", "NONSENSE")))
        with pytest.raises(StoreUnavailableError, match="NONSENSE"):
            PostgresStore(store_url)
    with closing(PostgresStore(store_url)) as store, raw(store) as connection:
        assert connection.execute("SELECT to_regclass('added')").fetchall() == [(None,)]


def test_many_may_open_a_new_database_at_once(store_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        for store in pool.map(lambda _: PostgresStore(store_url), range(4)):
            store.close()


def test_it_touches_no_table_of_the_application(store_url: str) -> None:
    with psycopg.connect(store_url, autocommit=True) as application:
        application.execute("CREATE TABLE orders (id integer PRIMARY KEY)")
        application.execute("CREATE TABLE meta (id integer PRIMARY KEY)")
        with closing(PostgresStore(store_url)) as store:
            Batch(store, PLAN).ingest(of("1", LIFE))
            assert store.size() > 0
        assert application.execute("SELECT * FROM orders").fetchall() == []


# The server.


def test_a_commit_waits_for_the_disk_whatever_the_database_is_set_to(store_url: str) -> None:
    with psycopg.connect(store_url, autocommit=True) as other:
        name = other.info.dbname
        other.execute(f'ALTER DATABASE "{name}" SET synchronous_commit TO off')
    with closing(PostgresStore(store_url)) as store, store.transaction() as tx:
        assert tx._execute("SHOW synchronous_commit").fetchone() == ("on",)


def test_connections_that_were_cut_come_back_unnoticed(store: PostgresStore) -> None:
    Batch(store, PLAN).ingest(of("1", LIFE[:1]))
    for _ in range(2):
        with raw(store) as other:
            other.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                          " WHERE datname = current_database() AND pid <> pg_backend_pid()")  # fmt: skip
        assert store.state("1")
        Batch(store, PLAN).ingest(of("1", LIFE))
    audit.check(store, {"1": LIFE}, PLAN)


def test_a_connection_that_is_cut_within_a_transaction_keeps_nothing(store: PostgresStore) -> None:
    with raw(store) as other, pytest.raises(StoreUnavailableError), store.transaction() as tx:  # noqa: PT012
        tx.put("key", "value")
        pid = tx._connection.info.backend_pid
        other.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
        tx.put("other", "value")
    assert store.items("") == {}


def test_a_transaction_in_which_a_statement_failed_is_never_taken_for_kept(store: PostgresStore) -> None:
    with pytest.raises(StoreUnavailableError, match="nothing was kept"), store.transaction() as tx:  # noqa: PT012
        tx.put("key", "value")
        with pytest.raises(psycopg.Error):
            tx._execute("SELECT 1/0")
    assert store.items("") == {}


def test_a_value_that_no_column_holds_costs_no_neighbour(store: PostgresStore) -> None:
    with closing(Writer(Batch(store, PLAN))) as writer:
        good, bad = (Reading(REFERENCE, ENV, time.time_ns()) for _ in range(2))
        good.take(changed("good"))
        bad.received.append(Received("bad", event("INITIATED", 2**64)))
        answers = [writer.submit(reading) for reading in (good, bad)]
        assert [answer.result(20) for answer in answers] == [["accepted"], ["internal_error"]]


def test_a_deadlock_is_run_again(open_store: Callable[[], PostgresStore], monkeypatch: pytest.MonkeyPatch) -> None:
    """None is known; should there be one, the server ends it and we do it again."""
    store, other = open_store(), open_store()
    Batch(store, PLAN).ingest([*of("1", LIFE[:1]), *of("2", LIFE[:1])])
    has_one = threading.Event()
    find = module.PostgresTransaction.find
    tries = []

    def out_of_order(tx: module.PostgresTransaction, order_ids: list[str]) -> Any:
        tries.append(order_ids)
        if len(tries) > 1:
            return find(tx, order_ids)
        found = find(tx, ["2"])
        has_one.wait(20)
        return found | find(tx, ["1"])

    with ThreadPoolExecutor(1) as pool, raw(other) as rival:
        monkeypatch.setattr(module.PostgresTransaction, "find", out_of_order)
        rival.execute("SET deadlock_timeout TO '1h'")  # the other one is to notice
        rival.execute("BEGIN")
        rival.execute("SELECT * FROM orders WHERE order_id = '1' FOR UPDATE")
        ours = pool.submit(Batch(store, PLAN).ingest, [*of("1", LIFE), *of("2", LIFE)])
        wait_for(lambda: tries)
        theirs = threading.Thread(target=rival.execute, args=["SELECT * FROM orders WHERE order_id = '2' FOR UPDATE"])
        theirs.start()
        has_one.set()
        theirs.join(20)
        rival.execute("ROLLBACK")
        ours.result(20)
    assert len(tries) == 2
    audit.check(store, {"1": LIFE, "2": LIFE}, PLAN)


@pytest.mark.slow
def test_a_server_that_dies_under_load_costs_nothing_that_was_acknowledged(private_postgres: Postgres) -> None:
    with private_postgres.new() as url, closing(Ledger(open_store(url), REFERENCE, ENV)) as ledger:
        start = time.time_ns() - 1000 * DAY // 1000
        sent: list[dict[str, Any]] = []
        done = threading.Event()
        failures: list[StoreError] = []

        def send(sender: int) -> None:
            place = 0
            while not done.is_set():
                place += 1
                records = [
                    changed(f"{sender}-{place}-{one}", occurred_at=start, event_id=f"{one}") for one in range(20)
                ]
                while not kept(records):
                    pass
                sent.extend(records)

        def kept(records: list[dict[str, Any]]) -> bool:
            reading = ledger.new_reading()
            for record in records:
                reading.take(record)
            try:
                ledger.writer.submit(reading).result(30)
            except StoreError as error:
                failures.append(error)
                return False
            return True

        senders = [threading.Thread(target=send, args=[sender]) for sender in range(4)]
        for sender in senders:
            sender.start()
        for _ in range(3):
            reached = len(sent)
            wait_for(lambda: len(sent) > reached + 200)  # noqa: B023 - called at once
            private_postgres.stop()
            private_postgres.start()
        reached = len(sent)
        wait_for(lambda: len(sent) > reached + 200)
        done.set()
        for sender in senders:
            sender.join(60)
        assert failures
        audit_store = ledger._store
        assert set(audit.orders(audit_store)) == {record["order_id"] for record in sent}
        totals = audit_store.totals()
        assert totals[names.REACHED, "INITIATED"] == totals[names.IN_STATUS, "INITIATED"] == len(sent)
        assert totals[names.LEDGER_EVENTS, "accepted"] == len(sent)


# Passwords.

SECRET = "s3cr3t%2Fword"  # noqa: S105


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://me:{SECRET}@127.0.0.1:1/orders",
        f"postgresql://me:{SECRET}%zz@127.0.0.1/orders",
        f"postgres://127.0.0.1:1/orders?user=me&password={SECRET}",
        f"postgresql://me:{SECRET}@[::1/orders",
        f"postgresq://me:{SECRET}@127.0.0.1/orders",
        f"mysql:///orders?password={SECRET}",
    ],
)
def test_no_error_shows_the_password(url: str) -> None:
    with pytest.raises((ConfigurationError, StoreUnavailableError)) as caught:
        open_store(url)
    assert "s3cr3t" not in str(caught.value)
    assert "postgres" in str(caught.value)


def test_a_wrong_password_says_so_and_shows_none(private_postgres: Postgres) -> None:
    with pytest.raises(StoreUnavailableError, match="password authentication failed") as caught:
        open_store(private_postgres.tcp("postgres", password="wr0ng"))  # noqa: S106
    assert "wr0ng" not in str(caught.value)


def test_libpqs_own_settings_are_read(private_postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("HOST", "127.0.0.1"), ("PORT", private_postgres.port), ("USER", "postgres")):
        monkeypatch.setenv(f"PG{name}", str(value))
    monkeypatch.setenv("PGDATABASE", "postgres")
    with pytest.raises(StoreUnavailableError, match="no password supplied"):
        open_store("postgresql://")
    monkeypatch.setenv("PGPASSWORD", private_postgres.password)
    open_store("postgresql://").close()


def test_a_password_file_is_read(private_postgres: Postgres, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    file = tmp_path / "pgpass"
    file.write_text(f"*:*:*:postgres:{private_postgres.password}\n")
    file.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(file))
    open_store(f"postgresql://postgres@127.0.0.1:{private_postgres.port}/postgres").close()


def test_what_was_erased_is_in_no_table_after_a_vacuum_full(postgres_server: Postgres, store: PostgresStore) -> None:
    """Until then the bytes lie in the files of the tables, which is why the README says what to run."""
    if postgres_server.folder is None:
        pytest.skip("the files of a server that was given are not ours to read")
    secret = "anna-9f86d081"  # noqa: S105 - of a person
    Batch(store, PLAN).ingest(of(secret, LIFE))
    with store.transaction() as tx:
        tx.published([MessageNote("pricing.requests", "m-1", secret, START)])
    files = "SELECT pg_relation_filepath(oid) FROM pg_class WHERE relnamespace = 'otel_orders'::regnamespace"

    def on_disk() -> bool:
        with raw(store) as other:
            other.execute("CHECKPOINT")
            paths = [postgres_server.folder / "data" / path for (path,) in other.execute(files) if path]  # type: ignore[operator]
            return any(secret.encode() in path.read_bytes() for path in paths)

    Operators(store, PLAN).erase(secret, "berta")
    assert on_disk()
    with raw(store) as other:
        other.execute("VACUUM FULL otel_orders.orders, otel_orders.messages")
    assert not on_disk()
