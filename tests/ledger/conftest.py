"""A store in a file of the test's own, closed afterwards."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

from otel_orders.ledger.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path


@pytest.fixture
def store_path(tmp_path: Path) -> str:
    return str(tmp_path / "orders.db")


@pytest.fixture
def open_store(store_path: str) -> Iterator[Callable[[], SqliteStore]]:
    """``open_store()``: another store on the same file."""
    with ExitStack() as opened:

        def open_store() -> SqliteStore:
            store = SqliteStore(store_path)
            opened.callback(store.close)
            return store

        yield open_store


@pytest.fixture
def store(open_store: Callable[[], SqliteStore]) -> SqliteStore:
    return open_store()


@pytest.fixture(scope="session")
def new_store() -> Callable[[], AbstractContextManager[SqliteStore]]:
    """``with new_store() as store``: a new, empty one for each example of a Hypothesis test."""

    @contextmanager
    def new_store() -> Iterator[SqliteStore]:
        with TemporaryDirectory() as folder:
            store = SqliteStore(f"{folder}/orders.db")
            try:
                yield store
            finally:
                store.close()

    return new_store
