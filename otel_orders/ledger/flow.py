"""Read from the store what is known about queues and stages now.  Judges nothing: queues.py and stages.py do."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from otel_orders.ledger import queues
from otel_orders.ledger.passing import DELIVERED

if TYPE_CHECKING:
    from otel_orders.ledger.queues import Oldest, QueueFact
    from otel_orders.ledger.store import Store
    from otel_orders.lifecycle import Lifecycle


class QueueState(NamedTuple):
    """What is known of one queue now.  fact: None where no probe saw it lately."""

    fact: QueueFact | None
    oldest: Oldest | None

    def told(self, now: int) -> str | None:
        """Return it in words as of *now* (unix ns), None where nothing is known."""
        return None if self.fact is None else queues.told(self.fact, self.oldest, now)


def read_queues(store: Store, lifecycle: Lifecycle, now: int) -> dict[str, QueueState]:
    """Return what is known at *now* (unix ns) of each queue that the lifecycle names."""
    if not lifecycle.queues:
        return {}
    facts = queues.decode(store.items(queues.FACTS).values(), now)
    waiting, moments = store.oldest_messages(), store.moments()
    return {
        name: QueueState(
            facts.get(name),
            queues.oldest(facts.get(name), waiting.get(name), moments.get((DELIVERED, name))),
        )
        for name in lifecycle.queues
    }
