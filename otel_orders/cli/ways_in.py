"""Where a ledger listens, what it says about that, and the options for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from otel_orders.errors import ConfigurationError
from otel_orders.server.otlp_grpc import GrpcServer

if TYPE_CHECKING:
    from otel_orders.ledger.service import Ledger
    from otel_orders.server.bodies import Intake

TOKEN = "OTEL_ORDERS_LEDGER_TOKEN"  # noqa: S105 - the variable's name
GRPC_PORT = 4317

GrpcPort = Annotated[
    int | None,
    typer.Option(
        min=0, max=65535, help="Port for OTLP/gRPC; 0 takes a free one. [default: 4317, a free one with --port 0]"
    ),
]
Grpc = Annotated[bool, typer.Option("--grpc/--no-grpc", help="Take OTLP/gRPC too.")]
GrpcUrlFile = Annotated[Path | None, typer.Option(metavar="FILE", help="Write the endpoint of gRPC here.")]


class WaysIn(NamedTuple):
    """Where a ledger listens, and where it says so.  grpc_port: None for none."""

    address: tuple[str, int]
    grpc_port: int | None
    url_file: Path | None
    grpc_url_file: Path | None

    def grpc(self, ledger: Ledger, intake: Intake, token: str | None) -> GrpcServer | None:
        """Return the server of the way in that is not HTTP, if there is to be one."""
        if self.grpc_port is None:
            return None
        return GrpcServer(ledger, intake, (self.address[0], self.grpc_port), token)

    def announce(self, url: str, grpc: GrpcServer | None, env: str, lifecycle_hash: str, *, guarded: bool) -> None:
        """Say that the ledger is there."""
        typer.echo(f"otel-orders: ledger of env {env!r} at {url} (lifecycle {lifecycle_hash})", err=True)
        typer.echo(f"otel-orders: point services at it with OTEL_EXPORTER_OTLP_ENDPOINT={url}", err=True)
        if grpc is not None:
            typer.echo(
                f"otel-orders: those that speak gRPC, with OTEL_EXPORTER_OTLP_ENDPOINT={grpc.endpoint}", err=True
            )
        if not guarded:
            typer.echo(f"otel-orders: WARNING: reachable from other machines without a token; set {TOKEN}", err=True)
        for path, text in ((self.grpc_url_file, grpc.endpoint if grpc else ""), (self.url_file, url)):
            if path is not None:
                _write_whole(path, text)


def grpc_port_of(given: int | None, http_port: int, *, wanted: bool) -> int | None:
    """Return the port for gRPC, None for none: who takes any port for HTTP takes any for gRPC."""
    if not wanted:
        return None
    if given is not None:
        return given
    return GRPC_PORT if http_port else 0


def _write_whole(path: Path, text: str) -> None:
    """Write *text* so that a reader sees all of it or nothing."""
    unfinished = path.with_name(path.name + ".part")
    try:
        unfinished.write_text(text + "\n")
        unfinished.replace(path)
    except OSError as error:
        raise ConfigurationError(f"--url-file {path}: {error.strerror}") from None
