"""How a service of this pipeline starts, says where it is, and stops.

Every service listens on a free port unless told otherwise and writes its address to a file, so that several pipelines
run side by side.  SIGTERM and SIGINT let work under way finish.  Knows nothing of orders.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import uvicorn
from fastapi import HTTPException
from prometheus_client import make_asgi_app

if TYPE_CHECKING:
    from fastapi import FastAPI, Request

STOP_WITHIN = 10
"""Seconds that requests under way have to finish when the service stops."""


def options(service: str) -> argparse.Namespace:
    """Return what the command line says: host, port, database (a path) and address_file (a path or None)."""
    parser = argparse.ArgumentParser(prog=service)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--database", type=Path, default=Path(f"{service}.db"), help="SQLite file")
    parser.add_argument("--address-file", type=Path, help="where to write the address once the service listens")
    return parser.parse_args()


def setting(name: str) -> str:
    """Return the environment variable *name*; ends the process with a message where it is not set."""
    return os.environ.get(name) or sys.exit(f"set {name}: this service cannot work without it")


def announce(address: str, address_file: Path | None) -> None:
    """Say where the service is: on stdout, and in *address_file* in one step, so that nobody reads half of it."""
    print(address, flush=True)
    if address_file is not None:
        draft = address_file.with_suffix(".draft")
        draft.write_text(address, encoding="utf-8")
        draft.rename(address_file)


def serve(app: FastAPI, listen: argparse.Namespace) -> None:
    """Serve *app*, with /healthz and /metrics beside its own routes, until a signal comes."""
    app.add_api_route("/healthz", healthz)
    app.mount("/metrics", make_asgi_app())
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, _leave)  # uvicorn stops gracefully, then raises the signal again: finally blocks shall run
    # TCP by name: asyncio sends small answers at once (TCP_NODELAY) only on sockets that say what they are.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((listen.host, listen.port))
        listener.listen()
        announce(f"http://{listen.host}:{listener.getsockname()[1]}", listen.address_file)
        config = uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=STOP_WITHIN)
        uvicorn.Server(config).run(sockets=[listener])


async def healthz() -> str:
    return "ok"


async def limited_body(request: Request, most: int) -> bytes:
    """Return the body of *request*; refuse it with 413 as soon as it passes *most* bytes."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise HTTPException(413, f"expected at most {most} bytes")
    return bytes(body)


def _leave(_signal: int, _frame: object) -> NoReturn:
    sys.exit(0)
