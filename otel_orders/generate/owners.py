"""Who is called about what, as a lifecycle says it.  Pure.

Recording rules put the owner on every series, so that one alert serves all teams and its label says whose it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from otel_orders.lifecycle import Lifecycle, Queue, Sla

TELEMETRY: Final = "telemetry"
"""Who runs the ledger, the Collector and Prometheus: no lifecycle names them."""


def open_statuses(lifecycle: Lifecycle) -> dict[str, list[str]]:
    """Return the statuses in which orders wait, by whose move it is."""
    found: dict[str, list[str]] = {owner: [] for owner in lifecycle.owners}
    for status in lifecycle.statuses.values():
        if not status.terminal:
            found[status.owner].append(status.name)
    return {owner: statuses for owner, statuses in found.items() if statuses}


def scraped_services(lifecycle: Lifecycle) -> dict[str, list[str]]:
    """Return the services that serve metrics, by owner: those that can send heartbeats."""
    return {owner.name: [*owner.services] for owner in lifecycle.owners.values() if owner.heartbeat}


def of_queue(queue: Queue, lifecycle: Lifecycle) -> str:
    """Return who must read *queue*."""
    owner = lifecycle.owner_of(queue.consumer)
    return owner.name if owner is not None else lifecycle.statuses[queue.status].owner


def of_sla(sla: Sla, lifecycle: Lifecycle) -> str:
    """Return whose move the last step of a promise is."""
    before = [status for status in lifecycle.statuses.values() if sla.end_status in status.next]
    steps = [status for status in before if status.name == sla.start_status] or before
    return max(steps, key=lambda status: status.rank).owner if steps else lifecycle.statuses[sla.start_status].owner
