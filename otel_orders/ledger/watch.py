"""Look at all stages again and again: learn their rhythm, decide, and keep both for all replicas and after a restart.

Each replica may do it: what one has kept is where the other goes on, and the same facts lead to the same verdict.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import msgspec

from otel_orders import names
from otel_orders.ledger import flow, learning
from otel_orders.ledger.flow import read_flow, read_listening
from otel_orders.ledger.polling import Poller
from otel_orders.ledger.stages import Verdict, judge, movers

if TYPE_CHECKING:
    from otel_orders.ledger.flow import Flow
    from otel_orders.ledger.stages import Habit, Judged, Look
    from otel_orders.ledger.store import Store
    from otel_orders.ledger.totals import Series
    from otel_orders.lifecycle import Lifecycle, Status

SECOND: Final = 1_000_000_000
HOUR: Final = 3600 * SECOND
DAY: Final = 24 * HOUR

EVERY: Final = 2.0
"""Seconds between two looks."""
FRESH: Final = 10 * SECOND
"""How old what is told of the stages may be."""
NOTED: Final = 10 * SECOND
"""After which time it is noted anew that somebody listens."""
BREAK: Final = 60 * SECOND
"""After which time without such a note nobody has listened: what happened in it may never be heard of."""
GAP_TAKEN: Final = "stage_gap_taken"
"""The moment kept for each status: the end of the last gap that was learned, so that two replicas learn none twice."""

TIDIED: Final = 60 * SECOND
"""Time between two looks for messages that need not be remembered."""
SETTLED_FOR: Final = HOUR
"""How long it is remembered that a message was settled: its publishing may be heard of later."""
HORIZON: Final = 90 * DAY
"""How long a message is remembered that waits: events that are older are refused too."""


def open_statuses(lifecycle: Lifecycle) -> list[Status]:
    """Return the statuses in which orders wait."""
    return [status for status in lifecycle.statuses.values() if not status.terminal]


class Watch:
    """Looks at the stages of *lifecycle* until closed."""

    def __init__(self, store: Store, lifecycle: Lifecycle, every: float = EVERY) -> None:
        self._store = store
        self._lifecycle = lifecycle
        self._since = time.time_ns()
        self._before: dict[str, Look] = {}
        self._told: tuple[int, dict[str, Judged]] = (0, {})
        self._tidied = 0
        self._poller = Poller("the stages", self._look_now, every)

    def close(self) -> None:
        """Stop after the look that is being taken."""
        self._poller.close()

    def told(self) -> dict[str, Judged]:
        """Return how each stage does, by status: as the last look saw it; where that was too long ago, as of now."""
        return self.told_at(time.time_ns())

    def told_at(self, now: int) -> dict[str, Judged]:
        """Return the same as of *now* (unix ns)."""
        at, told = self._told
        if now - at < FRESH:
            return told
        found = read_flow(self._store, self._lifecycle, now)
        return {
            status.name: self._judge(found, found.look(status), found.habit(status))
            for status in open_statuses(self._lifecycle)
        }

    def _judge(self, found: Flow, look: Look, habit: Habit) -> Judged:
        before = found.verdicts.get(look.status.name, Verdict())
        return judge(look, habit, movers(look.status, self._lifecycle), found.beats, before)

    def _look_now(self) -> None:
        self.look(time.time_ns())

    def look(self, now: int) -> None:
        """Look at all stages at *now* (unix ns)."""
        found = read_flow(self._store, self._lifecycle, now)._replace(listening=self._listen(now))
        seen: dict[str, tuple[Look, Habit]] = {}
        told: dict[str, Judged] = {}
        notes: dict[str, str] = {}
        gaps: dict[Series, int] = {}
        for name in (status.name for status in open_statuses(self._lifecycle)):
            look, habit = found.look(self._lifecycle.statuses[name]), found.habit(self._lifecycle.statuses[name])
            seen[name], told[name] = (look, habit), self._judge(found, look, habit)
            notes |= self._news(found, look, habit, told[name].verdict)
            if (left_at := learning.new_departure(look, self._before.get(name))) is not None:
                gaps[GAP_TAKEN, name] = left_at
        self._keep(notes, gaps, seen)
        self._before = {name: look for name, (look, _) in seen.items()}
        self._told = now, told
        self._tidy(found)

    def _news(self, found: Flow, look: Look, habit: Habit, verdict: Verdict) -> dict[str, str]:
        """Return what is to be kept of one stage: another verdict, and what its hours teach."""
        name, kept = look.status.name, _encoded(habit.rhythm)
        news = {} if verdict == found.verdicts.get(name, Verdict()) else {flow.VERDICTS + name: _encoded(verdict)}
        learning.learn_hours(habit, look, self._before.get(name), verdict, self._since)
        learned = _encoded(habit.rhythm)
        return news if learned == kept else news | {flow.RHYTHMS + name: learned}

    def _keep(self, notes: dict[str, str], gaps: dict[Series, int], seen: dict[str, tuple[Look, Habit]]) -> None:
        """Keep *notes*, and what the *gaps* teach that no other replica has learned."""
        if not (notes or gaps):
            return
        with self._store.transaction() as tx:
            taken = tx.advance(gaps) if gaps else {}
            for series, left_at in gaps.items():
                name = str(series[1])
                look, habit = seen[name]
                if taken.get(series, 0) < left_at:
                    learning.learn_gap(habit, look, self._before[name])
                notes[flow.RHYTHMS + name] = _encoded(habit.rhythm)
            for key, text in notes.items():
                tx.put(key, text)

    def _listen(self, now: int) -> int:
        """Note that somebody listens; return since when there was no break in it (unix ns)."""
        known = read_listening(self._store)
        since = now if known is None or now - known.until > BREAK else known.since
        if known is None or now - known.until >= NOTED:
            with self._store.transaction() as tx:
                tx.put(flow.LISTENING, _encoded([since, now]))
        return since

    def _tidy(self, found: Flow) -> None:
        """Forget messages that were settled a while ago, and what nobody will ever settle."""
        if found.now - self._tidied < TIDIED:
            return
        self._tidied = found.now
        with self._store.transaction() as tx:
            for queue in (queue.name for queue in self._lifecycle.queues.values() if queue.track):
                tx.forget_settled(queue, found.now - SETTLED_FOR)
                if count := tx.forget_messages(queue, found.now - HORIZON):
                    tx.add({(names.MESSAGES_GONE, queue): count})


def _encoded(kept: object) -> str:
    return msgspec.json.encode(kept).decode()
