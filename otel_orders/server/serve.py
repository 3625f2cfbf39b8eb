"""Run a ledger's application: bind first, say the address, serve until a signal, then lose nothing."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import uvicorn

from otel_orders.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.types import ASGIApp

    from otel_orders.server.otlp_grpc import GrpcServer

GRACEFUL = 10
"""Seconds that running requests have to finish after a signal."""


@contextmanager
def bound(host: str, port: int) -> Iterator[socket.socket]:
    """Give a socket to listen on; port 0 takes any free one.  Raises ConfigurationError where it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named, since asyncio sets TCP_NODELAY only on sockets that say they are TCP.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        try:
            listener.bind((host, port))
        except (OSError, UnicodeError) as error:
            raise _no_address(host, port, error) from None
        yield listener
    finally:
        listener.close()


def listen(listener: socket.socket) -> None:
    """Let *listener* queue connections.  Raises ConfigurationError where another process was faster."""
    try:
        listener.listen(128)
    except OSError as error:
        host, port, *_ = listener.getsockname()
        raise _no_address(host, port, error) from None


def _no_address(host: str, port: int, error: OSError | UnicodeError) -> ConfigurationError:
    why = error.strerror if isinstance(error, OSError) else "no host name"
    return ConfigurationError(f"cannot listen on {host}:{port}: {why}; try --port 0 for a free port")


def url_of(listener: socket.socket) -> str:
    """Return the base URL of *listener*."""
    host, port, *_ = listener.getsockname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach *host*."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Server(uvicorn.Server):
    """Serves HTTP, and gRPC beside it in the same loop; both have begun when *ready* is called, and end together."""

    def __init__(self, config: uvicorn.Config, grpc: GrpcServer | None, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._grpc = grpc
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve."""
        if self._grpc is not None:
            await self._grpc.start()
        await super().startup(sockets)
        if not self.should_exit:
            self._ready()
        elif self._grpc is not None:  # a signal came already, and shutdown() will not be called
            await self._grpc.stop()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let running requests finish."""
        http = super().shutdown(sockets)
        await (http if self._grpc is None else asyncio.gather(http, self._grpc.stop()))


def serve(
    app: ASGIApp,
    listener: socket.socket,
    grpc: GrpcServer | None = None,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve *app*, and *grpc*, until SIGINT or SIGTERM, and let running requests finish."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        lifespan="off",
        access_log=False,
        timeout_graceful_shutdown=GRACEFUL,
        ws="none",
        http="h11",  # the one that bounds what headers may take
        server_header=False,
        proxy_headers=False,
    )
    with suppress(KeyboardInterrupt):  # uvicorn has stopped, and passes the signal on
        Server(config, grpc, ready).run([listener])
