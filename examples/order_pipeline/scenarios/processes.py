"""Start the services of the pipeline as processes, know when they are ready, and take them all away again.

Each gets its own database, log and address file in one folder.  Only processes that were started here are ever stopped;
on Linux they stop by themselves when the scenario is killed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

import httpx

if TYPE_CHECKING:
    from types import TracebackType

READY_WITHIN = 40.0
STOP_WITHIN = 10.0
POLL_EVERY = 0.05
PR_SET_PDEATHSIG = 1
ROOT = Path(__file__).parents[3]
"""The folder from which ``python -m examples...`` finds this package."""


class ServiceFailedError(Exception):
    """A service did not start; the message ends with the last lines of its log."""


class Service:
    """One process: its name, and the files that belong to it."""

    def __init__(self, name: str, folder: Path, command: list[str], environment: dict[str, str]) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.address_file = folder / f"{name}.address"
        self.address_file.unlink(missing_ok=True)  # of an earlier process of this name
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the scenario, which then stops its services in good order
                preexec_fn=_stop_with_parent,  # noqa: PLW1509 - no thread runs here while services are started
            )

    def address(self) -> str:
        """Wait until the service answers; return its base URL.  Raises ServiceFailedError."""
        deadline = time.monotonic() + READY_WITHIN
        while time.monotonic() < deadline and not self.has_ended():
            with suppress(OSError, httpx.TransportError):
                address = self.address_file.read_text(encoding="utf-8").strip()
                if address and httpx.get(f"{address}/healthz", timeout=5, trust_env=False).is_success:
                    return address
            time.sleep(POLL_EVERY)
        ended = f"; it ended with status {self._process.returncode}" if self.has_ended() else ""
        raise ServiceFailedError(f"{self.name} did not get ready{ended}:\n{self.last_lines()}")

    def last_lines(self, count: int = 20) -> str:
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-count:])

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def ask_to_stop(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        """End it as a crash would."""
        self._process.kill()
        self._process.wait()

    def wait(self, seconds: float) -> None:
        """Wait for the end; after *seconds*, kill."""
        try:
            self._process.wait(max(seconds, 0))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Services:
    """All processes of one run; a context manager that stops them, the last one first.

    through: a module that runs each of them, such as one that hurries it.
    """

    def __init__(self, folder: Path, environment: dict[str, str], through: tuple[str, ...] = ()) -> None:
        self._folder = folder
        self._through = through
        self._environment = {**os.environ, **environment}
        self._running: list[Service] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        deadline = time.monotonic() + STOP_WITHIN
        for service in reversed(self._running):
            service.ask_to_stop()
        for service in reversed(self._running):
            service.wait(deadline - time.monotonic())

    def named(self, name: str) -> Service:
        """Return the newest process of that name.  Raises LookupError."""
        for service in reversed(self._running):
            if service.name == name:
                return service
        raise LookupError(f"no service {name} was started")

    def ended(self) -> list[Service]:
        """Return those that ended by themselves."""
        return [service for service in self._running if service.has_ended()]

    def start(self, name: str, module: str, *arguments: str | Path, **environment: str) -> Service:
        """Start ``python -m module`` with *arguments* and more *environment*; does not wait for it."""
        command = [sys.executable, "-m", *self._through, module, *map(str, arguments)]
        service = Service(name, self._folder, command, {**self._environment, **environment})
        self._running.append(service)
        return service


def _stop_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
