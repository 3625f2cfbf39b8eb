"""What the tests of alerts have in common: where things are, and programs that judge them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from otel_orders.lifecycle import load_lifecycle

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "alerts"
RULES = sorted((ALERTS / "rules").glob("*.yaml"))
REFERENCE = load_lifecycle(ROOT / "examples/order_pipeline/lifecycle.yaml")

LESS_OFTEN = os.environ | {"GOGC": "400"}
"""Go collects its garbage at five times what lives, not at twice, which costs these tools a fifth of their time."""


class Tool(NamedTuple):
    """A program, by its path."""

    path: str

    def __call__(self, *arguments: object, cwd: Path = ALERTS) -> str:
        """Run it, and return what it says; that it fails is a failure of the test."""
        command = [self.path, *map(str, arguments)]
        done = subprocess.run(
            command, cwd=cwd, env=LESS_OFTEN, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        assert done.returncode == 0, done.stdout
        return done.stdout


def rules(*files: Path) -> list[dict[str, Any]]:
    """Return the rules of rule files, as Prometheus reads them."""
    read = [yaml.safe_load(file.read_text()) for file in files]
    return [rule for content in read for group in content["groups"] for rule in group["rules"]]
