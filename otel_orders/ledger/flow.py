"""Read from the store what is known about queues and stages now.  Judges nothing: queues.py and stages.py do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from otel_orders import names
from otel_orders.ledger import queues
from otel_orders.ledger.kept import held_until
from otel_orders.ledger.passing import BEAT, DELIVERED, LEFT, PASSED
from otel_orders.ledger.rhythm import Rhythm
from otel_orders.ledger.stages import SEVERAL, Habit, Look, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_orders.ledger.queues import Oldest, QueueFact
    from otel_orders.ledger.stages import Beats
    from otel_orders.ledger.store import Store
    from otel_orders.ledger.totals import Series
    from otel_orders.lifecycle import Lifecycle, Status

VERDICTS: Final = "stage/"
"""Keys under which the store keeps the verdict on each stage."""
RHYTHMS: Final = "rhythm/"
"""Keys under which the store keeps what was learned of each stage."""
LISTENING: Final = "listening"
"""Key under which the store keeps since when somebody has listened without a break, and until when, unix ns."""


class QueueState(NamedTuple):
    """What is known of one queue now.  fact: None where no probe saw it lately."""

    fact: QueueFact | None
    oldest: Oldest | None

    def told(self, now: int) -> str | None:
        """Return it in words as of *now* (unix ns), None where nothing is known."""
        return None if self.fact is None else queues.told(self.fact, self.oldest, now)


def read_queues(store: Store, lifecycle: Lifecycle, now: int) -> dict[str, QueueState]:
    """Return what is known at *now* (unix ns) of each queue that the lifecycle names."""
    return _queues(store, lifecycle, store.moments(), now) if lifecycle.queues else {}


def _queues(store: Store, lifecycle: Lifecycle, moments: Mapping[Series, int], now: int) -> dict[str, QueueState]:
    facts = queues.decode(store.items(queues.FACTS).values(), now)
    waiting = store.oldest_messages()
    return {
        name: QueueState(
            facts.get(name), queues.oldest(facts.get(name), waiting.get(name), moments.get((DELIVERED, name)))
        )
        for name in lifecycle.queues
    }


def read_verdicts(store: Store) -> dict[str, Verdict]:
    """Return what was decided last, by status."""
    kept = store.items(VERDICTS)
    return {key.removeprefix(VERDICTS): msgspec.json.decode(text, type=Verdict) for key, text in kept.items()}


class Listening(NamedTuple):
    """Since when events have been heard without a break, and up to when that is known; unix ns."""

    since: int
    until: int


def read_listening(store: Store) -> Listening | None:
    """Return since when somebody has listened; None for never."""
    kept = store.get(LISTENING)
    return None if kept is None else Listening(*msgspec.json.decode(kept, type=tuple[int, int]))


def beats(moments: Mapping[Series, int]) -> Beats:
    """Return when each service and role was last heard."""
    return {(str(key[1]), str(key[2])): at for key, at in moments.items() if key[0] == BEAT}


class Flow(NamedTuple):
    """All that stages are judged by, as of one moment.  listening: unix ns."""

    store: Store
    lifecycle: Lifecycle
    now: int
    listening: int
    totals: dict[Series, int]
    oldest: dict[int, int]
    moments: dict[Series, int]
    queues: dict[str, QueueState]
    verdicts: dict[str, Verdict]

    @property
    def beats(self) -> Beats:
        """When each service and role was last heard."""
        return beats(self.moments)

    def look(self, status: Status) -> Look:
        """Return what is known of one stage."""
        orders = self.totals.get((names.IN_STATUS, status.name), 0)
        expected, came_at = self._expected(status)
        before = {name: state for name, state in self.queues.items() if self._leads_to(name, status)}
        return Look(
            status,
            self.now,
            self.listening,
            max(orders, 0),
            expected,
            came_at,
            self.moments.get((LEFT, status.name)),
            tuple(told for state in before.values() if (told := state.told(self.now)) is not None),
            self._deserted(before, status),
            self._on_hold(status),
        )

    def _leads_to(self, queue: str, status: Status) -> bool:
        return self.lifecycle.queues[queue].status == status.name

    def _deserted(self, before: Mapping[str, QueueState], status: Status) -> bool:
        """Whether the broker says that nobody consumes what the status's owner should."""
        services = self.lifecycle.owners[status.owner].services
        facts = [s.fact for name, s in before.items() if self.lifecycle.queues[name].consumer in services]
        return bool(facts) and all(fact is not None and fact.deserted for fact in facts)

    def _expected(self, status: Status) -> tuple[int, int | None]:
        """Return how many orders are expected to leave, SEVERAL for more, and when the first of them came (unix ns).

        Those are neither overtaken nor on hold; one whose hold has ended counts as having come then.
        """
        if status.rank not in self.oldest:
            return 0, None
        passed = self.moments.get((PASSED, status.name), 0)
        found = self.store.longest_waiting(status.rank, self._on_hold(status) + SEVERAL, passed)
        came = [max(one.since, until) for one in found if (until := held_until(one.state)) <= self.now]
        return min(len(came), SEVERAL), min(came, default=None)

    def _on_hold(self, status: Status) -> int:
        return max(self.totals.get((names.ON_HOLD, status.name), 0), 0)

    def habit(self, status: Status) -> Habit:
        """Return what is usual for a stage."""
        kept = self.store.get(RHYTHMS + status.name)
        rhythm = Rhythm() if kept is None else msgspec.json.decode(kept, type=Rhythm)
        calendars = self.lifecycle.calendars
        own = calendars.get(status.calendar or "")
        zone = own.zone if own else next((calendar.zone for calendar in calendars.values()), "UTC")
        return Habit(rhythm, ZoneInfo(zone), own)


def read_flow(store: Store, lifecycle: Lifecycle, now: int) -> Flow:
    """Return all that stages are judged by at *now* (unix ns)."""
    moments = store.moments()
    listening = read_listening(store)
    return Flow(
        store,
        lifecycle,
        now,
        now if listening is None else listening.since,
        store.totals(),
        store.oldest(len(lifecycle.statuses)),
        moments,
        _queues(store, lifecycle, moments, now),
        read_verdicts(store),
    )
