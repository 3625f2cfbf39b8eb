"""What is known of the queues between two steps, and how old the oldest message in each is.  Pure: asks no broker.

A broker's statistics are some seconds old, and so is all that is concluded from them.  What is not told is absent.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from otel_orders.ledger.words import span_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from otel_orders.ledger.store import MessageNote

FACTS: Final = "queue/"
"""Keys under which the store keeps what the last probe saw, one for each queue."""
HEAD: Final = "head"
LEDGER: Final = "ledger"
DELIVERY: Final = "delivery"
"""Where the age of the oldest message is known from: the broker, the records of its messages, its last delivery."""

SECOND: Final = 1_000_000_000
LATE: Final = 120 * SECOND
"""How long the record of a settled message may be on its way (statistics of RabbitMQ and clocks differ by far less): as
for promises, an outage of seconds between a consumer and the ledger must not look like lost messages."""
SETTLED_WITHIN: Final = 35 * 60 * SECOND
"""How long a message stays with one consumer: RabbitMQ closes the channel of one that takes over 30 min to settle."""
FUTURE: Final = 600 * SECOND
"""A timestamp further ahead than this is none: some publishers write milliseconds there."""
COLUMNS: Final = (
    *("messages_ready", "messages_unacknowledged", "consumers", "head_message_timestamp", "idle_since"),
    *("arguments.x-message-ttl", "arguments.x-max-priority", "effective_policy_definition.message-ttl"),
    *("message_stats.publish", "message_stats.deliver_get", "message_stats.ack"),
)
"""What a probe asks for; nothing of it costs the broker a look at a message."""


class QueueFact(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one probe saw of one queue.

    at: when; until: for how long it is to be believed; head_at: when the first message was published; active_at: when
    anything last came or went; all in unix ns.  moved: how many messages ever came, went and were acknowledged.  ttl:
    ns.  priorities: whether a message may overtake another.  None: not told.
    """

    queue: str
    at: int
    until: int
    exists: bool = True
    ready: int | None = None
    unacked: int | None = None
    consumers: int | None = None
    head_at: int | None = None
    active_at: int | None = None
    moved: int | None = None
    ttl: int | None = None
    priorities: bool = False

    @property
    def held(self) -> int | None:
        """How many messages are in it, delivered and not yet acknowledged ones included."""
        if not self.exists:
            return 0
        return None if self.ready is None or self.unacked is None else self.ready + self.unacked

    @property
    def deserted(self) -> bool:
        """Whether the broker says that nobody consumes."""
        return not self.exists or self.consumers == 0


class Oldest(NamedTuple):
    """When the oldest message of a queue was published (unix ns), and where that is known from."""

    at: int
    source: str


def seen(queue: str, answer: Mapping[str, Any] | None, at: int, until: int, before: QueueFact | None) -> QueueFact:
    """Return what *answer* of the management API says of *queue*; None: there is no such queue.

    before: what the probe before saw.
    """
    if answer is None:
        return QueueFact(queue, at, until, exists=False)
    moved = _moved(answer.get("message_stats"))
    head = _count(answer.get("head_message_timestamp"))
    head_at = None if head is None else head * SECOND
    return QueueFact(
        queue,
        at,
        until,
        ready=_count(answer.get("messages_ready")),
        unacked=_count(answer.get("messages_unacknowledged")),
        consumers=_count(answer.get("consumers")),
        head_at=head_at if head_at and head_at < at + FUTURE else None,
        active_at=_active_at(answer.get("idle_since"), moved, at, before),
        moved=moved,
        ttl=_ttl(answer),
        priorities=bool(_part(answer, "arguments").get("x-max-priority")),
    )


def gone_before(fact: QueueFact, before: QueueFact | None, delivered: int | None = None) -> int | None:
    """Return when a message must have been published (unix ns) to be in the queue no more, None where that is unknown.

    One look is not enough: its numbers may be older than the message.  before: what the probe before saw.  delivered:
    when the message that was delivered last was published; one that is much older was delivered too, and settled since.
    """
    if before is None or fact.at < before.at + SECOND:
        return None
    found = []
    if fact.held == 0 and before.held == 0:
        found.append(before.at - LATE)
    if fact.ttl is not None and fact.unacked == 0 and before.unacked == 0:  # one that was delivered expires no more
        found.append(before.at - fact.ttl - LATE)
    if delivered is not None and not fact.priorities:
        found.append(delivered - SETTLED_WITHIN)
    return max(found, default=None)


def oldest(fact: QueueFact | None, waiting: MessageNote | None, delivered: int | None) -> Oldest | None:
    """Return how old the oldest message is, from the best of what is known; None where nothing is, or nothing waits.

    fact: of a probe that is still to be believed.  waiting: the oldest by the records of the messages.  delivered:
    when the message that was delivered last was published (unix ns).
    """
    if fact is not None and fact.held == 0:
        return None
    if fact is not None and fact.head_at is not None:
        return Oldest(fact.head_at, HEAD)
    if waiting is not None:
        return Oldest(waiting.at, LEDGER)
    if delivered is not None and fact is not None and fact.held:
        return Oldest(delivered, DELIVERY)
    return None


def told(fact: QueueFact, found: Oldest | None, now: int) -> str:
    """Return in words what is known of the queue at *now* (unix ns)."""
    if not fact.exists:
        return f"queue {fact.queue} does not exist"
    parts = [f"queue {fact.queue} {_held_in_words(fact)}"]
    if fact.consumers is not None:
        parts.append({0: "no consumer", 1: "1 consumer"}.get(fact.consumers, f"{fact.consumers} consumers"))
    if found is not None and found.at < now:
        parts.append(f"its oldest message waits for {span_of(now - found.at)}")
    return ", ".join(parts)


def _held_in_words(fact: QueueFact) -> str:
    if fact.held is None:
        return "is there"
    if not fact.held:
        return "is empty"
    return f"holds {fact.held}" + (f" ({fact.unacked} delivered)" if fact.unacked else "")


def encode(fact: QueueFact) -> str:
    """Return *fact* as the store keeps it."""
    return msgspec.json.encode(fact).decode()


def decode(kept: Iterable[str], now: int) -> dict[str, QueueFact]:
    """Return by queue what was kept and is still to be believed at *now* (unix ns)."""
    facts = (msgspec.json.decode(text, type=QueueFact) for text in kept)
    return {fact.queue: fact for fact in facts if now <= fact.until}


def _moved(stats: object) -> int | None:
    """Return a number that grows with whatever happens in the queue."""
    if not isinstance(stats, dict):
        return None
    counts = [_count(stats.get(name)) for name in ("publish", "deliver_get", "ack")]
    return None if all(count is None for count in counts) else sum(count or 0 for count in counts)


def _active_at(idle_since: object, moved: int | None, at: int, before: QueueFact | None) -> int | None:
    """Return when something last happened: classic queues tell; of others, it is seen from probe to probe."""
    if isinstance(idle_since, str):
        with suppress(ValueError, OverflowError):
            since = datetime.fromisoformat(idle_since)
            return int((since if since.tzinfo else since.replace(tzinfo=UTC)).timestamp()) * SECOND
    if moved is None or before is None or before.moved is None:
        return None
    return at if moved != before.moved else before.active_at


def _ttl(answer: Mapping[str, Any]) -> int | None:
    """Return the shortest time to live (ns) that the queue's arguments and its policy give."""
    limits = (
        _count(_part(answer, part).get(name))
        for part, name in (("arguments", "x-message-ttl"), ("effective_policy_definition", "message-ttl"))
    )
    return min((limit * SECOND // 1000 for limit in limits if limit is not None), default=None)


def _part(answer: Mapping[str, Any], name: str) -> dict[str, Any]:
    return part if isinstance(part := answer.get(name), dict) else {}


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None
