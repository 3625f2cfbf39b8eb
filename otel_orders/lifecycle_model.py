"""The frozen types of a lifecycle, and what they answer about an order's moves.

Pure.  Knows no file and no check: otel_orders.lifecycle reads and checks, and exports these types.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from otel_orders.notation import Duration

Move = Literal["legal", "skipped", "illegal", "unknown_status"]
Start = Literal["first", "last", "each"]
_Name = Annotated[str, msgspec.Meta(min_length=1)]


class Status(msgspec.Struct, frozen=True):
    """A status that an order can be in.

    owner: whose move it is while an order waits there.  rank: place in the pipeline, from 0.  calendar: when orders are
    expected to leave, for stalled_after; None: whenever they usually do.
    """

    name: str
    owner: str
    next: tuple[str, ...] = ()
    initial: bool = False
    terminal: bool = False
    stuck_after: Duration | None = None
    stalled_after: Duration | None = None
    rank: int = 0
    calendar: str | None = None


class Milestone(msgspec.Struct, frozen=True):
    """The way from one status to another.  start: which entry into start_status begins it."""

    name: str
    start_status: str = msgspec.field(name="from")
    end_status: str = msgspec.field(name="to")
    start: Start = "first"
    void_on: tuple[str, ...] = ()


class Sla(msgspec.Struct, frozen=True):
    """A milestone with a limit.  objective: the share of orders that must make it, between 0 and 1."""

    name: str
    start_status: str = msgspec.field(name="from")
    end_status: str = msgspec.field(name="to")
    within: Duration
    objective: Annotated[float, msgspec.Meta(gt=0, lt=1)]
    calendar: str | None = None
    start: Start = "last"
    void_on: tuple[str, ...] = ()


class Calendar(msgspec.Struct, frozen=True):
    """When the clock of an SLA runs.  days: 0 is Monday.  hours: minutes of the day, from the first up to the last."""

    name: str
    zone: str
    days: frozenset[int]
    hours: tuple[int, int]


class Owner(msgspec.Struct, frozen=True):
    """A team, and the services that speak for it.  heartbeat: False where its services cannot send one."""

    name: str
    services: Annotated[tuple[_Name, ...], msgspec.Meta(min_length=1)]
    quiet_after: Duration = Duration(120 * 10**9)
    contact: str = ""
    heartbeat: bool = True


class Queue(msgspec.Struct, frozen=True):
    """A RabbitMQ queue between two steps.

    status: of the orders whose messages wait in it.  consumer: the service that reads it.  bindings: pairs of exchange
    and routing key.  long: its messages wait longer than a trace should last.  track: keep a record of every message.
    """

    name: str
    status: str
    consumer: str
    oldest_after: Duration | None = None
    bindings: tuple[tuple[str, str], ...] = ()
    long: bool = False
    track: bool = False


class Partners(msgspec.Struct, frozen=True):
    """named: the partners that may be metric labels."""

    named: frozenset[str] = frozenset()


class Sampling(msgspec.Struct, frozen=True):
    """ratio: share of ordinary traces that is kept.  problem_only: queues whose traces are kept only with a problem."""

    ratio: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    problem_only: tuple[str, ...] = ()


class Lifecycle(msgspec.Struct, frozen=True):
    """A checked lifecycle; every dictionary is by name, in file order.

    forward: for each status, the statuses that its orders can still reach.  hash: 12 hex digits of the content.
    """

    statuses: dict[str, Status]
    milestones: dict[str, Milestone]
    slas: dict[str, Sla]
    calendars: dict[str, Calendar]
    owners: dict[str, Owner]
    queues: dict[str, Queue]
    partners: Partners
    sampling: Sampling
    forward: dict[str, frozenset[str]]
    hash: str

    def status(self, name: str) -> Status | None:
        """Return the status of that name, or None."""
        return self.statuses.get(name)

    def rank(self, status: str) -> int:
        """Return the place of *status* in the pipeline, from 0; unknown ones come after all others."""
        known = self.statuses.get(status)
        return len(self.statuses) if known is None else known.rank

    def move(self, from_status: str | None, to_status: str) -> Move:
        """Judge a transition.  from_status: None where the sender does not know it, which the ledger then infers.

        ``skipped``: not a next step, but further down the way, so that steps between were not seen.
        """
        left = None if from_status is None else self.statuses.get(from_status)
        if to_status not in self.statuses or (left is None and from_status is not None):
            return "unknown_status"
        if left is None or to_status in left.next:
            return "legal"
        return "skipped" if to_status in self.forward[left.name] else "illegal"

    def partner_label(self, partner_id: str | None) -> str:
        """Return what stands for a partner in metrics: its id if it is named, else ``other``; ``retail`` for None."""
        if partner_id is None:
            return "retail"
        return partner_id if partner_id in self.partners.named else "other"

    @property
    def services(self) -> frozenset[str]:
        """The services of all owners."""
        return frozenset(service for owner in self.owners.values() for service in owner.services)

    def owner_of(self, service: str) -> Owner | None:
        """Return the owner of *service*, or None."""
        return next((owner for owner in self.owners.values() if service in owner.services), None)
