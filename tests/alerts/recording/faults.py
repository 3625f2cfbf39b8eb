"""Ten incidents and a day like any other, each brought about from outside: no service has code for any of them.

Each is a context: it goes wrong where the block begins, and somebody has mended it where the block ends.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from examples.order_pipeline.scenarios import hurried, models, trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from tests.alerts.recording.load import Load
    from tests.alerts.recording.system import System

FINEST_RING = (560, 570)
"""638,400 triangles, as many as the shop takes: 4 to 5 s of one core."""


class Incident(NamedTuple):
    """What to record.  before, during, after: minutes of the hurried clock.

    speed: seconds of that clock in a real one.  lifecycle: what is written otherwise in the reference lifecycle.
    """

    name: str
    bring: Callable[[System, Load], AbstractContextManager[None]]
    before: int = 16
    during: int = 36
    after: int = 16
    speed: float = 30
    lifecycle: tuple[tuple[str, str], ...] = ()


@contextmanager
def nothing(_system: System, _load: Load) -> Iterator[None]:
    yield


@contextmanager
def lost_message(system: System, _load: Load) -> Iterator[None]:
    """A forgotten debugging consumer takes one message and goes; nobody mends it."""
    trouble.steal_message(system.amqp_url, "pricing.requests")
    yield


@contextmanager
def dead_consumer(system: System, _load: Load) -> Iterator[None]:
    for worker in system.workers:
        worker.kill()
    yield
    system.start_workers()


@contextmanager
def slow_pricing(system: System, load: Load) -> Iterator[None]:
    """Models of half an hour: as fine as they may be, on workers that get a fraction of a core each."""
    ended = threading.Event()
    throttles = [threading.Thread(target=_throttle, args=(worker.pid, ended)) for worker in system.workers]
    finest = models.stl(models.ring(*FINEST_RING))
    for _ in range(2 * len(system.workers)):
        load.order(finest)
    for thread in throttles:
        thread.start()
    yield
    ended.set()
    for thread in throttles:
        thread.join()


def _throttle(pid: int, ended: threading.Event, run: float = 0.008, cycle: float = 0.1) -> None:
    """Let a process run for so many real seconds of each *cycle*."""
    with suppress(ProcessLookupError):
        while not ended.wait(run):
            os.kill(pid, signal.SIGSTOP)
            time.sleep(cycle - run)
            os.kill(pid, signal.SIGCONT)


@contextmanager
def broker_down(system: System, _load: Load) -> Iterator[None]:
    system.rabbitmq.ctl("stop_app")
    yield
    system.rabbitmq.ctl("start_app")


@contextmanager
def crm_down(system: System, _load: Load) -> Iterator[None]:
    system.service("crm-api").kill()
    yield
    system.pipeline.restart("crm-api")


@contextmanager
def partner_flood(_system: System, load: Load) -> Iterator[None]:
    """A partner sends batches of 25 as fast as they are taken, where 3 in 10 minutes are usual."""
    ended = threading.Event()

    def flood() -> None:
        while not ended.is_set():
            load.batch("acme", 25)

    thread = threading.Thread(target=flood)
    thread.start()
    yield
    ended.set()
    thread.join()


@contextmanager
def poison_message(system: System, load: Load) -> Iterator[None]:
    """One order's model cannot be read any more: the shop fails on it, and the message comes again and again."""
    for worker in system.workers:  # else it would be priced before it is broken
        os.kill(worker.pid, signal.SIGSTOP)
    order_id = load.order(models.stl(models.ring(12, 6)))
    with sqlite3.connect(system.folder / "shop-api.db", timeout=10) as database:
        database.execute("UPDATE models SET stl = -1 WHERE order_id = ?", (order_id,))
    for worker in system.workers:
        os.kill(worker.pid, signal.SIGCONT)
    yield


@contextmanager
def clock_skew(system: System, _load: Load) -> Iterator[None]:
    """The MES is rolled out to a machine whose clock is two minutes behind."""
    _roll_out(system, "mes-api", **{hurried.AHEAD: "-120"})
    yield
    _roll_out(system, "mes-api")


def _roll_out(system: System, name: str, **environment: str) -> None:
    """Start a new process, and stop the old one once the new one is ready."""
    before = system.service(name)
    system.pipeline.restart(name, **environment)
    before.ask_to_stop()
    before.wait(10)


@contextmanager
def dead_collector(system: System, _load: Load) -> Iterator[None]:
    system.collector.kill()
    yield
    system.collector.restart()


@contextmanager
def ledger_restart(system: System, _load: Load) -> Iterator[None]:
    system.ledger.ask_to_stop()
    system.ledger.wait(10)
    system.start_ledger()
    system.ledger.address()
    yield


INCIDENTS = (
    Incident("a normal day", nothing, during=60, after=0),
    Incident(
        "one lost message",
        lost_message,
        during=75,
        after=0,
        lifecycle=(("stuck_after: 24h, stalled_after: 30m", "stuck_after: 1h, stalled_after: 30m"),),
    ),
    Incident("dead pricing consumer", dead_consumer),
    Incident("slow pricing", slow_pricing),
    Incident("broker down", broker_down),
    Incident("CRM down", crm_down),
    Incident("partner flood", partner_flood),
    Incident("poison message loop", poison_message, during=40, after=0),
    Incident("clock skew of one service", clock_skew),
    Incident("Collector dead", dead_collector),
    Incident("ledger restart", ledger_restart, during=16, after=0, speed=10),
)
