from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from examples.order_pipeline.scenarios.broker.leash import leashed
from tests.examples.running import eventually

ROOT = Path(__file__).parents[2]
HOLDER = """
import sys, time
from examples.order_pipeline.scenarios.broker.leash import leashed
with leashed(sys.argv[2:], clean_up=["touch", sys.argv[1]]):
    time.sleep(600)
"""
FAMILY = ["sh", "-c", 'sleep 600 & echo $! $$ > "$0.new"; mv "$0.new" "$0"; wait']
"""Writes the ids of a child and of itself to a file."""


def alive(process: int) -> bool:
    """Say whether *process* runs; a zombie, for which nobody waits, has ended."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.parametrize("fatal", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_command_and_its_children_end_with_whoever_started_it(fatal: signal.Signals, tmp_path: Path) -> None:
    cleaned_up, ids = tmp_path / "cleaned-up", tmp_path / "ids"
    command = [sys.executable, "-c", HOLDER, str(cleaned_up), *FAMILY, str(ids)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as holder:
        try:
            eventually(ids.exists)
            family = [int(process) for process in ids.read_text().split()]
            assert all(alive(process) for process in family)
        finally:
            holder.send_signal(fatal)
    assert holder.returncode != 0
    eventually(cleaned_up.exists)
    eventually(lambda: not any(alive(process) for process in family))


def test_the_block_ends_after_the_clean_up(tmp_path: Path) -> None:
    cleaned_up = tmp_path / "cleaned-up"
    with leashed(["sleep", "600"], clean_up=["touch", str(cleaned_up)]) as leash:
        assert leash.poll() is None
        assert not cleaned_up.exists()
    assert cleaned_up.exists()


def test_a_command_that_ends_by_itself_is_seen_with_its_exit_status(tmp_path: Path) -> None:
    cleaned_up = tmp_path / "cleaned-up"
    with leashed(["sh", "-c", "exit 3"], clean_up=["touch", str(cleaned_up)]) as leash:
        assert leash.wait(20) == 3
        assert cleaned_up.exists()


def test_a_command_that_cannot_be_started_is_cleaned_up_after(tmp_path: Path) -> None:
    cleaned_up = tmp_path / "cleaned-up"
    missing = str(tmp_path / "no-such-program")
    with leashed([missing], clean_up=["touch", str(cleaned_up)], stderr=subprocess.DEVNULL) as leash:
        assert leash.wait(20) != 0
    assert cleaned_up.exists()


def test_a_forked_child_that_keeps_the_pipe_open_does_not_delay_the_end() -> None:
    with leashed(["sleep", "600"]):
        child = os.fork()
        if child == 0:
            signal.pause()
            os._exit(0)
        started = time.monotonic()
    assert time.monotonic() - started < 20
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
