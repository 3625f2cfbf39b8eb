"""The real Collector: found in its cache, and built where it is required and missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.collector.processes import COLLECTOR
from tests.conftest import REQUIRED, unavailable


@pytest.fixture(scope="session")
def binary() -> Path:
    """The Collector that collector/builder.yaml describes."""
    found = Path(_said("--where"))
    if not found.exists() and os.environ.get(REQUIRED) == "1":
        found = Path(_said())
    if not found.exists():
        unavailable("the Collector is not built: run `make collector`")
    return found


def _said(*arguments: str) -> str:
    environ = {"UV": str(Path(sys.executable).with_name("uv"))} | os.environ
    build = [str(COLLECTOR / "build"), *arguments]
    return subprocess.run(build, check=True, stdout=subprocess.PIPE, text=True, env=environ).stdout.strip()
