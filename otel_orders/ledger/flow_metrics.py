"""Show queues and stages to Prometheus.  Reads what probe and watch have kept: a scrape judges and asks nobody."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from otel_orders import names
from otel_orders.ledger.board import other_lifecycles
from otel_orders.ledger.families import gauge
from otel_orders.ledger.flow import read_queues, read_verdicts
from otel_orders.ledger.stages import BLIND, STALLED
from otel_orders.ledger.watch import open_statuses

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client.core import Metric

    from otel_orders.ledger.probe import Probe
    from otel_orders.ledger.store import Store
    from otel_orders.lifecycle import Lifecycle


def queues(store: Store, lifecycle: Lifecycle) -> Iterator[Metric]:
    """Yield what is known of the queues; what is not known, or not believed any more, is absent."""
    found = read_queues(store, lifecycle, time.time_ns())
    seen = [state.fact for state in found.values() if state.fact is not None and state.fact.exists]
    oldest = [((name, state.oldest.source), state.oldest.at / 1e9) for name, state in found.items() if state.oldest]
    text = "When the oldest message in a queue was published; source says where that is known from."
    yield gauge(names.QUEUE_OLDEST, text, ["queue", "source"], oldest)
    ready = [((fact.queue, "ready"), fact.ready) for fact in seen]
    unacked = [((fact.queue, "unacked"), fact.unacked) for fact in seen]
    text = "Messages in a queue: ready, or delivered and not yet acknowledged (unacked)."
    yield gauge(names.QUEUE_MESSAGES, text, ["queue", "state"], _told(ready + unacked))
    consumers = [((fact.queue,), fact.consumers) for fact in seen]
    yield gauge(names.QUEUE_CONSUMERS, "Consumers of a queue.", ["queue"], _told(consumers))
    active = [((fact.queue,), None if fact.active_at is None else fact.active_at / 1e9) for fact in seen]
    yield gauge(names.QUEUE_ACTIVE, "When anything last came to a queue, or left it.", ["queue"], _told(active))


def stages(store: Store, lifecycle: Lifecycle) -> Iterator[Metric]:
    """Yield what the watch has decided on each stage, and who runs another lifecycle."""
    verdicts = read_verdicts(store)
    open_ = [status.name for status in open_statuses(lifecycle)]
    for name, state, text in (
        (names.STAGE_STALLED, STALLED, "1 where orders wait and none leaves for much longer than usual."),
        (names.STAGE_BLIND, BLIND, "1 where who moves orders on is not heard, so that nobody can tell."),
    ):
        yield gauge(name, text, ["status"], [((s,), int(s in verdicts and verdicts[s].state == state)) for s in open_])
    others = {other.service: other.instances for other in other_lifecycles(store, lifecycle, time.time_ns())}
    services = sorted(service for owner in lifecycle.owners.values() for service in owner.services)
    text = "Instances that were heard lately and run another version of the lifecycle than the ledger."
    yield gauge(names.OTHER_LIFECYCLE, text, ["service_name"], [((one,), others.get(one, 0)) for one in services])


def probe(probing: Probe) -> Iterator[Metric]:
    """Yield how the probe itself does."""
    text = "Whether the last probe of RabbitMQ's management API told all that it was asked."
    yield gauge(names.PROBE_UP, text, [], [((), int(probing.up))])
    succeeded = [] if probing.succeeded_at is None else [((), probing.succeeded_at)]
    yield gauge(names.PROBE_SUCCEEDED, "When a probe last did.", [], succeeded)


def _told(series: Sequence[tuple[tuple[str, ...], float | None]]) -> list[tuple[tuple[str, ...], float]]:
    return [(labels, value) for labels, value in series if value is not None]
