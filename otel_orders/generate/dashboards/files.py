"""Which dashboards there are, and the files that they are written into.  Pure: from a lifecycle to texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_orders.generate.alerts import flat
from otel_orders.generate.dashboards import board
from otel_orders.generate.dashboards.overview import overview

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_orders.generate.dashboards.board import Board
    from otel_orders.lifecycle import Lifecycle


def boards(lifecycle: Lifecycle) -> Iterator[tuple[str, Board]]:
    """Yield all dashboards, by the name of their file."""
    yield "overview.json", overview(lifecycle)


def files(lifecycle: Lifecycle, runbooks: str) -> dict[str, str]:
    """Return all files by name.  runbooks: the URL below which the runbooks are shown."""
    known = {alert.name for alert in flat(lifecycle)}
    at = runbooks.rstrip("/")
    return {name: board.text(board.dashboard(made, known, at)) for name, made in boards(lifecycle)}
