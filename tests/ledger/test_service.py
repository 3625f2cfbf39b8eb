"""A ledger put together: its store's owner, another lifecycle, what it answers, how it closes."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from otel_orders import names
from otel_orders.errors import ConfigurationError, StoreUnavailableError
from otel_orders.ledger.service import Ledger, open_store
from otel_orders.lifecycle import Duration, Lifecycle
from tests.ledger.senders import ENV, changed, lines, walk
from tests.ledger.strategies import DAY, LIFECYCLE
from tests.sinks.receiver import wait_for

if TYPE_CHECKING:
    from pathlib import Path


def opened(url: str, lifecycle: Lifecycle = LIFECYCLE, env: str = ENV, **more: Any) -> Ledger:
    return Ledger(open_store(url), lifecycle, env, **more)


def keep(ledger: Ledger, *records: dict[str, Any]) -> list[str]:
    reading = ledger.new_reading()
    for record in records:
        reading.take(record)
    return ledger.writer.submit(reading).result(20)


def more_patient() -> Lifecycle:
    """Return the lifecycle with another limit and another name."""
    first = msgspec.structs.replace(LIFECYCLE.statuses["INITIATED"], stuck_after=Duration(3 * DAY))
    return msgspec.structs.replace(LIFECYCLE, statuses=LIFECYCLE.statuses | {"INITIATED": first}, hash="another")


@pytest.mark.parametrize("url", ["", "sqlite:", "sqlite://x", "sqlite:///", "sqlite:///:memory:"])
def test_a_store_url_that_cannot_work_says_what_is_expected(url: str) -> None:
    with pytest.raises(ConfigurationError, match="expected sqlite:///PATH, the path of a file"):
        open_store(url)


def test_a_store_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match=r"there is no folder .*/none"):
        open_store(f"sqlite:///{tmp_path}/none/ledger.db")
    with pytest.raises(StoreUnavailableError, match="cannot be used"):
        open_store(f"sqlite:///{tmp_path}")


def test_a_store_belongs_to_one_env(store_url: str) -> None:
    with closing(opened(store_url)) as ledger:
        keep(ledger, changed("A-1"))
    store = open_store(store_url)
    with closing(store), pytest.raises(ConfigurationError, match="events of env 'test', and this ledger is for 'prod'"):
        Ledger(store, LIFECYCLE, "prod")
    with closing(opened(store_url)) as ledger:
        assert ledger.story("A-1")


def test_what_was_kept_is_there_after_a_restart(store_url: str) -> None:
    with closing(opened(store_url)) as ledger:
        keep(ledger, *walk("A-1", "INITIATED", "FILE_UPLOADED", start=time.time_ns()))
        told, page = ledger.story("A-1"), ledger.metrics.page()
    with closing(opened(store_url)) as ledger:
        again = ledger.story("A-1")
        assert told
        assert again
        assert [told.pop("seconds_in_status"), again.pop("seconds_in_status")]
        assert again == told
        assert _counters(ledger.metrics.page()) == _counters(page)


def _counters(page: bytes) -> list[str]:
    return [line for line in page.decode().splitlines() if "_total" in line or "_bucket" in line]


def test_another_lifecycle_judges_the_orders_that_are_there_anew_and_counts_nothing_twice(store_url: str) -> None:
    with closing(opened(store_url)) as ledger:
        keep(ledger, changed("A-1", occurred_at=time.time_ns() - 2 * DAY))
        wait_for(lambda: ledger.board()[0].stuck == 1)
        counted = _counters(ledger.metrics.page())
    with closing(opened(store_url, more_patient())) as ledger:
        assert (ledger.board()[0].stuck, ledger.board()[0].orders) == (0, 1)
        told = ledger.story("A-1")
        assert told
        assert told["stuck"] is False
        same = [line for line in _counters(ledger.metrics.page()) if line in counted]
        assert [line for line in same if names.REACHED in line]
    with closing(opened(store_url)) as ledger:
        wait_for(lambda: ledger.board()[0].stuck == 1)
        assert _counters(ledger.metrics.page()) == counted


def test_an_order_that_is_not_known_has_no_story(store_url: str) -> None:
    with closing(opened(store_url)) as ledger:
        assert ledger.story("nobody") is None


def test_several_files_are_followed_at_once(store_url: str, tmp_path: Path) -> None:
    files = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    with closing(opened(store_url, follow=[str(file) for file in files])) as ledger:
        for place, file in enumerate(files):
            file.write_bytes(lines([changed(f"A-{place}")]))
        wait_for(lambda: ledger.story("A-0") and ledger.story("A-1"))


def test_events_are_shown_with_their_results_once_they_are_kept(store_url: str) -> None:
    shown: list[tuple[str, str]] = []
    record = changed("A-1")
    with closing(
        opened(store_url, on_event=lambda received, result: shown.append((received.order_id, result)))
    ) as ledger:
        keep(ledger, record)
        keep(ledger, record, changed("A-2"))
    assert shown == [("A-1", "accepted"), ("A-1", "duplicate"), ("A-2", "accepted")]


def test_closing_leaves_no_thread_behind(store_url: str, tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with closing(opened(store_url, follow=[str(tmp_path / "a.jsonl"), f"sqlite:///{tmp_path}/shop.db"])) as ledger:
        assert ledger.ready
        assert len(set(threading.enumerate()) - before) == 4  # two followers, the writer and the watch
    assert set(threading.enumerate()) - before == set()
    assert not ledger.ready
