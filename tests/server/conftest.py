"""A ledger that is really served, over HTTP and gRPC on free ports, with clients to ask it."""

from __future__ import annotations

import threading
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import grpc
import httpx
import pytest
import uvicorn

from otel_orders.ledger.service import Ledger, open_store
from otel_orders.server.app import create_app
from otel_orders.server.bodies import Intake
from otel_orders.server.otlp_grpc import GrpcServer
from otel_orders.server.serve import Server, bound, listen, url_of
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
    """Serve *ledger* over HTTP in a thread inside the block."""
    with both_served(ledger, token, operator_token) as (asking, _):
        yield asking


@contextmanager
def both_served(
    ledger: Ledger, token: str | None = None, operator_token: str | None = None
) -> Iterator[tuple[httpx.Client, GrpcServer]]:
    """Serve *ledger* over HTTP and gRPC in a thread inside the block."""
    intake = Intake()
    beside = GrpcServer(ledger, intake, ("127.0.0.1", 0), token)
    ready = threading.Event()
    app = create_app(ledger, token, operator_token, intake)
    config = uvicorn.Config(app, log_config=None, lifespan="off", http="h11", ws="none")
    server = Server(config, beside, ready.set)
    with bound("127.0.0.1", 0) as listener:
        listen(listener)
        thread = threading.Thread(target=server.run, args=[[listener]])
        thread.start()
        try:
            assert ready.wait(20)
            with httpx.Client(base_url=url_of(listener), trust_env=False, timeout=30) as asking:
                yield asking, beside
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def endpoint(ledger: Ledger) -> Iterator[str]:
    """Where *ledger* takes OTLP/gRPC."""
    with both_served(ledger) as (_, beside):
        yield beside.endpoint


@pytest.fixture
def channel(endpoint: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(endpoint.removeprefix("http://")) as opened:
        yield opened
