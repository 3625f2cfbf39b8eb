from __future__ import annotations

import ast
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import otel_orders

ROOT = Path(__file__).parents[1]

DOCUMENTED = {
    "Move",
    "OUTBOX_SCHEMA",
    "Runtime",
    "configure",
    "current_order",
    "order_context",
    "record",
    "shutdown",
    "transition",
    "transition_context",
}

HEAVY = [
    "aio_pika",
    "pika",
    "httpx",
    "grpc",
    "requests",
    "structlog",
    "prometheus_client",
    "http.server",
    "socketserver",
    "sqlite3",
    "starlette",
    "uvicorn",
    "opentelemetry.sdk",
    "opentelemetry.exporter",
    "opentelemetry.proto",
    "opentelemetry.instrumentation",
    "google",
    "yaml",
]

IMPORT = """
import logging, os, sys, threading
before = (threading.active_count(), logging.getLogger().handlers[:], logging.getLogRecordFactory(),
          logging.Logger.makeRecord, dict(os.environ), sys.excepthook)
import otel_orders
from opentelemetry import trace, baggage
after = (threading.active_count(), logging.getLogger().handlers[:], logging.getLogRecordFactory(),
         logging.Logger.makeRecord, dict(os.environ), sys.excepthook)
assert before == after, (before, after)
assert trace._TRACER_PROVIDER is None
with otel_orders.order_context("A-1"):
    with otel_orders.transition_context("A-1", "SHIPPED") as move:
        move.set(x=1)
otel_orders.record("A-1", "SHIPPED")
otel_orders.shutdown()
print("\\n".join(sys.modules))
"""


def imported_modules() -> set[str]:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORT],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return set(ran.stdout.split())


def test_the_exported_names_are_the_documented_ones_in_order() -> None:
    assert otel_orders.__all__ == sorted(DOCUMENTED)
    assert all(hasattr(otel_orders, name) for name in DOCUMENTED)


@pytest.mark.parametrize("name", sorted(DOCUMENTED - {"OUTBOX_SCHEMA"}))
def test_every_exported_name_says_what_it_is_for(name: str) -> None:
    assert inspect.getdoc(getattr(otel_orders, name))


def test_the_public_module_holds_nothing_but_imports() -> None:
    body = ast.parse((ROOT / "otel_orders" / "__init__.py").read_text()).body
    assert {type(node) for node in body} == {ast.Expr, ast.ImportFrom, ast.Assign}


def test_importing_loads_no_client_exporter_or_server_and_changes_nothing() -> None:
    loaded = imported_modules()
    assert not {heavy for heavy in HEAVY for module in loaded if module == heavy or module.startswith(f"{heavy}.")}
