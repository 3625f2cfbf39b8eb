"""Write anew what the unit tests of alerts expect, after a text or a rule was changed on purpose.

    .venv/bin/python -m tests.alerts.refresh [ALERT ...]        then read the difference, line by line

Which alerts are asked about, and when, stays as it is: only labels and texts come from what promtool finds.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING, Any

import yaml

from tests.alerts.tools import ALERTS

if TYPE_CHECKING:
    from pathlib import Path

_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_ALERT = re.compile(r"Labels:(\{.*\})\n\s*Annotations:(\{.*\})")
_PAIR = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*")')
Asked = tuple[str, int]
"""An alert and a time in seconds."""
Found = dict[Asked, list[dict[str, Any]]]
"""What fires, by alert and time in seconds."""


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def refreshed(file: Path) -> str:
    """Return the text of a test file with what is found now in place of what was expected."""
    content = yaml.safe_load(file.read_text())
    for test in content["tests"]:
        asked = [(case["alertname"], seconds(case["eval_time"])) for case in test["alert_rule_test"]]
        found = fired(content, test, asked, file.parent)
        for case, at in zip(test["alert_rule_test"], asked, strict=True):
            case["exp_alerts"] = found[at]
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True)


def fired(
    content: dict[str, Any], test: dict[str, Any], asked: list[Asked], folder: Path, promtool: str = "promtool"
) -> Found:
    """Return what fires in one *test* of the *content* of a file in *folder*, at each time that is *asked* about."""
    cases = [{"alertname": name, "eval_time": f"{at}s", "exp_alerts": []} for name, at in asked]
    said = _said(content | {"tests": [test | {"alert_rule_test": cases}]}, folder, promtool)
    return {one: [] for one in asked} | _found(said)


def _said(content: dict[str, Any], folder: Path, promtool: str) -> str:
    asking = folder / f"{uuid.uuid4().hex}.tmp"  # beside the others: the paths of rules are relative
    asking.write_text(yaml.dump(content, Dumper=_Dumper))
    try:
        command = [promtool, "test", "rules", asking.name]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr
    finally:
        asking.unlink()


def _found(said: str) -> Found:
    found: Found = {}
    for block in re.split(r"\n\s*alertname: ?", said)[1:]:
        name, time = re.match(r"(\w+), time: ?(\w+),", block).groups()  # type: ignore[union-attr]
        alerts = [
            {"exp_labels": _pairs(labels), "exp_annotations": _pairs(annotations)}
            for labels, annotations in _ALERT.findall(block.split("got:", 1)[1])
        ]
        for alert in alerts:
            del alert["exp_labels"]["alertname"]
        found[name, seconds(time)] = alerts
    return found


def _pairs(text: str) -> dict[str, str]:
    return {name: json.loads(value) for name, value in _PAIR.findall(text)}


def seconds(time: str) -> int:
    """Return a duration of Prometheus in seconds."""
    return sum(int(count) * _SECONDS[unit] for count, unit in re.findall(r"(\d+)([dhms])", time))


if __name__ == "__main__":
    for test_file in sorted((ALERTS / "tests").glob("*.yaml")):
        if not sys.argv[1:] or test_file.stem.removesuffix("_over_time") in sys.argv[1:]:
            test_file.write_text(refreshed(test_file))
