from __future__ import annotations

import errno
import os
import pty
import socket
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_orders import json_lines
from otel_orders.json_lines import LineWriter, Timestamps, encode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "orders.jsonl"


@contextmanager
def redirected(stream: int, target: int) -> Iterator[None]:
    """Make *stream* what *target* is.  A block, not a fixture: pytest puts its own streams back before each phase."""
    kept = os.dup(stream)
    os.dup2(target, stream)
    try:
        yield
    finally:
        os.dup2(kept, stream)
        os.close(kept)


@contextmanager
def stdout_is_a_pipe() -> Iterator[int]:
    """Make stdout a pipe that nobody reads; give the end that could."""
    read, write = os.pipe()
    try:
        with redirected(1, write):
            yield read
    finally:
        os.close(read)
        os.close(write)


def emptied(read: int) -> bytes:
    """Return all that is in a pipe, whose end *read* does not wait."""
    found = b""
    while True:
        try:
            found += os.read(read, 1_000_000)
        except BlockingIOError:
            return found


def test_the_fields_that_matter_come_first_and_absent_ones_are_left_out() -> None:
    line = encode({"price": 5, "trace_id": "t", "order_id": "A-1", "partner_id": None, "timestamp": "now"})
    assert line == b'{"timestamp":"now","order_id":"A-1","trace_id":"t","price":5}\n'


@given(st.dictionaries(st.text(), st.one_of(st.text(), st.integers(-(2**63), 2**63), st.none(), st.dates())))
def test_a_line_is_one_json_object_whatever_the_fields_hold(fields: dict[str, object]) -> None:
    line = encode(fields)
    assert line.count(b"\n") == 1
    assert msgspec.json.decode(line).keys() == {
        key for key, value in fields.items() if value is not None or key not in json_lines.LEADING
    }


def test_values_that_json_does_not_know_become_text() -> None:
    assert encode({"path": ValueError("x")}) == b'{"path":"x"}\n'


@given(st.lists(st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)), max_size=5))  # noqa: DTZ001 - made aware below
def test_timestamps_are_rfc_3339_in_utc(moments: list[datetime]) -> None:
    timestamps = Timestamps()
    for moment in (found.replace(tzinfo=UTC) for found in moments):
        whole = moment.replace(microsecond=0)
        unix_ns = int(whole.timestamp()) * 1_000_000_000 + moment.microsecond * 1000
        assert datetime.fromisoformat(timestamps.text(unix_ns)) == moment


def test_lines_are_appended_to_what_is_there(file: Path) -> None:
    file.write_bytes(b"before\n")
    writer = LineWriter(str(file))
    writer.write(b"after\n")
    writer.close()
    assert file.read_bytes() == b"before\nafter\n"


def test_a_file_that_cannot_be_opened_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        LineWriter(str(tmp_path / "missing" / "orders.jsonl"))


def test_a_rotated_file_is_opened_anew(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "REOPEN_EVERY", 0.0)
    writer = LineWriter(str(file))
    writer.write(b"one\n")
    file.rename(file.with_suffix(".1"))
    writer.write(b"two\n")
    writer.close()
    assert file.with_suffix(".1").read_bytes() == b"one\n"
    assert file.read_bytes() == b"two\n"


def test_a_folder_that_was_taken_away_costs_every_line_until_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_lines, "REOPEN_EVERY", 0.0)
    folder = tmp_path / "log"
    folder.mkdir()
    writer = LineWriter(str(folder / "orders.jsonl"))
    folder.rename(tmp_path / "gone")
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            writer.write(b"lost\n")
    folder.mkdir()
    writer.write(b"kept\n")
    writer.close()
    assert (folder / "orders.jsonl").read_bytes() == b"kept\n"


def test_a_full_disk_is_said_for_each_line() -> None:
    writer = LineWriter("/dev/full")
    for _ in range(2):
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            writer.write(b"lost\n")
    writer.close()


def test_a_line_that_was_cut_short_costs_no_neighbour(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    read = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    writer = LineWriter(str(fifo))
    with pytest.raises(OSError, match=r"only .* bytes written"):
        writer.write(b"x" * 10_000_000 + b"\n")
    cut = emptied(read)
    writer.write(b"whole\n")
    assert os.read(read, 100) == b"\nwhole\n"
    writer.close()
    os.close(read)
    assert set(cut) == set(b"x")


def test_a_pipe_that_nobody_reads_costs_lines_and_never_time() -> None:
    line, lost, finished = b"x" * 9_999 + b"\n", list[OSError](), threading.Event()

    def write(writer: LineWriter) -> None:
        for _ in range(200):
            try:
                writer.write(line)
            except OSError as error:
                lost.append(error)
        finished.set()

    with stdout_is_a_pipe() as read:
        writer = LineWriter("stdout")
        threading.Thread(target=write, args=[writer], daemon=True).start()
        in_time, first = finished.wait(10), os.read(read, len(line))
        writer.close()
    assert in_time
    assert lost
    assert first == line, "the first line arrives whole"


def test_a_pipe_stays_blocking_for_everybody_else() -> None:
    with stdout_is_a_pipe():
        LineWriter("stdout").close()
        assert os.get_blocking(1)


def test_a_terminal_is_written_to() -> None:
    ours, theirs = pty.openpty()
    with redirected(2, theirs):
        writer = LineWriter("stderr")
        writer.write(b"seen\n")
        writer.close()
    assert os.read(ours, 100) == b"seen\r\n"
    os.close(ours)
    os.close(theirs)


def test_a_socket_is_written_to() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with redirected(2, theirs.fileno()):
            writer = LineWriter("stderr")
            writer.write(b"seen\n")
            writer.close()
        assert ours.recv(100) == b"seen\n"


def test_the_standard_streams_stay_open() -> None:
    with stdout_is_a_pipe() as read:
        writer = LineWriter("stdout")
        writer.write(b"one\n")
        writer.close()
        os.write(1, b"two\n")
        seen = os.read(read, 100)
    assert seen == b"one\ntwo\n"


def test_a_closed_writer_writes_nowhere(file: Path) -> None:
    writer = LineWriter(str(file))
    writer.close()
    writer.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        writer.write(b"lost\n")


def test_lines_of_many_threads_stay_whole(file: Path) -> None:
    writer = LineWriter(str(file))
    lines = [f"{index}:{'x' * 500}\n".encode() for index in range(8)]

    def write(line: bytes) -> None:
        for _ in range(50):
            writer.write(line)

    threads = [threading.Thread(target=write, args=[line]) for line in lines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    written = file.read_bytes().splitlines(keepends=True)
    assert sorted(written) == sorted(lines * 50)


def test_a_signal_handler_that_writes_in_the_middle_of_a_write_does_not_wait_for_itself(file: Path) -> None:
    writer = LineWriter(str(file))
    with writer._lock:  # where the handler finds its own thread
        writer.write(b"written\n")
    writer.close()
    assert file.read_bytes() == b"written\n"


def test_a_forked_child_does_not_wait_for_a_thread_that_it_does_not_have(file: Path) -> None:
    writer, held, done = LineWriter(str(file)), threading.Event(), threading.Event()

    def hold() -> None:
        with writer._lock:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    writer.after_fork()
    writer.write(b"written\n")
    done.set()
    thread.join()
    writer.close()
    assert file.read_bytes() == b"written\n"
