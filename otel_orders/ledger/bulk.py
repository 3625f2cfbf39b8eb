"""How much one request may hold, counted before anything is done for each part of it.

Bytes alone bound too little: an empty record has two, and costs as much as one with an event.  Pure.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from otel_orders.errors import EventError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.message import Message

MAX_RECORDS: Final = 100_000
"""Records in one request, and lines: 16 MB hold fewer that say something."""
MAX_VALUES: Final = 1_000_000
"""Attributes of all records together; in JSON, whatever stands in a list or an object."""
TOO_MANY: Final = "too_many"


def check_message(request: Message, path: Sequence[str]) -> None:
    """Raise EventError where *request* has too many records, which are the elements of its lists along *path*."""
    levels: list[list[Any]] = [[request]]
    for name in path:
        lists = [getattr(message, name) for message in levels[-1]]
        _check(sum(map(len, lists)), MAX_RECORDS, "records")
        levels.append(list(chain.from_iterable(lists)))
    _, resources, *_, records = levels
    bearers = chain((part.resource for part in resources), records)
    _check(sum(len(bearer.attributes) for bearer in bearers), MAX_VALUES, "attributes")


def check_tree(tree: dict[str, Any], path: Sequence[str]) -> None:
    """Raise EventError where *tree*, of JSON, has too many values, or too many records along *path*."""
    values = 0
    level: list[dict[str, Any] | list[Any]] = [tree]
    while level:
        values += sum(map(len, level))
        _check(values, MAX_VALUES, "values")
        below = chain.from_iterable(item.values() if isinstance(item, dict) else item for item in level)
        level = [item for item in below if isinstance(item, (dict, list))]
    _check(records_below(tree, path), MAX_RECORDS, "records")


def records_below(tree: Any, path: Sequence[str]) -> int:
    """Return how many records hang below *tree* along *path*; what is not as it should be counts as one."""
    items = tree.get(path[0]) if path and isinstance(tree, dict) else None
    return sum(records_below(item, path[1:]) for item in items) if isinstance(items, list) else 1


def check_lines(body: bytes) -> None:
    """Raise EventError where *body* has too many lines."""
    _check(body.count(b"\n"), MAX_RECORDS, "lines")


def _check(count: int, most: int, what: str) -> None:
    if count > most:
        raise EventError(TOO_MANY, f"a request may have {most} {what}; send smaller batches")
