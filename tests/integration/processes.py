"""``otel-orders`` as a process of its own, as its users run it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator

LIFECYCLE = Path(__file__).parents[2] / "examples/order_pipeline/lifecycle.yaml"
COMMAND = (sys.executable, "-m", "otel_orders.cli")
Environ = dict[str, str] | None
"""What is added to the environment."""
STARTING = 60.0
"""Seconds in which a ledger must be up."""


class Running:
    """A started ``otel-orders`` and, once it is up, its base URL and its endpoint for gRPC."""

    def __init__(self, folder: Path, *arguments: str, output: int | None = None, environ: Environ = None) -> None:
        url_file = folder / f"url-{time.monotonic_ns()}"
        grpc_file = url_file.with_name(url_file.name + "-grpc")
        self.output = folder / "output"
        self.errors = folder / "errors"
        with self.output.open("ab") as to_file, self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [*COMMAND, *arguments, "--port", "0", "--url-file", str(url_file), "--grpc-url-file", str(grpc_file)],
                stdout=to_file if output is None else output,
                stderr=errors,
                env=os.environ | (environ or {}),
            )
        try:
            self.url = self._url(url_file)
        except BaseException:
            self.process.kill()  # nobody else knows of it yet
            self.process.wait()
            raise
        self.grpc = grpc_file.read_text().strip()

    def _url(self, url_file: Path) -> str:
        deadline = time.monotonic() + STARTING
        while not url_file.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"it did not start: {self.errors.read_text()}")
            time.sleep(0.01)
        return url_file.read_text().strip()

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, trust_env=False, timeout=20)

    def stop(self, signal_number: int) -> int:
        """Send the signal and return the exit status."""
        self.process.send_signal(signal_number)
        return self.process.wait(20)


@contextmanager
def running(folder: Path, *arguments: str, environ: Environ = None) -> Iterator[Running]:
    """Run ``otel-orders ledger`` with its store in *folder* inside the block; *arguments* are added."""
    store = ("--store", f"sqlite:///{folder / 'ledger.db'}", "--lifecycle", str(LIFECYCLE), "--env", "test")
    with started(folder, "ledger", *store, *arguments, environ=environ) as found:
        yield found


@contextmanager
def started(folder: Path, *arguments: str, output: int | None = None, environ: Environ = None) -> Iterator[Running]:
    """Run ``otel-orders`` with *arguments* inside the block, and end it if it still runs."""
    found = Running(folder, *arguments, output=output, environ=environ)
    try:
        yield found
    finally:
        if found.process.poll() is None:
            found.process.kill()
            found.process.wait()
