"""What takes long to make, and is made once for all workers of a test run."""

from __future__ import annotations

import fcntl
from typing import TYPE_CHECKING
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def once(folder: Path, make: Callable[[Path], object]) -> Path:
    """Return *folder*, which *make* has filled, for nobody to change.

    Who asks first makes it, and others wait; where making it fails, the next one tries again.
    """
    with folder.with_suffix(".lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = folder.with_name(f"{folder.name}-{uuid4().hex}")
            unfinished.mkdir()
            make(unfinished)
            unfinished.rename(folder)
    return folder
