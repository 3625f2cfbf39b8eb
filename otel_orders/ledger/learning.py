"""What looking at a stage again and again teaches about its rhythm.  Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_orders.ledger.stages import BLIND

if TYPE_CHECKING:
    from otel_orders.ledger.stages import Habit, Look, Verdict

HOUR: Final = 3600 * 1_000_000_000
LONGEST_GAP: Final = 30 * 24 * HOUR


def new_departure(look: Look, before: Look | None) -> int | None:
    """Return when an order left (unix ns), if none is known to have left so late *before*."""
    if before is None or before.left_at is None or look.left_at is None or look.left_at <= before.left_at:
        return None
    return look.left_at


def learn_gap(habit: Habit, look: Look, before: Look) -> None:
    """Learn how long nothing left, though somebody waited, until an order did."""
    if look.left_at is None:
        return
    waited = look.left_at if before.came_at is None else max(before.left_at or 0, before.came_at)
    habit.rhythm.gap(look.left_at, habit.open_time(waited, look.left_at, LONGEST_GAP), habit.zone)


def learn_hours(habit: Habit, look: Look, before: Look | None, verdict: Verdict, since: int) -> None:
    """Learn in which hours orders leave, and in which they only wait.  since: when we began to look, unix ns."""
    if look.left_at is not None:
        habit.rhythm.worked(look.left_at, habit.zone)
    if before is not None and verdict.state != BLIND and _was_idle(before, look.at, since):
        habit.rhythm.idle(before.at, habit.zone)


def _was_idle(before: Look, now: int, since: int) -> bool:
    """Whether an hour has ended in which orders waited all the time, and none left."""
    start = before.at // HOUR * HOUR
    waited = before.came_at is not None and before.came_at <= start
    return now // HOUR * HOUR == start + HOUR and waited and (before.left_at or 0) < start and since <= start
