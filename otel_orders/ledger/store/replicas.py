"""What lets several ledgers write one store: they agree on the lifecycle, and a lost race is run again."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec, TypeVar

from otel_orders.errors import StoreConflictError, StoreLifecycleError

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_orders.ledger.model import Plan

TRIES: Final = 10
"""How often a transaction is tried in which another replica comes first."""

P = ParamSpec("P")
T = TypeVar("T")
B = TypeVar("B")


def agree(known: str | None, plan: Plan) -> None:
    """Check *known*, the hash of the lifecycle that a store's orders are folded under: nothing else may read them.

    Raises StoreLifecycleError where a replica with another lifecycle has folded them anew.
    """
    if known not in (None, plan.lifecycle.hash):
        raise StoreLifecycleError(
            f"the store's orders are folded under lifecycle {known}, and this ledger has {plan.lifecycle.hash}:"
            " start it again with the lifecycle that the other replicas have"
        )


def tried_again(transaction: Callable[Concatenate[B, P], T]) -> Callable[Concatenate[B, P], T]:
    """Repeat a method that is one transaction while another replica comes first, TRIES times at most."""

    @wraps(transaction)
    def tried(batch: B, /, *args: P.args, **kwargs: P.kwargs) -> T:
        for _ in range(TRIES - 1):
            try:
                return transaction(batch, *args, **kwargs)
            except StoreConflictError:
                continue
        return transaction(batch, *args, **kwargs)

    return tried
