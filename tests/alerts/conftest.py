"""Prometheus' and Alertmanager's own tools, which judge what is generated."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.alerts.tools import Tool
from tests.cli.conftest import run
from tests.conftest import unavailable

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["alertmanager_program", "amtool", "promtool", "run"]


@pytest.fixture(scope="session")
def promtool() -> Tool:
    return _tool("promtool", "prometheus")


@pytest.fixture(scope="session")
def amtool() -> Tool:
    return _tool("amtool", "prometheus-alertmanager")


@pytest.fixture(scope="session")
def alertmanager_program() -> Path | str:
    """The command that starts an Alertmanager."""
    found = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if found is None:
        unavailable("this test needs Alertmanager: apt-get install prometheus-alertmanager")
    return found


def _tool(name: str, package: str) -> Tool:
    found = shutil.which(name)
    if found is None:
        unavailable(f"this test needs {name}: apt-get install {package}")
    return Tool(found)
