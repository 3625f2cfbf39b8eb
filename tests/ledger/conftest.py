"""Stores of the test's own, each test once in a file and once in a real PostgreSQL."""

from __future__ import annotations

from contextlib import ExitStack, closing, contextmanager
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

from otel_orders.ledger import service
from tests.ledger import stores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from otel_orders.ledger.store import Store


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which store; a module whose tests are about one of them has a fixture of this name that says so."""
    return str(request.param)


@pytest.fixture
def store_path(tmp_path: Path) -> str:
    return str(tmp_path / "orders.db")


@pytest.fixture
def store_url(kind: str, store_path: str, request: pytest.FixtureRequest) -> str:
    """The URL of an empty store."""
    url: str = f"sqlite:///{store_path}" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def open_store(store_url: str) -> Iterator[Callable[[], Store]]:
    """``open_store()``: another store at the same place."""
    with ExitStack() as opened:

        def open_store() -> Store:
            store = service.open_store(store_url)
            opened.callback(store.close)
            return store

        yield open_store


@pytest.fixture
def store(open_store: Callable[[], Store]) -> Store:
    return open_store()


@pytest.fixture(scope="session")
def new_place(kind: str, request: pytest.FixtureRequest) -> Iterator[Callable[[], AbstractContextManager[str]]]:
    """``with new_place() as url``: where an empty store may be, for each example of a Hypothesis test."""

    @contextmanager
    def in_a_file() -> Iterator[str]:
        with TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/orders.db"

    if kind == "sqlite":
        yield in_a_file
    else:
        with stores.emptied(request.getfixturevalue("postgres_server")) as in_a_database:
            yield in_a_database


@pytest.fixture(scope="session")
def new_store(
    kind: str, new_place: Callable[[], AbstractContextManager[str]]
) -> Iterator[Callable[[], AbstractContextManager[Store]]]:
    """``with new_store() as store``: an empty one for each example of a Hypothesis test.

    One in PostgreSQL is opened once: a new connection plans each statement anew, over all partitions.
    """
    with ExitStack() as at_the_end:
        opened: dict[str, Store] = {}

        @contextmanager
        def new_store() -> Iterator[Store]:
            with new_place() as url:
                if kind == "sqlite":
                    with closing(service.open_store(url)) as store:
                        yield store
                    return
                if url not in opened:
                    opened[url] = at_the_end.enter_context(closing(service.open_store(url)))
                yield opened[url]

        yield new_store
