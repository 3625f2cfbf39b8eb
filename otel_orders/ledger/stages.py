"""Is it the order, the stage, or the telemetry?  Judge a stage: flowing, stalled or blind, and say why.  Pure.

Stalled: orders wait, and none has left for max(stalled_after, 4 times the usual gap of such hours).  Time in which
orders usually do not leave (nights, weekends) is no silence, nor is the time in which this ledger did not listen.  An
order that was overtaken, since one that came later has left, waits for a reason of its own and makes no stage stalled;
nor does one that a person put on hold.

Blind: the services that move orders on from here send no heartbeat any more, so that a silence says nothing.  Unless
the broker itself says that nobody consumes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from otel_orders.ledger.sla import working_time
from otel_orders.ledger.words import span_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from zoneinfo import ZoneInfo

    from otel_orders.ledger.rhythm import Rhythm
    from otel_orders.lifecycle import Calendar, Lifecycle, Owner, Status

SECOND: Final = 1_000_000_000
DAY: Final = 86_400 * SECOND

FLOWING: Final = "flowing"
STALLED: Final = "stalled"
BLIND: Final = "blind"

USUAL_TIMES: Final = 4
"""How many usual gaps a stage must be silent for."""
SEVERAL: Final = 2
"""Waiting orders from which on the usual gap counts: of one that waits alone, only stalled_after says what is long."""
RESUMED: Final = 60 * SECOND
"""How long, at most, orders must have left again before a stalled stage flows."""
FORGOTTEN: Final = DAY
"""After this time a role that is silent was given up for good, if its service is alive in another one."""

Beats = dict[tuple[str, str], int]
"""When the last heartbeat of each service and role was heard, unix ns."""


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was decided last.

    since, resumed_at: unix ns; the latter when orders began to leave a stalled stage again.
    """

    state: str = FLOWING
    since: int = 0
    resumed_at: int | None = None


class Judged(NamedTuple):
    """A verdict and its evidence, in words."""

    verdict: Verdict
    evidence: str


class Mover(NamedTuple):
    """A service whose move it is.  quiet_after: ns."""

    service: str
    quiet_after: int


class Look(NamedTuple):
    """What is known of one stage at one moment.

    at: now.  listening: since when this ledger, or another on the same store, has heard events without a break.
    orders: waiting; on_hold: as many of them.  expected: how many wait that are neither on hold nor overtaken, SEVERAL
    for more; came_at: when the first of these came, or its hold ended.  left_at: when an order last left.  queues: what
    is known of the queues before it, in words.  deserted: the broker says that nobody consumes.  Times: unix ns, None
    for never or nobody.
    """

    status: Status
    at: int
    listening: int
    orders: int
    expected: int
    came_at: int | None
    left_at: int | None
    queues: tuple[str, ...] = ()
    deserted: bool = False
    on_hold: int = 0


class Habit(NamedTuple):
    """What is usual for a stage: by its calendar if it has one, and by what was learned."""

    rhythm: Rhythm
    zone: ZoneInfo
    calendar: Calendar | None = None

    def open_time(self, since: int, until: int, at_most: int) -> int:
        """Return how much of the time between two moments (unix ns) orders could be expected to leave; ns."""
        if self.calendar is not None:
            return min(working_time(self.calendar, since, until), at_most)
        return self.rhythm.open_time(since, until, at_most, self.zone)


def movers(status: Status, lifecycle: Lifecycle) -> tuple[Mover, ...]:
    """Return whose heartbeats tell about the stage: consumers of its queues that are its owner's, else all of them.

    None where the owner's services cannot send any: such a stage is judged by its events alone.
    """
    owner: Owner = lifecycle.owners[status.owner]
    if not owner.heartbeat:
        return ()
    consumers = {queue.consumer for queue in lifecycle.queues.values() if queue.status == status.name}
    services = [service for service in owner.services if service in consumers] or owner.services
    return tuple(Mover(service, int(owner.quiet_after)) for service in services)


def all_movers(lifecycle: Lifecycle) -> tuple[Mover, ...]:
    """Return all services that send heartbeats."""
    owners = [owner for owner in lifecycle.owners.values() if owner.heartbeat]
    return tuple(Mover(service, int(owner.quiet_after)) for owner in owners for service in owner.services)


def judge(look: Look, habit: Habit, moving: tuple[Mover, ...], beats: Beats, before: Verdict) -> Judged:
    """Return the verdict on the stage after *before*, and why."""
    silent = quiet(moving, beats, look.at, look.listening, blind=before.state == BLIND)
    if _is_blind(look, moving, silent, before):
        return Judged(_next(BLIND, look.at, before), _said(*silent.values(), _last(look), *_told(look)))
    limit = _limit(look, habit)
    if limit is None:
        return Judged(_next(FLOWING, look.at, before), _said(_last(look), *_told(look)))
    verdict = _stall(look, habit, limit, before)
    if verdict.state == STALLED:
        gap = habit.rhythm.usual_gap(look.at, habit.zone)
        usual = f" (usual gap {span_of(gap)})" if gap else ""
        return Judged(verdict, _said(_silence(look) + usual, _waiting(look), *_told(look), *silent.values()))
    lull = ["nothing is expected to leave at this hour"] if look.at - _start(look) >= limit else []
    return Judged(verdict, _said(_last(look), *lull, *_told(look)))


def quiet(moving: tuple[Mover, ...], beats: Beats, at: int, listening: int, *, blind: bool = False) -> dict[str, str]:
    """Return, in words by service, which of *moving* were heard before and are silent now, in one of their roles.

    at: now.  listening: since when we hear.  blind: they were silent; to be alive again, they must be heard well before
    they would be quiet.
    """
    found: dict[str, str] = {}
    for mover in moving:
        limit = _quiet_after(mover, blind=blind)
        heard = {role: last for (service, role), last in beats.items() if service == mover.service}
        alive = any(at - last <= limit for last in heard.values())
        silent = {
            role: last
            for role, last in heard.items()
            if at - max(last, listening) > limit and not (alive and at - last > FORGOTTEN)
        }
        if silent:
            role, last = max(silent.items(), key=lambda one: one[1])
            who = f"{mover.service} ({role})" if role else mover.service
            found[mover.service] = f"{who} has been quiet for {span_of(at - last)}"
    return found


def _quiet_after(mover: Mover, *, blind: bool) -> int:
    return mover.quiet_after // 2 if blind else mover.quiet_after


def _is_blind(look: Look, moving: tuple[Mover, ...], silent: Mapping[str, str], before: Verdict) -> bool:
    if not silent or look.deserted:
        return False
    limit = min(_quiet_after(mover, blind=before.state == BLIND) for mover in moving)
    if look.left_at is not None and look.at - look.left_at <= limit:
        return False  # its events are heard, whatever became of its heartbeats
    return all(mover.service in silent for mover in moving)


def _limit(look: Look, habit: Habit) -> int | None:
    """Return for how long nothing may leave (ns); None where nobody waits whose stay says anything, or nobody said."""
    stalled_after = look.status.stalled_after
    if not stalled_after or look.came_at is None:
        return None
    gap = habit.rhythm.usual_gap(look.at, habit.zone) if look.expected >= SEVERAL else None
    return max(int(stalled_after), USUAL_TIMES * (gap or 0))


def _start(look: Look) -> int:
    """Return since when the stage is silent: somebody has waited, and we have listened, and nobody has left."""
    return max(look.listening, look.left_at or 0, look.came_at or 0)


def _stall(look: Look, habit: Habit, limit: int, before: Verdict) -> Verdict:
    if before.state != STALLED:
        start = _start(look)
        silent = look.at - start >= limit and habit.open_time(start, look.at, limit) >= limit
        return _next(STALLED if silent else FLOWING, look.at, before)
    if look.left_at is None or look.left_at <= before.since or look.at - look.left_at >= limit // 2:
        return msgspec.structs.replace(before, resumed_at=None)
    resumed_at = before.resumed_at or look.left_at
    if look.at - resumed_at >= min(limit // 4, RESUMED):
        return _next(FLOWING, look.at, before)
    return msgspec.structs.replace(before, resumed_at=resumed_at)


def _next(state: str, at: int, before: Verdict) -> Verdict:
    return before if state == before.state else Verdict(state, at)


def _silence(look: Look) -> str:
    if look.left_at is None:
        return f"no order has left {look.status.name} yet"
    return f"no order has left {look.status.name} for {span_of(max(look.at - look.left_at, 0))}"


def _last(look: Look) -> str:
    if look.left_at is None:
        return f"no order has left {look.status.name} yet"
    return f"an order left {look.status.name} {span_of(max(look.at - look.left_at, 0))} ago"


def _waiting(look: Look) -> str:
    waited = "" if look.came_at is None else f" for {span_of(max(look.at - look.came_at, 0))}"
    if look.orders == 1:
        return f"1 order waits{waited}"
    return f"{look.orders} orders wait{waited and f', the first{waited}'}"


def _told(look: Look) -> tuple[str, ...]:
    """Return what else is known, in words."""
    return (f"{look.on_hold} on hold", *look.queues) if look.on_hold else look.queues


def _said(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
