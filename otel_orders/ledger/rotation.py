"""Find what rotating a log file leaves beside it.  Knows names and times, and reads nothing.

Names: ``orders.jsonl.1``, ``orders.jsonl-20261121``, ``orders-20261121.jsonl``; compressed ones are of no use to us.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

COMPRESSED: Final = (".gz", ".xz", ".zst", ".bz2", ".zip")
_MARK: Final = r"[.\-_][0-9][0-9A-Za-z.:_\-]*"
"""What rotating puts into a name: a number or a date."""


def is_compressed(path: Path) -> bool:
    """Whether *path* has a compressed file's name."""
    return path.name.endswith(COMPRESSED)


def beside(path: Path) -> list[Path]:
    """Return the files beside *path* whose names begin as its own does, compressed ones excepted."""
    return [one for one in _relatives(path) if not is_compressed(one)]


def compressed(path: Path) -> list[Path]:
    """Return the compressed files beside *path* that rotating may have made of it."""
    return [one for one in _relatives(path) if is_compressed(one) and _is_rotated(path, one)]


def since(path: Path, after: int) -> list[Path]:
    """Return what was rotated away from *path* and written to at *after* (unix ns) or later, oldest first."""
    found = [(one.stat().st_mtime_ns, one) for one in beside(path) if _is_rotated(path, one) and one.is_file()]
    return [one for modified, one in sorted(found) if modified >= after]


def _relatives(path: Path) -> list[Path]:
    stem = path.name.partition(".")[0]
    return sorted(one for one in path.parent.iterdir() if one.name.startswith(stem) and one != path)


def _is_rotated(path: Path, other: Path) -> bool:
    stem, dot, ending = path.name.partition(".")
    marked = (re.escape(path.name) + _MARK, re.escape(stem) + _MARK + re.escape(dot + ending) + f"({_MARK})?")
    name = other.name
    for suffix in COMPRESSED:
        name = name.removesuffix(suffix)
    return any(re.fullmatch(pattern, name) for pattern in marked)
