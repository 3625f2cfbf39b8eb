"""Run a command on a leash: it ends when whoever started it is gone, however that happened.

    python leash.py COMMAND ... -- CLEAN-UP ...

The leash is a pipe, my standard input.  When a byte comes or the pipe ends (also because the process that held it was
killed), the whole process group of COMMAND is killed and CLEAN-UP runs.  The same when COMMAND ends by itself.
Runs as a script, with the standard library only; must not know what it holds.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@contextmanager
def leashed(
    command: Sequence[str], *, clean_up: Sequence[str] = ("true",), **popen: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """Run *command* inside the block, and *clean_up* after it.

    Gives the leash: its ``poll()`` is None while the command runs, then the command's exit status.
    popen: further arguments of subprocess.Popen, such as ``cwd`` or ``stdout``.
    """
    arguments = [sys.executable, "-IS", __file__, *command, "--", *clean_up]
    leash = subprocess.Popen(arguments, stdin=subprocess.PIPE, start_new_session=True, **popen)
    try:
        yield leash
    finally:
        leash.communicate(b".")  # a byte, because a forked child of ours may hold the pipe open


def main(arguments: list[str]) -> int:
    """Hold the command, and return its exit status."""
    end = arguments.index("--")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    held = None
    try:
        held = subprocess.Popen(arguments[:end], stdin=subprocess.DEVNULL, start_new_session=True)
        threading.Thread(target=_kill_when_released, args=(held.pid,), daemon=True).start()
        return held.wait()
    finally:
        if held:
            _kill_group(held.pid)
            held.wait()
        subprocess.run(arguments[end + 1 :], stdin=subprocess.DEVNULL, check=False)


def _kill_when_released(group: int) -> None:
    os.read(sys.stdin.fileno(), 1)
    _kill_group(group)


def _kill_group(group: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
