"""Who is called about what, as a lifecycle says it.  Pure.

Recording rules put the owner on every series, so that one alert serves all teams and its label says whose it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from otel_orders.lifecycle import Lifecycle, Queue, Sla, Status

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


def last_step(sla: Sla, lifecycle: Lifecycle) -> Status:
    """Return the status whose move is the last one of a promise: its owner is who keeps it."""
    before = [status for status in lifecycle.statuses.values() if sla.end_status in status.next]
    steps = [status for status in before if status.name == sla.start_status] or before
    return max(steps, key=lambda status: status.rank) if steps else lifecycle.statuses[sla.start_status]


def on_the_way(sla: Sla, lifecycle: Lifecycle) -> dict[str, list[str]]:
    """Return the statuses in which an order may wait while a promise runs, by whose move it is."""
    found, ahead = set(), [sla.start_status]
    while ahead:
        name = ahead.pop()
        if name not in found and name not in sla.void_on and sla.end_status in lifecycle.forward[name]:
            found.add(name)
            ahead += [after for after in lifecycle.statuses[name].next if after != sla.end_status]
    waiting = {owner: [name for name in listed if name in found] for owner, listed in open_statuses(lifecycle).items()}
    return {owner: listed for owner, listed in waiting.items() if listed}
