"""Follow all files whose names match a pattern, in one thread; what one of them does costs no other.

A pattern should not match what rotating leaves behind: it would be read once more, and count as duplicates.
"""

from __future__ import annotations

import glob
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otel_orders.ledger.follow import FollowedFile
from otel_orders.ledger.polling import Poller
from otel_orders.ledger.rotation import is_compressed

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_orders.ledger.reading import Reading
    from otel_orders.ledger.store import Store
    from otel_orders.ledger.writer import Writer

logger = logging.getLogger("otel_orders.ledger")

MAX_FILES: Final = 500
"""Files that are followed at once: each is kept open."""


class PatternFollower:
    """Follows the files that match *pattern*, as glob() has it, ``**`` included; more may come at any time."""

    def __init__(self, pattern: str, store: Store, writer: Writer, new_reading: Callable[[], Reading]) -> None:
        self._pattern = os.path.abspath(pattern)  # noqa: PTH100 - a pattern is no path
        self._new_file: Callable[[str], FollowedFile] = lambda path: FollowedFile(path, store, writer, new_reading)
        self._files: dict[str, FollowedFile] = {}
        self._said: set[str] = set()
        self.poller = Poller(f"the files {pattern}", self._look)

    def close(self) -> None:
        """Stop after the piece that is being read."""
        self.poller.close()
        for file in self._files.values():
            file.close()

    def _look(self) -> bool:
        for path in sorted(glob.glob(self._pattern, recursive=True)):  # noqa: PTH207 - a pattern may be absolute
            if path not in self._files and not self._is_left_aside(path):
                self._files[path] = self._new_file(path)
        left = [path for path, file in self._files.items() if not self._look_at(path, file)]
        return not left

    def _look_at(self, path: str, file: FollowedFile) -> bool:
        try:
            caught_up = file.look(self.poller)
        except Exception as error:
            self._say(path, f"cannot follow {path}, trying on: {error}")
            return False
        self._said.discard(path)
        return caught_up

    def _is_left_aside(self, path: str) -> bool:
        if is_compressed(Path(path)):
            self._say(path, f"{path} is compressed and not read; rotate with a delay, and what is in it is known")
            return True
        if len(self._files) >= MAX_FILES:
            self._say(self._pattern, f"over {MAX_FILES} files match {self._pattern}; not read: {path} and others")
            return True
        return False

    def _say(self, about: str, what: str) -> None:
        if about not in self._said:
            logger.warning("otel_orders: %s", what)
            self._said.add(about)
