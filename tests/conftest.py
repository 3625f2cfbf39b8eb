"""Fixtures that every test may use: a real RabbitMQ, and a corner of it that no other test sees."""

from __future__ import annotations

import os
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

import certifi
import httpx
import pytest
from coverage import Coverage
from hypothesis import settings

from examples.order_pipeline.scenarios.broker import Broker, BrokerUnavailable
from examples.order_pipeline.scenarios.broker import broker as rabbitmq
from tests.postgres import GIVEN, Postgres, PostgresUnavailable, postgres
from tests.sinks.memory import global_provider

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

REQUIRED = "OTEL_ORDERS_REQUIRE"
"""Set to 1 where a test that cannot run is a failure (CI); elsewhere it is skipped with the reason."""

KEPT = (REQUIRED, GIVEN, "OTEL_ORDERS_TEST_PROMTOOL")
"""What the shell may tell tests."""

LONGEST = (
    *("test_old_clients", "test_alerts_fire", "test_replayed_incidents", "test_demo", "test_replayed_queries"),
    *("test_faults", "test_probe", "test_broker", "test_store", "test_ledger_process", "test_side_by_side"),
    *("test_follow", "test_incidents", "test_stages_over_a_month", "test_replicas", "test_snapshots_and_logs"),
)
"""The files of tests that take half a minute or more."""

settings.register_profile("any machine", deadline=None)  # a busy machine is no failure
settings.load_profile("any machine")


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Trace nothing where no_cover says so: of the several that trace one of xdist's workers, pytest-cov stops one."""
    stopped = []
    while item.get_closest_marker("no_cover") and (tracing := Coverage.current()):
        tracing.stop()
        stopped.append(tracing)
    try:
        yield
    finally:
        for tracing in reversed(stopped):
            tracing.start()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let xdist's workers begin with the longest files, so that they end together."""
    if hasattr(config, "workerinput"):
        place = {name: at for at, name in enumerate(LONGEST)}
        items.sort(key=lambda item: place.get(item.path.stem, len(LONGEST)))


@pytest.fixture(autouse=True)
def _no_telemetry_settings_of_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_") and name not in KEPT]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session", autouse=True)
def _provider_of_the_application() -> None:
    """Make the process's provider before configure() can: OpenTelemetry lets nobody replace it."""
    global_provider()


@pytest.fixture(autouse=True)
def _no_tracing_of_what_is_started(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("no_cover"):
        monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


@pytest.fixture(scope="session", autouse=True)
def _one_authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let httpx know one authority instead of 140: each of its clients reads them all, for 27 ms; no test needs any."""
    first, end, _ = Path(certifi.where()).read_text().partition("-----END CERTIFICATE-----\n")
    file = tmp_path_factory.mktemp("authorities") / "one.pem"
    file.write_text(first + end)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certifi, "where", lambda: str(file))
        yield


@pytest.fixture(scope="session")
def shared_folder(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The temporary folder of this test run, in which each of xdist's workers has its own."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if hasattr(pytestconfig, "workerinput") else own


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """One RabbitMQ for all tests: do not stop it, and leave nothing in it."""
    yield from _one(private=False)


@pytest.fixture(scope="module")
def private_broker() -> Iterator[Broker]:
    """A RabbitMQ of the test module's own, which may be stopped: ``private_broker.ctl("stop_app")``."""
    yield from _one(private=True)


@pytest.fixture
def amqp_url(broker: Broker) -> str:
    """The URL of the broker that all tests share; for tests that declare nothing but unnamed queues."""
    return broker.amqp_url


@pytest.fixture
def vhost_url(broker: Broker) -> Iterator[str]:
    """The URL of a virtual host of the test's own, gone afterwards with all that is in it."""
    if broker.management_url is None:
        unavailable("this test needs a virtual host, and the broker shows no management API to make one")
    at = urlsplit(broker.amqp_url)
    name = f"test-{uuid.uuid4().hex}"
    user = (at.username or "guest", at.password or "guest")
    with httpx.Client(base_url=f"{broker.management_url}/api/vhosts/", auth=user, trust_env=False) as vhosts:
        vhosts.put(name).raise_for_status()
        yield at._replace(path=f"/{name}").geturl()
        vhosts.delete(name).raise_for_status()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """One PostgreSQL for all tests: do not stop it, and leave nothing in it."""
    yield from _one_postgres()


@pytest.fixture
def postgres_url(postgres_server: Postgres) -> Iterator[str]:
    """The URL of an empty database of the test's own."""
    with postgres_server.new() as url:
        yield url


@pytest.fixture
def private_postgres() -> Iterator[Postgres]:
    """A PostgreSQL of the test's own that keeps what it commits, and may be stopped."""
    yield from _one_postgres(private=True, durable=True)


def unavailable(reason: str) -> NoReturn:
    """Skip the test for *reason*; in CI, fail it."""
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _one(*, private: bool) -> Iterator[Broker]:
    with ExitStack() as stack:
        try:
            found = stack.enter_context(rabbitmq(private=private))
        except BrokerUnavailable as error:
            unavailable(str(error))
        yield found


def _one_postgres(*, private: bool = False, durable: bool = False) -> Iterator[Postgres]:
    with ExitStack() as stack:
        try:
            found = stack.enter_context(postgres(private=private, durable=durable))
        except PostgresUnavailable as error:
            unavailable(str(error))
        yield found
