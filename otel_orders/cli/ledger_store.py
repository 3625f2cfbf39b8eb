"""What commands that work on a ledger, or on its store while no ledger runs, have in common."""

from __future__ import annotations

import getpass
import os
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otel_orders.errors import ConfigurationError, OperationError, StoreUnavailableError
from otel_orders.ledger.model import Plan, Retention
from otel_orders.ledger.operators import Operators
from otel_orders.ledger.service import SQLITE, open_store
from otel_orders.ledger.store import LIFECYCLE, RETENTION, Access
from otel_orders.lifecycle import load_lifecycle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_orders.ledger.store import Store

OPERATOR_TOKEN = "OTEL_ORDERS_LEDGER_OPERATOR_TOKEN"  # noqa: S105 - the variable's name
TIMEOUT = 60.0
"""Seconds that a running ledger has for an answer: the orders of a partner may be many."""
NOT_FOUND = 404

StoreUrl = Annotated[str, typer.Option("--store", metavar="URL", help="The ledger's store: sqlite:///PATH.")]
MaybeStore = Annotated[
    str | None,
    typer.Option("--store", metavar="URL", help="Work on the store itself, where no ledger runs: sqlite:///PATH."),
]
LifecycleFile = Annotated[str, typer.Option("--lifecycle", metavar="FILE", help="The ledger's lifecycle file.")]
LedgerUrl = Annotated[str, typer.Option("--ledger", metavar="URL", help="Where the ledger runs.")]
By = Annotated[str | None, typer.Option(metavar="NAME", help="Who does it, for the audit; your login by default.")]
LOCAL = "http://127.0.0.1:4318"


def name_of(by: str | None) -> str:
    """Return who to name in the audit."""
    if by is not None:
        return by
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


@contextmanager
def existing(url: str, access: Access = Access.READ) -> Iterator[Store]:
    """Open the store at *url*, which must be there: a mistyped path must not become an empty store."""
    path = url.removeprefix(SQLITE)
    if url.startswith(SQLITE) and path and not Path(path).exists():
        raise ConfigurationError(f"{url}: there is no such file")
    with closing(open_store(url, access)) as store:
        yield store


def plan_of(store: Store, lifecycle: str) -> Plan:
    """Return the plan that *store* is kept by.  Raises ConfigurationError where *lifecycle*, a file, is another one."""
    read = load_lifecycle(lifecycle)
    kept_by = store.get(LIFECYCLE)
    if kept_by != read.hash:
        raise ConfigurationError(
            f"--lifecycle {lifecycle}: its hash is {read.hash}, and the store is kept by {kept_by}: give the file that"
            " the ledger runs with"
        )
    return Plan(read, Retention.of(store.get(RETENTION)))


class Remote:
    """The operations of a running ledger, by HTTP; the same methods as Operators."""

    def __init__(self, url: str) -> None:
        token = os.environ.get(OPERATOR_TOKEN, "").strip()
        if not token:
            raise ConfigurationError(f"set {OPERATOR_TOKEN} to the token that the ledger was started with")
        self._url = url.rstrip("/")
        self._headers = [(b"authorization", f"Bearer {token}".encode())]

    def hold(self, order_id: str, until: str, why: str, by: str) -> None:
        """Put *order_id* on hold."""
        asked = {"until": until, "why": why, "by": by}
        self._ask("PUT", "/holds", params={"order_id": order_id}, json=asked)

    def release(self, order_id: str, by: str) -> None:
        """Take *order_id* off its hold."""
        self._ask("DELETE", "/holds", params={"order_id": order_id, "by": by})

    def erase(self, order_id: str, by: str) -> None:
        """Erase *order_id*."""
        self._ask("POST", "/erasures", json={"order_id": order_id, "by": by})

    def erase_partner(self, partner_id: str, by: str) -> int:
        """Erase all orders of *partner_id*; return how many."""
        return int(self._ask("POST", "/erasures", json={"partner_id": partner_id, "by": by})["erased"])

    def _ask(self, method: str, path: str, **more: Any) -> Any:
        import httpx  # noqa: PLC0415 - a quarter of the start of a ledger, which does not need it

        try:
            answer = httpx.request(
                method, self._url + path, headers=self._headers, timeout=TIMEOUT, trust_env=False, **more
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise StoreUnavailableError(
                f"no ledger answers at {self._url}: {error}; see --ledger and --store"
            ) from None
        if answer.is_success:
            return answer.json() if answer.content else None
        try:
            why = answer.json()["error"]
        except (ValueError, KeyError, TypeError):
            why = f"the ledger answers {answer.status_code}"
        raise OperationError(why, known=answer.status_code != NOT_FOUND)


@contextmanager
def operators(store: str | None, lifecycle: str, url: str) -> Iterator[Operators | Remote]:
    """Give the operations of the running ledger at *url*, or of *store* where it is given."""
    if store is None:
        yield Remote(url)
        return
    with existing(store, Access.CHANGE) as opened:
        yield Operators(opened, plan_of(opened, lifecycle))
