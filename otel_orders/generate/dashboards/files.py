"""Which dashboards there are, and the files that they are written into.  Pure: from a lifecycle to texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_orders.generate.alerts import flat
from otel_orders.generate.dashboards import board
from otel_orders.generate.dashboards.capacity import capacity
from otel_orders.generate.dashboards.order import order
from otel_orders.generate.dashboards.overview import overview
from otel_orders.generate.dashboards.partners import partners
from otel_orders.generate.dashboards.provisioning import provisioning
from otel_orders.generate.dashboards.queues import queues
from otel_orders.generate.dashboards.services import services
from otel_orders.generate.dashboards.telemetry import telemetry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_orders.generate.dashboards.board import Board
    from otel_orders.lifecycle import Lifecycle


def boards(lifecycle: Lifecycle) -> Iterator[tuple[str, Board]]:
    """Yield all dashboards, by the name of their file."""
    yield "overview.json", overview(lifecycle)
    if lifecycle.queues:
        yield "queues.json", queues(lifecycle)
    yield "services.json", services(lifecycle)
    yield "partners.json", partners(lifecycle)
    yield "order.json", order(lifecycle)
    yield "capacity.json", capacity(lifecycle)
    yield "telemetry.json", telemetry(lifecycle)


def files(lifecycle: Lifecycle, runbooks: str) -> dict[str, str]:
    """Return all files by name.  runbooks: the URL below which the runbooks are shown."""
    known = {alert.name for alert in flat(lifecycle)}
    at = runbooks.rstrip("/")
    made = {name: board.text(board.dashboard(one, known, at)) for name, one in boards(lifecycle)}
    return made | provisioning()
