"""What the tests of an instrumented application need: the events that its code records, and nothing sent anywhere.

Import ``order_events`` into conftest.py, where it is a pytest fixture; ``captured_events`` is the same as a block.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from otel_orders.recorder import Recorder, activate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otel_orders.event import Event
    from otel_orders.lifecycle import Lifecycle


class _ListSink:
    name = "captured"

    def __init__(self, events: list[Event]) -> None:
        self._events = events

    def emit(self, event: Event) -> None:
        self._events.append(event)


@contextmanager
def captured_events(
    service: str = "test", env: str = "test", lifecycle: Lifecycle | None = None
) -> Iterator[list[Event]]:
    """Give a list that holds, inside the block, each event that is recorded; configured sinks get none of them.

    lifecycle: what transition() checks its statuses against, None for no check.
    """
    events: list[Event] = []
    before = activate(Recorder([], [_ListSink(events)], service=service, env=env, lifecycle=lifecycle))
    try:
        yield events
    finally:
        activate(before)


def _fixture() -> Callable[..., Any]:
    """Return the pytest fixture, or a function that says that pytest is missing."""
    try:
        import pytest  # noqa: PLC0415
    except ImportError:  # an application may use captured_events() with another test runner

        def no_pytest() -> None:
            raise RuntimeError("order_events is a pytest fixture, and pytest is not installed")

        return no_pytest

    def order_events() -> Iterator[list[Event]]:
        """Give the list of events that the test's code records."""
        with captured_events() as events:
            yield events

    return pytest.fixture(order_events)


order_events = _fixture()
