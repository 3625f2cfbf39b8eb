"""What a person may change in a ledger: put an order on hold, release it, erase orders.  All of it is audited.

Knows no transport and asks for no token: who may do this is decided before.
"""

from __future__ import annotations

import secrets
import time
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from otel_orders import names
from otel_orders.errors import OperationError
from otel_orders.ledger import apply, audit, dates
from otel_orders.ledger.kept import Hold, readable
from otel_orders.ledger.model import DAY
from otel_orders.ledger.store import row_of
from otel_orders.ledger.tombstones import KEY, bury, hash_of
from otel_orders.ledger.totals import Delta, ErrorCodes, edges
from otel_orders.privacy import Masker

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_orders.ledger.kept import Order
    from otel_orders.ledger.model import Plan
    from otel_orders.ledger.store import Found, Store, Transaction

LONGEST_HOLD: Final = 366 * DAY
MAX_TEXT: Final = 256
AT_ONCE: Final = 500


class Operators:
    """The changes that people make by hand.  clock: gives unix ns."""

    def __init__(self, store: Store, plan: Plan, clock: Callable[[], int] = time.time_ns) -> None:
        self._store = store
        self._plan = plan
        self._clock = clock
        self._edges = edges(plan.lifecycle)
        self._masker = Masker()

    def hold(self, order_id: str, until: str, why: str, by: str) -> Hold:
        """Let *order_id* wait until then without counting as stuck, and return the hold.

        until: as dates.FORMS has it.  why, by: for whoever looks at the order.  Raises OperationError where there is
        nothing to hold.
        """
        now = self._clock()
        hold = Hold(ends_at(until, now), self._masker.mask_text(_text("why", why)), _text("by", by), now)
        self._set(order_id, hold, audit.HOLD, by, now)
        return hold

    def release(self, order_id: str, by: str) -> None:
        """Take *order_id* off its hold.  Raises OperationError where it has none."""
        self._set(order_id, None, audit.RELEASE, by, self._clock())

    def erase(self, order_id: str, by: str) -> None:
        """Remove *order_id*, and refuse what still comes of it.  Raises OperationError where it is not there."""
        now, key = self._clock(), key_of(self._store)
        entry = audit.Entry(now, _text("by", by), audit.ERASE, hash_of(order_id, key))
        with self._store.transaction() as tx:
            found = tx.find([order_id])
            if not found:
                raise _unknown()
            self._remove(tx, found, key, now)
            audit.note(entry, tx.put)
        self._store.empty_log()

    def erase_partner(self, partner_id: str, by: str) -> int:
        """Remove all orders that an event of *partner_id* is known of, and return how many; those to come are kept."""
        now, key, count = self._clock(), key_of(self._store), 0
        if not isinstance(partner_id, str) or not 0 < len(partner_id) <= MAX_TEXT:  # as senders may have written it
            raise OperationError(f"partner_id: expected 1 to {MAX_TEXT} characters")
        _text("by", by)
        for rows in self._store.scan(AT_ONCE):
            theirs = [order_id for order_id, state in rows if _is_of(readable(state), partner_id)]
            if theirs:
                with self._store.transaction() as tx:
                    found = tx.find(theirs)
                    self._remove(tx, found, key, now)
                    count += len(found)
        with self._store.transaction() as tx:
            audit.note(audit.Entry(now, by, audit.ERASE_PARTNER, orders=count), tx.put)
        self._store.empty_log()
        return count

    def audit(self, order_id: str | None = None) -> list[audit.Entry]:
        """Return what was changed by hand, oldest first.  order_id: only what names this order by itself."""
        found = audit.entries(self._store.items)
        if order_id is None:
            return found
        digest = hash_of(order_id, key_of(self._store))
        return [entry for entry in found if entry.order == digest]

    def _set(self, order_id: str, hold: Hold | None, what: str, by: str, now: int) -> None:
        ends = hold.until if hold else 0
        entry = audit.Entry(now, _text("by", by), what, hash_of(order_id, key_of(self._store)), until=ends)
        with self._store.transaction() as tx:
            found = tx.find([order_id]).get(order_id)
            order = self._held(found, hold)
            delta = Delta(self._edges)
            apply.hold(order, hold, now, self._plan, delta)
            tx.reschedule([row_of(order_id, order, found, self._plan)])
            self._add(tx, delta)
            audit.note(entry, tx.put)

    def _held(self, found: Found | None, hold: Hold | None) -> Order:
        """Return the order of *found*, if *hold* can be what it gets."""
        if found is None:
            raise _unknown()
        order = apply.sound(found.state, self._plan)
        if order is None:
            raise OperationError("its row cannot be read; `otel-orders ledger check` says more")
        if hold is None and order.hold is None:
            raise OperationError("it is not on hold")
        if hold is not None and order.fold.status is None:
            raise OperationError("its status is not known yet, so there is nothing to hold")
        if hold is not None and order.fold.status in self._plan.terminal:
            raise OperationError(f"it has ended in {order.fold.status}: nothing waits that could be held")
        return order

    def _remove(self, tx: Transaction, found: dict[str, Found], key: bytes, now: int) -> None:
        delta = Delta(self._edges)
        for before in found.values():
            if (order := apply.sound(before.state, self._plan)) is not None:
                apply.remove(order, self._plan, delta)
        delta.add((names.REMOVED, "erased"), len(found))
        tx.delete(list(found.values()))
        tx.disown(list(found))
        self._add(tx, delta)
        bury(found, key, now, tx.put)

    def _add(self, tx: Transaction, delta: Delta) -> None:
        tx.add(ErrorCodes(self._store.items).bounded(delta.changes()))


def ends_at(until: str, now: int) -> int:
    """Return the moment that *until* names, as dates.FORMS has it (unix ns).

    Raises OperationError where it names none, or one that is over or too far away.
    """
    try:
        moment = dates.moment(until, now, 1)
    except ValueError as error:
        raise OperationError(f"until: {error}") from None
    if moment <= now:
        raise OperationError(f"until: {until} is over")
    if moment > now + LONGEST_HOLD:
        raise OperationError(f"until: {until} is more than a year away; an order that nobody waits for can be erased")
    return moment


def key_of(store: Store) -> bytes:
    """Return the key of the hashes in *store*; the first who asks makes it."""
    if store.get(KEY) is None:
        with store.transaction() as tx:
            tx.alone()  # two replicas must not each make one
            if tx.get(KEY) is None:
                tx.put(KEY, secrets.token_hex(32))
    return bytes.fromhex(store.get(KEY) or "")


def _is_of(order: Order | None, partner_id: str) -> bool:
    return order is not None and partner_id in chain([order.fold.partner], (event.partner for event in order.events))


def _text(name: str, value: Any) -> str:
    """Return *value* where it is something to read, on one line."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable() or len(value) > MAX_TEXT:
        raise OperationError(f"{name}: expected 1 to {MAX_TEXT} printable characters")
    return value


def _unknown() -> OperationError:
    return OperationError("no event of this order has reached this ledger; check the id and the env", known=False)
