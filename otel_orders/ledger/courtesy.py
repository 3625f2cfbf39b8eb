"""Let who takes events in give way to who looks something up: they share one interpreter, and a person waits.

A look-up needs the interpreter a dozen times, for microseconds each; beside busy threads it would queue each time.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import TracebackType

AT_ONCE: Final = 0.005
"""Seconds that work gives way at once; then it goes on for as long, so that look-ups without end do not stop it."""


class Lookups:
    """Look-ups that are under way: ``with lookups: ...``, in the thread of the event loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._none = threading.Event()
        self._under_way = 0
        self._loop = 0
        self._busy_until = 0.0

    def __enter__(self) -> None:
        with self._lock:
            self._loop = threading.get_ident()
            self._under_way += 1
            self._none.clear()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._lock:
            self._under_way -= 1
            if not self._under_way:
                self._none.set()

    def give_way(self) -> None:
        """Wait until nothing is looked up, AT_ONCE seconds at most.  Cheap enough for each event."""
        # The loop's own thread cannot wait for what it would go on with itself.
        if not self._under_way or threading.get_ident() == self._loop or time.monotonic() < self._busy_until:
            return
        if not self._none.wait(AT_ONCE):
            self._busy_until = time.monotonic() + AT_ONCE


lookups: Final = Lookups()
"""Those of this process: it has one interpreter."""
