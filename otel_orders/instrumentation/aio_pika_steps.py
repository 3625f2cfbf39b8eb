"""What each task works on that it took itself, from an iterator or by a get, until it is done or the task ends.

Remembers nothing longer than it is in process: a task may run as long as its program, and make a queue for each call.
Knows nothing of how a message's processing begins.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Hashable

    from otel_orders.instrumentation.processing import Processing

MAX_STEPS: Final = 100
"""Most that one task has in process at once; beyond, the first is taken to be done."""


class _Step(NamedTuple):
    message: object
    processing: Processing


class Steps:
    """What each task has taken last from each source, a queue or an iterator, and is not done with yet."""

    def __init__(self) -> None:
        self._taken: WeakKeyDictionary[asyncio.Task[Any], dict[Hashable, _Step]] = WeakKeyDictionary()

    def begin(self, source: Hashable, message: object, processing: Processing) -> None:
        """Note that *processing* has begun, of the *message* that the current task took from *source*."""
        task = asyncio.current_task()
        if task is None:
            return
        if task not in self._taken:
            self._taken[task] = {}
            task.add_done_callback(self._end_all)
        taken = self._taken[task]
        if len(taken) >= MAX_STEPS:
            self.end(next(iter(taken)))
        taken[source] = _Step(message, processing)
        processing.when_left = lambda: taken.pop(source, None)

    def end(self, source: Hashable, error: BaseException | None = None) -> None:
        """End the processing of what the current task has taken from *source*, because of *error* if there is one."""
        step = self._of_current_task().get(source)
        if step is not None:
            step.processing.leave(error)

    def blame(self, message: object, error: BaseException) -> Hashable | None:
        """Say that *message* is about to be settled because of *error*; returns what it was taken from."""
        for source, step in tuple(self._of_current_task().items()):
            if step.message is message:
                step.processing.blame(error)
                return source
        return None

    def _of_current_task(self) -> dict[Hashable, _Step]:
        task = asyncio.current_task()
        return {} if task is None else self._taken.get(task, {})

    def _end_all(self, task: asyncio.Task[Any]) -> None:
        error = asyncio.CancelledError() if task.cancelled() else _error_of(task)
        for step in tuple(self._taken.pop(task, {}).values()):
            step.processing.leave(error)


def _error_of(task: asyncio.Task[Any]) -> BaseException | None:
    """Return the exception that ended *task*.

    Its exception() would count as the application's having seen it, and silence asyncio's "never retrieved".
    """
    error = getattr(task, "_exception", None)
    return error if isinstance(error, BaseException) else None
