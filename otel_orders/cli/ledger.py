"""``otel-orders ledger`` and ``otel-orders dev``: run a ledger, for good or on a laptop."""

from __future__ import annotations

import gc
import os
import signal
import sys
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from otel_orders.cli.ledger_store import OPERATOR_TOKEN
from otel_orders.cli.ways_in import TOKEN, Grpc, GrpcPort, GrpcUrlFile, WaysIn, grpc_port_of
from otel_orders.errors import ConfigurationError
from otel_orders.ledger.model import KEPT, Retention
from otel_orders.ledger.probe import EVERY, management
from otel_orders.ledger.service import Ledger, open_store
from otel_orders.lifecycle import load_lifecycle, parse_duration
from otel_orders.server.app import create_app
from otel_orders.server.bodies import Intake
from otel_orders.server.serve import bound, is_loopback, listen, serve, url_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_orders.ledger.probe import Management
    from otel_orders.ledger.store import Received

RETENTION = "OTEL_ORDERS_LEDGER_RETENTION"
ERRORS_RETENTION = "OTEL_ORDERS_LEDGER_ERRORS_RETENTION"
OTLP_PORT = 4318
SWITCHING = 0.0005
"""Seconds that a thread keeps the interpreter when another wants it: a look-up must not wait while others read OTLP."""

LifecycleFile = Annotated[str, typer.Option("--lifecycle", metavar="FILE", help="The lifecycle file.")]
Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")]
Env = Annotated[str, typer.Option(envvar="OTEL_ORDERS_ENV", help="The one environment whose events are kept.")]
Follow = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILE",
        help="JSON lines to follow, glob:PATTERN for many, sqlite:///FILE or postgresql://... for an outbox table;"
        " may be repeated.",
    ),
]
RabbitMQ = Annotated[
    str | None,
    typer.Option(
        "--rabbitmq",
        metavar="URL",
        help="RabbitMQ's management API, to probe the lifecycle's queues; its user is in OTEL_ORDERS_RABBITMQ_USER and"
        " OTEL_ORDERS_RABBITMQ_PASSWORD.",
    ),
]
Vhost = Annotated[str, typer.Option("--rabbitmq-vhost", metavar="NAME", help="The virtual host of the queues.")]
Authority = Annotated[
    str | None, typer.Option("--rabbitmq-ca", metavar="FILE", help="Certificates to trust instead of the system's.")
]
ProbeEvery = Annotated[
    float, typer.Option("--rabbitmq-every", metavar="SECONDS", min=1, help="Time between two probes.")
]
UrlFile = Annotated[Path | None, typer.Option(metavar="FILE", help="Write the base URL here once it is served.")]


def ledger(  # noqa: PLR0917 - typer calls it by name
    context: typer.Context,
    store: Annotated[str | None, typer.Option(metavar="URL", help="sqlite:///PATH or postgresql://...")] = None,
    lifecycle: LifecycleFile = "lifecycle.yaml",
    host: Host = "127.0.0.1",
    port: Port = OTLP_PORT,
    env: Env = "dev",
    follow: Follow = None,
    rabbitmq: RabbitMQ = None,
    rabbitmq_vhost: Vhost = "/",
    rabbitmq_ca: Authority = None,
    rabbitmq_every: ProbeEvery = EVERY,
    url_file: UrlFile = None,
    retention: Annotated[
        str, typer.Option(envvar=RETENTION, metavar="TIME", help="How long an order is kept after it has ended.")
    ] = "90d",
    errors_retention: Annotated[
        str, typer.Option(envvar=ERRORS_RETENTION, metavar="TIME", help="How long failed transitions are kept.")
    ] = "30d",
    grpc_port: GrpcPort = None,
    grpc_url_file: GrpcUrlFile = None,
    *,
    grpc: Grpc = True,
) -> None:
    """Keep every event, and show where each order is.

    Takes OTLP/HTTP at /v1/logs and /v1/traces, OTLP/gRPC on a port of its own and JSON lines at /events; serves
    /orders/ORDER_ID, /metrics, /healthz and /readyz. OTEL_ORDERS_LEDGER_TOKEN, if set, is the bearer token that it asks
    for; OTEL_ORDERS_LEDGER_OPERATOR_TOKEN the one to hold and to erase orders with.
    """
    if context.invoked_subcommand is not None:
        return
    if store is None:
        raise typer.BadParameter("expected, unless a command follows", context, param_hint="--store")
    kept = Retention(_time("--retention", retention), _time("--errors-retention", errors_retention))
    asked = _management(rabbitmq, rabbitmq_vhost, rabbitmq_ca, rabbitmq_every)
    ways_in = WaysIn((host, port), grpc_port_of(grpc_port, port, wanted=grpc), url_file, grpc_url_file)
    _run(store, lifecycle, env=env, ways_in=ways_in, follow=follow, retention=kept, rabbitmq=asked)


def dev(  # noqa: PLR0917 - typer calls it by name
    lifecycle: LifecycleFile = "lifecycle.yaml",
    port: Port = OTLP_PORT,
    env: Env = "dev",
    follow: Follow = None,
    rabbitmq: RabbitMQ = None,
    rabbitmq_vhost: Vhost = "/",
    rabbitmq_ca: Authority = None,
    rabbitmq_every: ProbeEvery = EVERY,
    url_file: UrlFile = None,
    grpc_port: GrpcPort = None,
    grpc_url_file: GrpcUrlFile = None,
    *,
    grpc: Grpc = True,
) -> None:
    """Run a ledger on this machine only, forgotten at the end, and print events as they come."""
    from otel_orders.cli.screen import EventPrinter  # noqa: PLC0415

    asked = _management(rabbitmq, rabbitmq_vhost, rabbitmq_ca, rabbitmq_every)
    with tempfile.TemporaryDirectory(prefix="otel-orders-") as folder:
        printer = EventPrinter()
        store = f"sqlite:///{Path(folder) / 'ledger.db'}"
        address = ("127.0.0.1", port)
        ways_in = WaysIn(address, grpc_port_of(grpc_port, port, wanted=grpc), url_file, grpc_url_file)
        _run(store, lifecycle, env=env, ways_in=ways_in, follow=follow, show=printer.show, rabbitmq=asked)


def _run(
    store: str,
    lifecycle: str,
    *,
    env: str,
    ways_in: WaysIn,
    follow: list[str] | None,
    retention: Retention = KEPT,
    show: Callable[[Received, str], None] | None = None,
    rabbitmq: Management | None = None,
) -> None:
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.default_int_handler)
    read = load_lifecycle(lifecycle)
    with suppress(KeyboardInterrupt), ExitStack() as stack:
        listener = stack.enter_context(bound(*ways_in.address))
        opened = open_store(store)
        stack.callback(opened.close)
        running = Ledger(opened, read, env, follow or [], on_event=show, retention=retention, rabbitmq=rabbitmq)
        stack.callback(running.close)
        tune_garbage_collection()
        sys.setswitchinterval(SWITCHING)
        token = os.environ.get(TOKEN, "").strip() or None
        intake = Intake()
        grpc = ways_in.grpc(running, intake, token)

        def ready() -> None:
            guarded = token is not None or is_loopback(ways_in.address[0])
            ways_in.announce(url_of(listener), grpc, env, read.hash, guarded=guarded)

        # From here on the port answers; requests that come before the server runs wait in the listener's queue.
        listen(listener)
        operator_token = os.environ.get(OPERATOR_TOKEN, "").strip() or None
        serve(create_app(running, token, operator_token, intake), listener, grpc, ready)


def _management(url: str | None, vhost: str, ca: str | None, every: float) -> Management | None:
    """Return where to ask about queues, None for nowhere.  Raises ConfigurationError."""
    return None if url is None else management(url, os.environ, vhost=vhost, ca=ca, every=every)


def _time(option: str, text: str) -> int:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise ConfigurationError(f"{option}: {error}") from None


def tune_garbage_collection() -> None:
    """Look for cyclic garbage less often: a batch makes tens of thousands of objects, and none of them in cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
