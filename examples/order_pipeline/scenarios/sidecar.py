"""Start the ledger beside the pipeline: it follows one file, and asks the broker what its queues hold."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from examples.order_pipeline.scenarios.pipeline import LIFECYCLE

if TYPE_CHECKING:
    from pathlib import Path

    from examples.order_pipeline.scenarios.broker import Broker
    from examples.order_pipeline.scenarios.processes import Service, Services

PROBE_EVERY = 2
"""Seconds; in production, a probe every 15 s is enough."""


def start_ledger(
    services: Services,
    folder: Path,
    follow: Path,
    rabbitmq: Broker,
    amqp_url: str,
    *,
    lifecycle: Path = LIFECYCLE,
    probe_every: float = PROBE_EVERY,
    port: int = 0,
) -> Service:
    """Start the ledger with its store in *folder*.  follow: the JSON lines of who cannot send it anything."""
    probe, environment = _probe(rabbitmq, amqp_url, probe_every)
    return services.start(
        "ledger",
        "otel_orders.cli",
        "ledger",
        *("--lifecycle", lifecycle),
        *("--store", store_url(folder)),
        *("--port", str(port), "--grpc-port", "0"),
        *("--url-file", folder / "ledger.address"),
        *("--follow", follow),
        *probe,
        **environment,
    )


def store_url(folder: Path) -> str:
    """Return where the ledger keeps what it knows."""
    return f"sqlite:///{folder / 'ledger.db'}"


def _probe(rabbitmq: Broker, amqp_url: str, every: float) -> tuple[list[str], dict[str, str]]:
    """Return the arguments and the environment with which the ledger probes the queues; none without a page to ask."""
    if rabbitmq.management_url is None:
        return [], {}
    at = urlsplit(amqp_url)
    arguments = ["--rabbitmq", rabbitmq.management_url, "--rabbitmq-vhost", unquote(at.path[1:]) or "/"]
    user, password = unquote(at.username or "guest"), unquote(at.password or "guest")
    return [*arguments, "--rabbitmq-every", str(every)], {
        "OTEL_ORDERS_RABBITMQ_USER": user,
        "OTEL_ORDERS_RABBITMQ_PASSWORD": password,
    }
