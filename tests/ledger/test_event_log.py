"""Importing the past: old events count, once, in the right order, and a stopped import goes on."""

from __future__ import annotations

import gzip
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from otel_orders import names
from otel_orders.errors import ConfigurationError, StoreUnavailableError
from otel_orders.ledger import beside as beside_module
from otel_orders.ledger import event_log
from otel_orders.ledger.beside import beside
from otel_orders.ledger.check import check
from otel_orders.ledger.event_log import XES_COLUMNS, Columns, Imported, Mapping, import_log
from otel_orders.ledger.moments import Moments
from otel_orders.ledger.service import Ledger, open_store
from otel_orders.ledger.store import Received
from tests.ledger import audit
from tests.ledger.senders import ENV
from tests.ledger.stores import spoil
from tests.ledger.strategies import DAY, HOUR, LIFECYCLE, PLAN, event

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from otel_orders.ledger.beside import Beside

WAY = ("INITIATED", "FILE_UPLOADED", "SUBMITTED", "PRICE_CALCULATED")
CSV = Columns("case", "activity", "timestamp")
LAST_YEAR = time.time_ns() // DAY * DAY - 300 * DAY


def mapping(columns: Columns = CSV, **fields: Any) -> Mapping:
    return Mapping(columns, fields.pop("moments", Moments()), **fields)


def written(at: int) -> str:
    return datetime.fromtimestamp(at / 1e9, UTC).isoformat()


def log(path: Path, orders: int, steps: int = len(WAY)) -> Path:
    """Write a log of *orders* that all went *steps* of the WAY last year, by time and so mixed."""
    rows = [
        f"A-{order},{WAY[step]},{written(LAST_YEAR + step * DAY + order * 10**9)}"
        for step in range(steps)
        for order in range(orders)
    ]
    path.write_text("case,activity,timestamp\n" + "\n".join(rows) + "\n")
    return path


@contextmanager
def store(folder: Path) -> Iterator[Beside]:
    with beside(f"sqlite:///{folder / 'ledger.db'}", LIFECYCLE, ENV) as opened:
        yield opened


def statuses(folder: Path, order_id: str) -> list[str]:
    ledger = Ledger(open_store(f"sqlite:///{folder / 'ledger.db'}"), LIFECYCLE, ENV)
    try:
        told = ledger.story(order_id)
        return [visit["status"] for visit in told["visits"]] if told else []
    finally:
        ledger.close()


def imported(folder: Path, path: Path, how: Mapping | None = None, **more: Any) -> Imported:
    with store(folder) as opened:
        return import_log(path, how or mapping(), opened, **more)


def test_last_years_events_are_kept_and_count_as_any_others(tmp_path: Path) -> None:
    found = imported(tmp_path, log(tmp_path / "log.csv", 3))
    assert (found.read, found.results, found.reasons) == (12, {"accepted": 12}, {})
    assert statuses(tmp_path, "A-2") == list(WAY)
    with store(tmp_path) as opened:
        totals = opened.store.totals()
        orders = {order_id: order.events for order_id, order in audit.orders(opened.store).items()}
        audit.check(opened.store, orders, PLAN)
        assert opened.store.seen() == []  # a log is no sign of life
    assert totals[names.REACHED, "SUBMITTED"] == 3
    assert totals[names.TIME_IN_STATUS, "INITIATED", "retail", "sum"] == 3 * DAY // 10**6


def test_last_year_is_still_there_on_the_first_day_of_the_ledger(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(f"case,activity,timestamp\nA-1,INITIATED,{LAST_YEAR}\nA-1,CANCELLED,{LAST_YEAR + DAY}\n")
    imported(tmp_path, path)
    with store(tmp_path) as opened:
        opened.batch.sweep(time.time_ns())
        opened.batch.sweep(time.time_ns() + 89 * DAY)
    assert statuses(tmp_path, "A-1") == ["INITIATED", "CANCELLED"]


DONE = ("INITIATED", "FILE_UPLOADED", "CANCELLED")


def log_of(path: Path, *ways: tuple[str, int, tuple[str, ...]]) -> Path:
    """Write a log of orders, each with its beginning (unix ns) and its *way*, a day a step; by time, and so mixed."""
    rows = sorted((start + place * DAY, order, to) for order, start, way in ways for place, to in enumerate(way))
    path.write_text("case,activity,timestamp\n" + "".join(f"{order},{to},{at}\n" for at, order, to in rows))
    return path


def reached(opened: Beside) -> dict[str, int]:
    return {str(series[1]): value for series, value in opened.store.totals().items() if series[0] == names.REACHED}


@pytest.mark.parametrize("at_once", [2, 4000])
def test_a_log_that_grew_counts_only_what_is_new_also_when_its_orders_were_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(event_log, "AT_ONCE", at_once)
    path = tmp_path / "log.csv"
    old = [("A-1", LAST_YEAR, DONE), ("A-2", LAST_YEAR + DAY, DONE), ("open", LAST_YEAR, DONE[:2])]
    imported(tmp_path, log_of(path, *old))
    with store(tmp_path) as opened:
        opened.batch.sweep(time.time_ns() + 91 * DAY)
        assert set(audit.orders(opened.store)) == {"open"}
        counted = reached(opened)
    today = time.time_ns() - HOUR
    for again in (False, True):
        log_of(path, *old, ("A-1", today, ("INITIATED",)), ("A-3", today + again, ("INITIATED",)))
        found = imported(tmp_path, path)
        news = {"duplicate": 1 + 2 + 0, "accepted": 1} if again else {"duplicate": 2, "accepted": 2}
        assert (found.results, found.reasons) == ({"late": 6} | news, {})
        counted["INITIATED"] += 0 if again else 2
        with store(tmp_path) as opened:
            assert reached(opened) == counted
            assert check(opened.store, PLAN).right


def test_what_telemetry_told_and_was_removed_is_not_counted_by_an_import_that_comes_later(tmp_path: Path) -> None:
    before, while_it_ran = LAST_YEAR, LAST_YEAR + 100 * DAY
    with store(tmp_path) as opened:
        told = [event(to, while_it_ran + place * DAY) for place, to in enumerate(DONE)]
        opened.batch.ingest([Received("told", one) for one in told])
        opened.batch.sweep(time.time_ns())
        counted = reached(opened)
    path = log_of(
        tmp_path / "log.csv",
        ("told", while_it_ran, DONE),
        ("before", before, DONE),
        ("after", time.time_ns() - 80 * DAY, DONE),
        ("a part of its life", while_it_ran, DONE[:2]),
        ("slow", while_it_ran, DONE[:2]),
        ("slow", time.time_ns() - 80 * DAY, DONE[2:]),
    )
    found = imported(tmp_path, path)
    assert (found.results, found.reasons) == ({"late": 5, "accepted": 9}, {})
    with store(tmp_path) as opened:
        assert reached(opened) == {to: counted[to] + 3 for to in DONE}
        assert set(audit.orders(opened.store)) == {"before", "after", "slow"}
        assert check(opened.store, PLAN).right


def test_what_was_never_closed_is_stuck_once_timers_are_looked_at(tmp_path: Path) -> None:
    imported(tmp_path, log(tmp_path / "log.csv", 2))
    with store(tmp_path) as opened:
        opened.batch.sweep(time.time_ns())
        totals = opened.store.totals()
        assert totals[names.STUCK, "PRICE_CALCULATED"] == 2
        orders = {order_id: order.events for order_id, order in audit.orders(opened.store).items()}
        audit.check(opened.store, orders, PLAN)


def test_the_same_log_twice_counts_once_and_is_not_even_read(tmp_path: Path) -> None:
    path = log(tmp_path / "log.csv", 3)
    imported(tmp_path, path)
    again = imported(tmp_path, path)
    assert (again.done_before, again.read, again.results) == (True, 12, {})
    packed = tmp_path / "copy.csv.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert imported(tmp_path, packed).done_before


def test_a_longer_log_with_the_same_events_counts_only_what_is_new(tmp_path: Path) -> None:
    imported(tmp_path, log(tmp_path / "log.csv", 3, steps=2))
    found = imported(tmp_path, log(tmp_path / "log.csv", 3, steps=3))
    assert found.results == {"accepted": 3, "duplicate": 6}


@pytest.mark.parametrize("fail_at", [0, 1, 3])
def test_an_import_that_was_interrupted_goes_on_where_its_last_commit_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail_at: int
) -> None:
    monkeypatch.setattr(event_log, "AT_ONCE", 10)
    path = log(tmp_path / "log.csv", 12)
    batches: list[int] = []

    def fails(so_far: Imported) -> None:
        batches.append(so_far.read)
        if len(batches) > fail_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        imported(tmp_path, path, on_batch=fails)
    found = imported(tmp_path, path)
    assert found.before == 10 * (fail_at + 1)
    assert (found.read, found.results) == (48, {"accepted": 48 - found.before})
    with store(tmp_path) as opened:
        assert sum(len(order.events) for order in audit.orders(opened.store).values()) == 48


def test_it_waits_for_a_store_that_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[int] = []
    with store(tmp_path) as opened:
        ingest = opened.batch.ingest

        def busy(*arguments: Any, **more: Any) -> list[str]:
            tries.append(1)
            if len(tries) < 3:
                raise StoreUnavailableError("locked")
            return ingest(*arguments, **more)

        monkeypatch.setattr(opened.batch, "ingest", busy)
        monkeypatch.setattr(beside_module, "RETRY_EVERY", 0.0)
        found = import_log(log(tmp_path / "log.csv", 1), mapping(), opened)
    assert found.results == {"accepted": 4}


def test_bad_rows_cost_only_themselves_and_are_named_by_line(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    lines = [
        b"case,activity,timestamp",
        b"A-1,INITIATED,2025-11-01T10:00:00Z",
        b"A-1,FILE_UPLOADED,soon",
        b"A-1,FILE_UPLOADED",
        b",INITIATED,2025-11-01T10:00:00Z",
        b"A-1,,2025-11-01T10:00:00Z",
        b"A-\xff,INITIATED,2025-11-01T10:00:00Z",
        b"A-1,FILE_UPLOADED,2025-11-01T10:00:00",
        b"A-1,FILE_UPLOADED,2095-11-01T10:00:00Z",
        b"A-1,FILE_UPLOADED,2025-11-02T10:00:00Z",
    ]
    path.write_bytes(b"\n".join(lines))
    found = imported(tmp_path, path)
    assert found.results == {"accepted": 2}
    assert found.bad == [
        (3, "bad_time"),
        (4, "undecodable"),
        (5, "no_order_id"),
        (6, "no_status"),
        (7, "bad_type"),
        (8, "no_zone"),
        (9, "future"),
    ]
    assert statuses(tmp_path, "A-1") == ["INITIATED", "FILE_UPLOADED"]


@pytest.mark.parametrize("cut", [slice(None, -9), slice(20, None), None], ids=["cut off", "no gzip", "flipped"])
@pytest.mark.parametrize("kind", ["csv", "xes"])
def test_a_damaged_gzip_file_is_said_to_be_one_and_nothing_of_it_is_imported(
    tmp_path: Path, cut: slice | None, kind: str
) -> None:
    path = tmp_path / f"log.{kind}.gz"
    packed = bytearray(gzip.compress(log(tmp_path / "log.csv", 300).read_bytes()))
    if cut is None:
        packed[len(packed) // 2] ^= 0xFF
    path.write_bytes(packed if cut is None else packed[cut])
    with pytest.raises(ConfigurationError, match=r"log\.(csv|xes)\.gz: (it ends too early|no \.gz, or a damaged one)"):
        imported(tmp_path, path)
    with store(tmp_path) as opened:
        assert audit.orders(opened.store) == {}


@pytest.mark.parametrize("at", ["1969-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", "1900-01-01T00:00:00-05:00"])
def test_a_time_before_1970_is_refused_and_no_row_is_made_that_cannot_be_read(tmp_path: Path, at: str) -> None:
    path = tmp_path / "log.csv"
    path.write_text(f"case,activity,timestamp\nA-1,INITIATED,{at}\nA-2,INITIATED,1970-01-01T00:00:01Z\n")
    found = imported(tmp_path, path)
    assert (found.results, found.bad) == ({"accepted": 1}, [(2, "bad_time")])
    with store(tmp_path) as opened:
        assert set(audit.orders(opened.store)) == {"A-2"}
        assert check(opened.store, PLAN).right


def test_a_rotten_row_costs_only_its_own_events(tmp_path: Path) -> None:
    imported(tmp_path, log(tmp_path / "log.csv", 3, steps=2))
    with store(tmp_path) as opened:
        spoil(opened.store, "A-0", b"\xff")
        spoil(opened.store, "A-1")
    for steps in (3, 4):
        found = imported(tmp_path, log(tmp_path / "log.csv", 3, steps=steps))
        assert found.results == {"unreadable_order": 2 * steps, "duplicate": steps - 1, "accepted": 1}
        with store(tmp_path) as opened:
            assert opened.store.totals()[names.UNREADABLE,] == 2  # once each


def test_names_are_mapped_columns_are_chosen_and_times_have_their_zone(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(
        "Auftrag;Schritt;Zeit;Dienst;Kunde;Nr;Notiz;Rest\n"
        "4711;angelegt;01.07.2025 12:00;shop-api;acme;e1;ruf an: a@b.example;x\n"
        "4711;Notiz;01.07.2025 12:30;shop-api;acme;e2;;x\n"
        "4711;hochgeladen;01.07.2025 13:00;;acme;e3;;x\n"
    )
    columns = Columns("Auftrag", "Schritt", "Zeit", "Dienst", "Kunde", "Nr", ("Notiz",), service="erp")
    moments = Moments(ZoneInfo("Europe/Berlin"), "%d.%m.%Y %H:%M")
    names_of = {"angelegt": "INITIATED", "hochgeladen": "FILE_UPLOADED", "Notiz": None}
    found = imported(tmp_path, path, mapping(columns, moments=moments, statuses=names_of))
    assert (found.results, found.skipped) == ({"accepted": 2}, 1)
    with store(tmp_path) as opened:
        first, second = audit.orders(opened.store)["4711"].events
    assert (first.service, second.service, first.partner) == ("shop-api", "erp", "acme")
    assert first.at == int(datetime(2025, 7, 1, 10, tzinfo=UTC).timestamp()) * 10**9
    assert first.attributes
    assert "a@b.example" not in first.attributes["Notiz"]


def test_xes_is_read_by_its_usual_keys_and_only_what_was_completed(tmp_path: Path) -> None:
    def event(status: str, at: str, kind: str = "") -> str:
        kind = kind and f'<string key="lifecycle:transition" value="{kind}"/>'
        when = f'<date key="time:timestamp" value="{at}"/>'
        return f'<event><string key="concept:name" value="{status}"/>{when}{kind}</event>'

    events = [
        event("INITIATED", "2025-07-01T10:00:00.000+02:00"),
        event("FILE_UPLOADED", "2025-07-01T11:00:00Z", "start"),
        event("FILE_UPLOADED", "2025-07-01T12:00:00Z", "COMPLETE"),
    ]
    path = tmp_path / "log.xes.gz"
    trace = (
        f'<trace><string key="concept:name" value="4711"/><string key="partner" value="acme"/>{"".join(events)}</trace>'
    )
    path.write_bytes(gzip.compress(f"<log>{trace}<trace>{events[0]}</trace></log>".encode()))
    found = imported(tmp_path, path, mapping(Columns(*XES_COLUMNS, partner="partner")))
    assert (found.results, found.skipped, found.reasons) == ({"accepted": 2}, 1, {"no_order_id": 1})
    assert statuses(tmp_path, "4711") == ["INITIATED", "FILE_UPLOADED"]
    with store(tmp_path) as opened:
        assert {event.partner for event in audit.orders(opened.store)["4711"].events} == {"acme"}


def test_it_keeps_to_the_env_and_the_lifecycle_of_the_store(tmp_path: Path) -> None:
    imported(tmp_path, log(tmp_path / "log.csv", 1))
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    with pytest.raises(ConfigurationError, match="events of env 'test', and this command is for 'prod'"):
        beside(url, LIFECYCLE, "prod").__enter__()
    with pytest.raises(ConfigurationError, match="orders under lifecycle"):
        beside(url, msgspec.structs.replace(LIFECYCLE, hash="another"), ENV).__enter__()


def test_a_column_that_there_is_not_is_a_mistake_and_nothing_is_imported(tmp_path: Path) -> None:
    path = log(tmp_path / "log.csv", 1)
    with pytest.raises(ConfigurationError, match="no column 'order'; there are case, activity, timestamp"):
        imported(tmp_path, path, mapping(Columns("order", "activity", "timestamp")))
    assert imported(tmp_path, path).results == {"accepted": 4}
