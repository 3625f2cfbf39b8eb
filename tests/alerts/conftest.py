"""Prometheus' and Alertmanager's own tools, which judge what is generated."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.alerts.replay import Replay, replayed, stored
from tests.alerts.tools import Tool
from tests.cli.conftest import run
from tests.collector.conftest import binary
from tests.conftest import unavailable
from tests.once import once

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NEWER = "OTEL_ORDERS_TEST_PROMTOOL"
__all__ = [
    "alertmanager_program",
    "amtool",
    "binary",
    "newer_promtool",
    "prometheus_program",
    "promtool",
    "replay",
    "run",
]


@pytest.fixture(scope="session")
def promtool() -> Tool:
    return _tool("promtool", "prometheus")


@pytest.fixture(scope="session")
def newer_promtool() -> str:
    """A second promtool, of Prometheus 3, where there is one: no package of Debian's has it."""
    path = os.environ.get(NEWER)
    if not path:
        pytest.skip(f"{NEWER} names no promtool of Prometheus 3")
    return path


@pytest.fixture(scope="session")
def amtool() -> Tool:
    return _tool("amtool", "prometheus-alertmanager")


@pytest.fixture(scope="session")
def alertmanager_program() -> str:
    """The command that starts an Alertmanager; Debian's has a longer name."""
    return _found("prometheus-alertmanager", "alertmanager", package="prometheus-alertmanager")


@pytest.fixture(scope="session")
def prometheus_program() -> str:
    """The command that starts a Prometheus."""
    return _found("prometheus", package="prometheus")


@pytest.fixture(scope="session")
def replay(
    prometheus_program: str, promtool: Tool, shared_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Replay]:
    """A Prometheus that holds every recorded incident, and what our rules record of it."""
    made = once(shared_folder / "recorded", lambda folder: stored(prometheus_program, promtool, folder))
    own = shutil.copytree(made, tmp_path_factory.mktemp("replay"), dirs_exist_ok=True)
    with replayed(prometheus_program, own) as found:
        yield found


def _tool(name: str, package: str) -> Tool:
    return Tool(_found(name, package=package))


def _found(*names: str, package: str) -> str:
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        unavailable(f"this test needs {names[0]}: apt-get install {package}")
    return path
