from __future__ import annotations

import subprocess
import sys
from typing import Any

from otel_orders import record
from otel_orders.testing import captured_events, order_events  # noqa: F401 - a fixture

PYTEST_IS_MISSING = """
import sys
sys.modules["pytest"] = None
from otel_orders.testing import captured_events, order_events
with captured_events(): pass
try: order_events()
except RuntimeError as error: print(error)
"""


def test_captured_events_are_those_of_the_block() -> None:
    record("A-0", "SHIPPED")
    with captured_events() as events:
        record("A-1", "SHIPPED")
        with captured_events(service="mes", env="prod") as inner:
            record("A-2", "SHIPPED")
        record("A-3", "SHIPPED")
    record("A-4", "SHIPPED")
    assert [getattr(event, "order_id", None) for event in events] == ["A-1", "A-3"]
    assert [(event.service, event.env) for event in inner] == [("mes", "prod")]


def test_the_fixture_gives_what_the_test_records(order_events: list[Any]) -> None:  # noqa: F811
    assert order_events == []
    record("A-1", "SHIPPED")
    assert [event.order_id for event in order_events] == ["A-1"]


def test_without_pytest_only_the_fixture_is_missing() -> None:
    ran = subprocess.run([sys.executable, "-c", PYTEST_IS_MISSING], check=True, capture_output=True, text=True)
    assert "pytest is not installed" in ran.stdout
