"""The board: for each status in pipeline order, how many orders wait there, since when, how many are stuck, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from otel_orders import names
from otel_orders.ledger.flow import beats, read_listening
from otel_orders.ledger.stages import all_movers, quiet

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_orders.ledger.stages import Judged
    from otel_orders.ledger.store import Store
    from otel_orders.ledger.totals import Series
    from otel_orders.lifecycle import Lifecycle, Status

HEARD: Final = 600 * 1_000_000_000
"""How long ago, at least, an instance may have been heard and still count as one that runs: clocks differ."""


class Stage(msgspec.Struct, frozen=True):
    """One status and its orders.

    orders: waiting now, 0 for a terminal status.  oldest: when the first of them came, unix ns, None for none.
    stuck_after: seconds, None for no limit.  reached: how many orders were ever here.  on_hold: of *orders*, how many a
    person said may wait.  state: flowing, stalled or blind, since when (unix ns, 0 for ever), and the evidence in
    words; empty for a terminal status.
    """

    status: str
    owner: str
    terminal: bool
    orders: int
    oldest: int | None
    stuck: int
    stuck_after: float | None
    reached: int
    on_hold: int = 0
    state: str = ""
    since: int = 0
    evidence: str = ""


class OtherLifecycle(msgspec.Struct, frozen=True):
    """A service of which instances run another version of the lifecycle than the ledger.  hashes: theirs, sorted."""

    service: str
    instances: int
    hashes: tuple[str, ...]


def board(store: Store, lifecycle: Lifecycle, told: Mapping[str, Judged]) -> list[Stage]:
    """Return the stages in pipeline order.  told: how they do, by status."""
    totals, oldest = store.totals(), store.oldest(len(lifecycle.statuses))
    return [
        _stage(status, totals, oldest.get(status.rank), told.get(status.name)) for status in lifecycle.statuses.values()
    ]


def _stage(status: Status, totals: Mapping[Series, int], oldest: int | None, told: Judged | None) -> Stage:
    stage = Stage(
        status=status.name,
        owner=status.owner,
        terminal=status.terminal,
        orders=totals.get((names.IN_STATUS, status.name), 0),
        oldest=oldest,
        stuck=totals.get((names.STUCK, status.name), 0),
        stuck_after=status.stuck_after.seconds if status.stuck_after else None,
        reached=totals.get((names.REACHED, status.name), 0),
        on_hold=totals.get((names.ON_HOLD, status.name), 0),
    )
    if told is None:
        return stage
    verdict = told.verdict
    return msgspec.structs.replace(stage, state=verdict.state, since=verdict.since, evidence=told.evidence)


def other_lifecycles(store: Store, lifecycle: Lifecycle, now: int) -> list[OtherLifecycle]:
    """Return the services that run another lifecycle at *now* (unix ns), as far as their last heartbeats say."""
    found: dict[str, list[str]] = {}
    all_seen = store.seen()
    for owner in lifecycle.owners.values():
        for seen in all_seen:
            alive = seen.service in owner.services and now - seen.at <= max(int(owner.quiet_after), HEARD)
            if alive and seen.lifecycle_hash not in ("", lifecycle.hash):
                found.setdefault(seen.service, []).append(seen.lifecycle_hash)
    return [OtherLifecycle(service, len(all_), tuple(sorted(set(all_)))) for service, all_ in sorted(found.items())]


def quiet_services(store: Store, lifecycle: Lifecycle, now: int) -> dict[str, str]:
    """Return, in words by service, which were heard before and are silent at *now* (unix ns)."""
    listening = read_listening(store)
    return quiet(all_movers(lifecycle), beats(store.moments()), now, now if listening is None else listening.since)
