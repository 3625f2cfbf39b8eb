"""Send what is queued when a process ends in ways that Python's atexit does not see: SIGTERM, multiprocessing children.

Knows nothing of what is sent.
"""

from __future__ import annotations

import os
import signal
import threading
from multiprocessing import util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


def before_sigterm(finish: Callable[[], None]) -> Callable[[], None]:
    """Call *finish* when SIGTERM comes, then end by it as ever; return what undoes this.

    Only where nobody handles SIGTERM, so that the application's own way to stop stays its own.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return _nothing

    def on_sigterm(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        try:
            finish()
        finally:
            os.kill(os.getpid(), number)

    def undo() -> None:
        if signal.getsignal(signal.SIGTERM) is on_sigterm and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    signal.signal(signal.SIGTERM, on_sigterm)
    return undo


def within(seconds: float, step: Callable[[], object], name: str) -> bool:
    """Let *step* run for at most *seconds*; return whether it has ended.  name: of the thread that it runs in.

    It goes on in its thread, which does not keep the process alive.
    """
    running = threading.Thread(target=step, name=name, daemon=True)
    try:
        running.start()
    except RuntimeError:  # the interpreter is ending, and starts no thread any more
        step()
        return True
    running.join(seconds)
    return not running.is_alive()


def at_child_exit(finish: Callable[[], None]) -> None:
    """Call *finish* when a child that multiprocessing forks from now on has done its work: it ends without atexit."""
    util.register_after_fork(finish, lambda _finish: util.Finalize(None, finish, exitpriority=0))


def _nothing() -> None:
    """Undo what was not done."""
