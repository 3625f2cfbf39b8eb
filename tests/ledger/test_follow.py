"""Following a file of JSON lines: whatever happens to the file or to us, each line counts once."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_orders import names
from otel_orders.ledger import follow, follow_pattern
from otel_orders.ledger.service import Ledger, open_store
from tests.ledger.senders import ENV, changed
from tests.ledger.stores import held
from tests.ledger.strategies import LIFECYCLE
from tests.sinks.receiver import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otel_orders.ledger.polling.LOOK_EVERY", 0.02)
    monkeypatch.setattr(follow, "LINGER", 0.3)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "orders.jsonl"


@contextmanager
def following(file: Path, source: str = "") -> Iterator[Ledger]:
    """Follow *file*, or *source*, with a ledger that is kept beside it, in a folder of its own."""
    kept = file.parent / "ledger"
    kept.mkdir(exist_ok=True)
    with closing(Ledger(open_store(f"sqlite:///{kept / 'l.db'}"), LIFECYCLE, ENV, [source or str(file)])) as ledger:
        yield ledger


def append(file: Path, *order_ids: str, end: str = "\n") -> None:
    with file.open("a") as opened:
        for order_id in order_ids:
            opened.write(json.dumps(changed(order_id)) + end)


def counted(ledger: Ledger) -> dict[str, int]:
    totals = ledger._store.totals()
    found = {str(series[1]): value for series, value in totals.items() if series[0] == names.LEDGER_EVENTS}
    return {result: value for result, value in found.items() if value}


def wait_until(ledger: Ledger, **expected: int) -> None:
    """Wait for these results, and see that there are no others."""
    wait_for(lambda: sum(counted(ledger).values()) >= sum(expected.values()))
    assert counted(ledger) == expected


def read_at(ledger: Ledger, source: str) -> float:
    """Return when *source* was last read to its end, as the page of metrics says."""
    line = f'{names.FOLLOWED_READ}{{source="{source}"}}'
    found = re.search(rf"^{re.escape(line)} (\S+)$", ledger.metrics.page().decode(), re.MULTILINE)
    assert found
    return float(found[1])


@pytest.mark.parametrize("pattern", [False, True])
def test_when_a_source_was_last_read_to_its_end_is_told(file: Path, *, pattern: bool) -> None:
    source = f"files {file.parent}/*.jsonl" if pattern else f"file {file}"
    with following(file, f"glob:{file.parent}/*.jsonl" if pattern else "") as ledger:
        append(file, "A-1")
        wait_until(ledger, accepted=1)
        begun = time.time()
        wait_for(lambda: read_at(ledger, source) > begun)
        with held(ledger._store):
            append(file, "A-2")  # it cannot be kept, so the source is not read to its end
            ledger.writer.submit(ledger.new_reading())
            wait_for(lambda: ledger.writer.waiting > 1)
            before = read_at(ledger, source)
            begun = time.time()
            wait_for(lambda: time.time() > begun + 0.2)
            assert read_at(ledger, source) == before
        wait_until(ledger, accepted=2)
        wait_for(lambda: read_at(ledger, source) > begun)


def test_a_file_that_was_rotated_away_is_not_read_to_its_end_while_its_writer_may_go_on(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(file, "A-1")
    with following(file) as ledger:
        wait_until(ledger, accepted=1)
        monkeypatch.setattr(follow, "LINGER", 1.0)
        file.rename(file.with_name("orders.jsonl.1"))
        append(file, "A-2")
        rotated = time.time()
        wait_until(ledger, accepted=2)
        wait_for(lambda: read_at(ledger, f"file {file}") > rotated + 0.9)


def test_lines_are_read_as_they_come(file: Path) -> None:
    append(file, "A-1", "A-2")
    with following(file) as ledger:
        wait_until(ledger, accepted=2)
        append(file, "A-3")
        wait_until(ledger, accepted=3)
        assert ledger.story("A-3")


def test_a_file_that_comes_later_is_read_from_its_beginning(file: Path) -> None:
    with following(file) as ledger:
        append(file, "A-1")
        wait_until(ledger, accepted=1)


def test_a_line_without_its_end_waits_for_it(file: Path) -> None:
    line = json.dumps(changed("A-2"))
    append(file, "A-1")
    with file.open("a") as opened:
        opened.write(line[:30])
    with following(file) as ledger:
        wait_until(ledger, accepted=1)
        with file.open("a") as opened:
            opened.write(line[30:] + "\n")
        wait_until(ledger, accepted=2)


def test_bad_and_huge_lines_cost_only_themselves(file: Path) -> None:
    append(file, "A-1")
    with file.open("a") as opened:
        opened.write("no json\n")
        opened.write('{"event_type":"order.status_changed","padding":"' + "x" * (3 * follow.AT_ONCE) + '"}\n')
    append(file, "A-2")
    with following(file) as ledger:
        wait_for(lambda: ledger.story("A-2"))
        results = counted(ledger)
        assert results["accepted"] == 2
        assert results["rejected"] >= 2
        assert ledger.story("A-1")


def test_a_huge_line_is_one_line_that_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "AT_ONCE", 1000)
    append(file, "A-1")
    event = json.dumps(changed("hidden"))
    with file.open("a") as opened:
        opened.write("x" * 4321 + event + "\n")
        opened.write(" " * 3000 + event + "\n")
    append(file, "A-2")
    with following(file) as ledger:
        wait_until(ledger, accepted=2, rejected=2)
        with file.open("a") as opened:
            opened.write("x" * 2500)  # its end comes only after a restart
        wait_for(lambda: counted(ledger) == {"accepted": 2, "rejected": 3})
    with file.open("a") as opened:
        opened.write(event + "\n")
    append(file, "A-3")
    with following(file) as ledger:
        wait_until(ledger, accepted=3, rejected=3)


def test_bytes_that_are_no_text_and_a_mark_of_their_order_cost_no_neighbour(file: Path) -> None:
    first, last = (json.dumps(changed(order_id)).encode() for order_id in ("A-1", "A-2"))
    bad = b'{"event_type":"order.status_changed","order_id":"\xff\xfe","to_status":"INITIATED"}'
    file.write_bytes(b"\xef\xbb\xbf" + first + b"\r\n" + bad + b"\n\xc3\x28\n\0\n" + last + b"\n")
    with following(file) as ledger:
        wait_until(ledger, accepted=2, rejected=3)


def test_a_restart_goes_on_where_the_last_commit_was(file: Path) -> None:
    append(file, "A-1")
    with following(file) as ledger:
        wait_until(ledger, accepted=1)
    append(file, "A-2")
    with following(file) as ledger:
        wait_until(ledger, accepted=2)


def rename(file: Path) -> None:
    file.rename(file.with_name(file.name + ".1"))


def copy_and_truncate(file: Path) -> None:
    shutil.copy(file, file.with_name(file.name + ".1"))
    os.truncate(file, 0)


def rename_with_a_date(file: Path) -> None:
    file.rename(file.with_name("orders-20261121.jsonl"))


rotations = pytest.mark.parametrize("rotate", [rename, copy_and_truncate, rename_with_a_date])


@rotations
def test_a_rotated_file_is_read_to_its_end_before_the_new_one(file: Path, rotate: Callable[[Path], None]) -> None:
    with following(file) as ledger:
        append(file, "A-1")
        wait_until(ledger, accepted=1)
        append(file, "A-2")  # no time to see it before it moves
        rotate(file)
        append(file, "A-3")
        wait_until(ledger, accepted=3)


@rotations
def test_a_file_that_was_rotated_while_nobody_followed_is_read_to_its_end(
    file: Path, rotate: Callable[[Path], None]
) -> None:
    append(file, "A-1")
    with following(file) as ledger:
        wait_until(ledger, accepted=1)
    append(file, "A-2")
    rotate(file)
    append(file, "A-3", "A-4", "A-5")
    with following(file) as ledger:
        wait_until(ledger, accepted=5)


@rotations
def test_a_file_that_was_rotated_several_times_while_nobody_followed_is_read_whole(
    file: Path, rotate: Callable[[Path], None]
) -> None:
    append(file, "A-1")
    with following(file) as ledger:
        wait_until(ledger, accepted=1)
    for place in range(3):
        append(file, f"B-{place}")
        if rotate is rename_with_a_date:
            file.rename(file.with_name(f"orders-2026112{place}.jsonl"))
        else:
            for older in (3, 2, 1):  # as logrotate does
                moved = file.with_name(f"{file.name}.{older}")
                if moved.exists():
                    moved.rename(file.with_name(f"{file.name}.{older + 1}"))
            rotate(file)
    append(file, "A-2")
    with following(file) as ledger:
        wait_until(ledger, accepted=5)
        append(file, "A-3")
        wait_until(ledger, accepted=6)


def test_files_that_only_look_alike_are_not_read(file: Path) -> None:
    append(file, "A-1")
    with following(file) as ledger:
        wait_until(ledger, accepted=1)
    rename(file)
    for name in ("orders.db", "orders.jsonl.bak", "orders.txt", "orders-archive.jsonl", "orders.jsonl.swp"):
        file.with_name(name).write_text("no json\n")
    append(file, "A-2")
    with following(file) as ledger:
        wait_until(ledger, accepted=2)


def test_a_file_that_was_compressed_before_it_was_read_to_its_end_is_left_aside_and_named(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    append(file, "A-1")
    with following(file) as ledger:
        wait_until(ledger, accepted=1)
    append(file, "lost")
    file.with_name("orders.jsonl.2.gz").write_bytes(gzip.compress(file.read_bytes()))
    file.unlink()
    append(file, "B-1")
    rename(file)  # and rotated once more
    append(file, "B-2", "B-3")
    with following(file) as ledger:
        wait_until(ledger, accepted=4)
        assert ledger.story("lost") is None
    assert f"{file} was replaced or truncated" in caplog.text
    assert "orders.jsonl.2.gz is compressed and not read" in caplog.text


def test_a_new_file_with_the_number_of_the_old_one_is_a_new_file(file: Path) -> None:
    append(file, "A-1", "A-2")
    with following(file) as ledger:
        wait_until(ledger, accepted=2)
        inode = file.stat().st_ino
    content = "".join(json.dumps(changed(f"B-{place}")) + "\n" for place in range(3))
    with file.open("r+") as opened:  # the file system gave the number of the deleted file to the new one
        opened.write(content)
        opened.truncate()
    assert file.stat().st_ino == inode
    with following(file) as ledger:
        wait_until(ledger, accepted=5)


def test_all_files_that_match_a_pattern_are_followed_also_those_that_come_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shops = tmp_path / "shops"
    (shops / "north").mkdir(parents=True)
    (shops / "a-folder.jsonl").mkdir()
    append(shops / "north" / "one.jsonl", "A-1")
    (shops / "old.jsonl.gz").write_bytes(gzip.compress(b"{}"))
    with following(shops, f"glob:{shops}/**/*.jsonl*") as ledger:
        wait_until(ledger, accepted=1)
        append(shops / "two.jsonl", "A-2")
        wait_until(ledger, accepted=2)
        append(shops / "north" / "one.jsonl", "A-3")
        wait_until(ledger, accepted=3)
    append(shops / "two.jsonl", "A-4")
    with following(shops, f"glob:{shops}/**/*.jsonl*") as ledger:
        wait_until(ledger, accepted=4)
    assert caplog.text.count("old.jsonl.gz is compressed and not read") == 2
    assert "a-folder.jsonl, trying on" in caplog.text


def test_more_files_than_can_be_followed_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow_pattern, "MAX_FILES", 2)
    for place in range(4):
        append(tmp_path / f"{place}.jsonl", f"A-{place}")
    with following(tmp_path / "0.jsonl", f"glob:{tmp_path}/*.jsonl") as ledger:
        wait_until(ledger, accepted=2)
        wait_for(lambda: "over 2 files match" in caplog.text)


def test_what_its_writer_adds_to_a_renamed_file_is_still_read(file: Path) -> None:
    append(file, "A-1")
    with following(file) as ledger, file.open("a") as writer:
        wait_until(ledger, accepted=1)
        rename(file)
        append(file, "B-1")
        writer.write(json.dumps(changed("A-2")) + "\n")
        writer.flush()
        wait_until(ledger, accepted=3)


def test_the_unfinished_last_line_of_a_finished_file_is_read(file: Path) -> None:
    append(file, "A-1")
    append(file, "A-2", end="")
    with following(file) as ledger:
        wait_until(ledger, accepted=1)
        rename(file)
        append(file, "B-1")
        wait_until(ledger, accepted=3)


def test_a_deleted_file_is_read_to_its_end(file: Path) -> None:
    append(file, "A-1")
    with following(file) as ledger:
        wait_until(ledger, accepted=1)
        append(file, "A-2")
        file.unlink()
        append(file, "B-1")
        wait_until(ledger, accepted=3)


def test_a_file_truncated_without_a_copy_is_read_anew_and_said_so(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    append(file, "A-1", "A-2")
    with following(file) as ledger:
        wait_until(ledger, accepted=2)
        os.truncate(file, 0)
        append(file, "A-3", "A-4", "A-5")  # longer than before: its size tells nothing
        wait_until(ledger, accepted=5)
    assert "truncated" in caplog.text


def test_a_file_of_many_pieces_is_read_whole(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "AT_ONCE", 1000)
    append(file, *(f"A-{place}" for place in range(100)))
    with following(file) as ledger:
        wait_until(ledger, accepted=100)


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), os.mkfifo], ids=["folder", "pipe"])
def test_what_is_no_file_is_named_once_and_tried_again(
    file: Path, make: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    make(file)
    with following(file) as ledger:
        wait_for(lambda: "cannot follow" in caplog.text)
        looked = time.monotonic() + 0.2
        wait_for(lambda: time.monotonic() > looked)
        assert caplog.text.count("cannot follow") == 1
        file.rmdir() if file.is_dir() else file.unlink()
        append(file, "A-1")
        wait_until(ledger, accepted=1)


def test_names_with_wildcards_are_names(tmp_path: Path) -> None:
    file = tmp_path / "[o]*.jsonl"
    append(file, "A-1")
    with following(file) as ledger:
        wait_until(ledger, accepted=1)
    append(file, "A-2")
    rename(file)
    append(file, "A-3")
    with following(file) as ledger:
        wait_until(ledger, accepted=3)


def test_log_lines_between_the_events_are_passed_over(file: Path) -> None:
    file.write_text('{"level":"info","event":"started","order_id":"A-1"}\n')
    append(file, "A-1")
    with following(file) as ledger:
        wait_until(ledger, accepted=1)


STEPS = st.lists(st.sampled_from(["append", "append", "half", "rename", "copy", "restart", "wait"]), max_size=9)


@pytest.mark.no_cover
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_appends_rotations_and_restarts_in_any_order_lose_and_double_nothing(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    file = tmp_path_factory.mktemp("followed") / "orders.jsonl"
    append(file, "A-0")
    written, half = 1, ""
    ledger_block = following(file)
    ledger = ledger_block.__enter__()

    def settle() -> None:
        wait_until(ledger, accepted=written)

    settle()  # a file that was rotated before anybody saw it is nobody's
    for place, step in enumerate([*steps, "append", "wait"]):
        if step in ("append", "half"):
            line = half or json.dumps(changed(f"A-{written}")) + "\n"
            cut = len(line) // 2 if step == "half" and not half else len(line)
            with file.open("a") as opened:
                opened.write(line[:cut])
            half = line[cut:]
            written += not half
        elif step == "wait":
            settle()
        elif step == "restart":
            ledger_block.__exit__(None, None, None)
            ledger_block = following(file)
            ledger = ledger_block.__enter__()
        elif not half:
            settle()  # two rotations between two looks are one too many for anybody
            append(file, f"A-{written}")
            written += 1
            if step == "rename":
                file.rename(file.with_name(f"orders.jsonl.{place}"))
            else:
                shutil.copy(file, file.with_name(f"orders.jsonl.{place}"))
                os.truncate(file, 0)
            append(file, f"A-{written}")
            written += 1
    settle()
    ledger_block.__exit__(None, None, None)
