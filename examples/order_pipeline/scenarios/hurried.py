"""Run a module on a clock that runs faster, so that an hour of a pipeline is over in minutes.

    HURRIED_CLOCK="BEGAN SHOWN SPEED" python -m examples.order_pipeline.scenarios.hurried MODULE ARGUMENTS ...

The module is the one that runs in production, with the limits of production: what it reads from the clock, and how long
it pauses, is what is changed.  CPU, disks and network are not hurried, so to the module they look SPEED times slower;
therefore it waits for answers as long as without.
Linux only.  HURRIED_AHEAD: seconds by which this process's clock is wrong.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import runpy
import select
import selectors
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import anyio

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

CLOCK = "HURRIED_CLOCK"
AHEAD = "HURRIED_AHEAD"

_real_time, _real_sleep = time.time, time.sleep


class Clock(NamedTuple):
    """A clock that showed *shown* at *began*, real time (both unix seconds).  speed: seconds of it in a real one."""

    began: float
    shown: float
    speed: float

    @classmethod
    def starting(cls, shown: float, speed: float) -> Self:
        """Return one that shows *shown* now."""
        return cls(_real_time(), shown, speed)

    @classmethod
    def read(cls, text: str) -> Self:
        """Return the one that a setting describes."""
        return cls(*map(float, text.split()))

    def setting(self) -> str:
        """Return it as the environment has it."""
        return f"{self.began!r} {self.shown!r} {self.speed!r}"

    def now(self) -> float:
        """Return what it shows, unix seconds."""
        return self.shown + (_real_time() - self.began) * self.speed

    def sleep_until(self, shown: float) -> None:
        """Wait until it shows *shown*."""
        _real_sleep(max(0.0, (shown - self.now()) / self.speed))


def hurry(clock: Clock, ahead: float = 0.0) -> None:
    """Make this process read *clock*, and wait for shorter.  ahead: by how many seconds it reads it wrongly."""
    _hurry_reading(clock, ahead)
    _hurry_waiting(clock.speed)
    _wait_for_answers(clock.speed)


def _hurry_reading(clock: Clock, ahead: float) -> None:
    monotonic_ns, perf_counter_ns, speed = time.monotonic_ns, time.perf_counter_ns, clock.speed
    time.time = lambda: clock.now() + ahead
    time.time_ns = lambda: int((clock.now() + ahead) * 1e9)
    time.monotonic = lambda: monotonic_ns() / 1e9 * speed
    time.monotonic_ns = lambda: int(monotonic_ns() * speed)
    time.perf_counter = lambda: perf_counter_ns() / 1e9 * speed
    time.perf_counter_ns = lambda: int(perf_counter_ns() * speed)

    class Datetime(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> Self:
            return cls.fromtimestamp(time.time(), tz)

    dt.datetime = Datetime  # type: ignore[misc]


def _hurry_waiting(speed: float) -> None:
    """Shorten sleeps, waits for other threads, and waits for sockets: those of asyncio, of pika and of selectors."""
    condition_wait, epoll = threading.Condition.wait, select.epoll

    def wait(self: threading.Condition, timeout: float | None = None) -> bool:
        return condition_wait(self, None if timeout is None else timeout / speed)

    class Epoll:
        def __init__(self, *arguments: Any) -> None:
            self._epoll = epoll(*arguments)

        def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
            return self._epoll.poll(timeout / speed if timeout and timeout > 0 else timeout, maxevents)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._epoll, name)

    time.sleep = lambda seconds: _real_sleep(float(seconds) / speed)
    threading.Condition.wait = wait  # type: ignore[method-assign]
    select.epoll = Epoll  # type: ignore[assignment,misc]
    # Two names that were taken at import:
    threading._time = time.monotonic  # type: ignore[attr-defined]  # noqa: SLF001
    selectors.EpollSelector._selector_cls = Epoll  # type: ignore[attr-defined]  # noqa: SLF001


def _wait_for_answers(speed: float) -> None:
    """Leave as they are the timeouts around what sockets do: asyncio's own, and those of httpx."""
    asyncio_timeout, fail_after = asyncio.timeout, anyio.fail_after

    def patient(delay: float | None, shield: bool = False) -> AbstractContextManager[anyio.CancelScope]:
        return fail_after(delay and delay * speed, shield)

    asyncio.timeout = lambda delay: asyncio_timeout(delay and delay * speed)
    anyio.fail_after = patient  # type: ignore[assignment]


def main(module: str, *arguments: str) -> None:
    """Run *module* as ``python -m`` does."""
    hurry(Clock.read(os.environ[CLOCK]), float(os.environ.get(AHEAD, "0")))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
