"""``otel-orders resolve``: which order a pseudonym stands for, for support.

A pseudonym cannot be turned back, so every known order id is tried with the key.
"""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path  # noqa: TC003 - typer reads it
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from otel_orders.cli.ledger_store import existing
from otel_orders.errors import ConfigurationError
from otel_orders.settings import PSEUDONYM_KEY, read_http_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_orders.privacy import PseudonymKey

FORM = re.compile(r"p-[0-9a-f]{20}")
IDS_AT_ONCE = 1000


def resolve(
    pseudonym: Annotated[str, typer.Argument(help="What a partner or a customer gave: p- and 20 hex digits.")],
    ledger_store: Annotated[str | None, typer.Option(metavar="URL", help="The ledger's store: sqlite:///PATH.")] = None,
    orders: Annotated[Path | None, typer.Option(metavar="FILE", help="Or a file with one order id a line.")] = None,
) -> None:
    """Say which order a pseudonym stands for.

    The key is the one that made it: OTEL_ORDERS_PSEUDONYM_KEY of the same environment, where former keys follow the
    one in use after commas. Ends with status 1 where no known order has it.
    """
    if not FORM.fullmatch(pseudonym):
        raise ConfigurationError(f"{pseudonym!r} is no pseudonym: expected p- and 20 hex digits")
    key = read_http_settings().pseudonym_key
    if key is None:
        raise ConfigurationError(f"no key: set {PSEUDONYM_KEY} to the one that the pseudonym was made with")
    found = find(pseudonym, _known(ledger_store, orders), key)
    if found is None:
        _not_found(pseudonym)
    typer.echo(found)


def find(pseudonym: str, order_ids: Iterator[str], key: PseudonymKey) -> str | None:
    """Return the one of *order_ids* that *pseudonym* stands for, or None."""
    return next((order_id for order_id in order_ids if key.stands_for(pseudonym, order_id)), None)


def _known(store: str | None, orders: Path | None) -> Iterator[str]:
    if (store is None) == (orders is None):
        raise ConfigurationError("expected either --ledger-store URL or --orders FILE: where to look for the order")
    return _of_file(orders) if orders is not None else _of_store(store or "")


def _of_store(url: str) -> Iterator[str]:
    with existing(url) as store:
        yield from chain.from_iterable(store.all_ids(IDS_AT_ONCE))


def _of_file(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8") as lines:
            yield from (line.strip() for line in lines)
    except OSError as error:
        raise ConfigurationError(f"--orders {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"--orders {path}: expected UTF-8 text, one order id a line") from None


def _not_found(pseudonym: str) -> NoReturn:
    typer.echo(
        f"no known order has the pseudonym {pseudonym}: another key, or an order that is not known here", err=True
    )
    raise typer.Exit(1)
