"""A ledger that is really served, on a free port, with a client to ask it."""

from __future__ import annotations

import threading
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import httpx
import pytest
import uvicorn

from otel_orders.ledger.service import Ledger, open_store
from otel_orders.server.app import create_app
from otel_orders.server.serve import bound, listen, url_of
from tests.ledger.senders import ENV
from tests.ledger.strategies import LIFECYCLE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger(open_store(f"sqlite:///{tmp_path / 'ledger.db'}"), LIFECYCLE, ENV)) as opened:
        yield opened


@pytest.fixture
def client(ledger: Ledger) -> Iterator[httpx.Client]:
    with served(ledger) as asking:
        yield asking


@contextmanager
def served(ledger: Ledger, token: str | None = None, operator_token: str | None = None) -> Iterator[httpx.Client]:
    """Serve *ledger* in a thread inside the block."""
    app = create_app(ledger, token, operator_token)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", http="h11", ws="none"))
    with bound("127.0.0.1", 0) as listener:
        listen(listener)
        thread = threading.Thread(target=server.run, args=[[listener]])
        thread.start()
        try:
            with httpx.Client(base_url=url_of(listener), trust_env=False, timeout=30) as asking:
                yield asking
        finally:
            server.should_exit = True
            thread.join()
