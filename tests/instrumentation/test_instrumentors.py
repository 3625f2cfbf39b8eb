"""What `opentelemetry-instrument` finds of ours, and does with it."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from aio_pika import Exchange
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]
from pika.adapters.blocking_connection import BlockingChannel

ROOT = Path(__file__).parents[2]
GROUP = "opentelemetry_instrumentor"
DECLARED: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][GROUP]

PROGRAM = """
from aio_pika import Exchange
from pika.adapters.blocking_connection import BlockingChannel
print([type(vars(owner)[name]).__name__ for owner, name in ((BlockingChannel, "consume"), (Exchange, "publish"))])
"""


@pytest.mark.parametrize(
    ("name", "method"),
    [("otel_orders_pika", (BlockingChannel, "basic_get")), ("otel_orders_aio_pika", (Exchange, "publish"))],
)
def test_an_entry_point_instruments_its_client_and_puts_the_original_back(name: str, method: tuple[Any, str]) -> None:
    owner, attribute = method
    original = vars(owner)[attribute]
    instrumentor = EntryPoint(name, DECLARED[name], GROUP).load()()
    assert isinstance(instrumentor, BaseInstrumentor)
    instrumentor.instrument(raise_exception_on_conflict=True)
    assert vars(owner)[attribute] is not original
    instrumentor.uninstrument()
    assert vars(owner)[attribute] is original


@pytest.mark.slow
@pytest.mark.parametrize(("disabled", "found"), [("", True), ("otel_orders_pika,otel_orders_aio_pika", False)])
def test_opentelemetry_instrument_finds_ours_unless_they_are_disabled(disabled: str, *, found: bool) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    environment |= {
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": f"{disabled},pika,aio-pika,httpx".strip(","),
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
    }
    command: list[str | Path] = [
        Path(sys.executable).with_name("opentelemetry-instrument"),
        sys.executable,
        "-c",
        PROGRAM,
    ]
    ran = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    assert ("FunctionWrapper" in ran.stdout) is found
    assert ran.stderr == ""
