"""What fires when in a recorded incident: asked of Prometheus' own rule engine, minute by minute."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Any, Final

import yaml

from tests.alerts.recordings import Recorded, runs
from tests.alerts.tools import LESS_OFTEN, RULES, rules

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.alerts.tools import Tool

Labels = frozenset[tuple[str, str]]
_FIRING: Final = 'ALERTS{alertstate="firing",alertname!="Watchdog"}'
_OURS: Final = ("__name__", "alertstate")
_TIMESTAMP: Final = re.compile(r"\w+_timestamp_seconds\{|process_start_time_seconds\{")
_NAME: Final = re.compile(r"[a-zA-Z_][\w:]*")
_PAIR: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def moved(recorded: Recorded, began: int) -> Recorded:
    """Return the same incident as if it had begun at *began*, unix seconds: values that are times move with it."""
    by = began - recorded.began
    return recorded._replace(
        began=began,
        series={
            series: {n: _moved(value, by) for n, value in values.items()} if _TIMESTAMP.match(series) else values
            for series, values in recorded.series.items()
        },
    )


def until(recorded: Recorded, seconds: int) -> Recorded:
    """Return what was scraped by so many *seconds* after the beginning."""
    scrapes = seconds // recorded.every + 1
    cut = (
        (series, {n: value for n, value in values.items() if n < scrapes}) for series, values in recorded.series.items()
    )
    return recorded._replace(scrapes=scrapes, series={series: values for series, values in cut if values})


def _moved(value: str, by: int) -> str:
    return f"{float(value) + by:.3f}".rstrip("0").rstrip(".")


def ended(recorded: Recorded) -> Recorded:
    """Return it with a mark where a series was not on its page any more: then Prometheus takes it for gone at once."""
    answers = {_target(series): values for series, values in recorded.series.items() if series.startswith("up{")}
    found = {}
    for series, values in recorded.series.items():
        gone = {n + 1 for n in values} - set(values)
        asked = answers[_target(series)]
        found[series] = values | {_next(n, asked): "stale" for n in gone if _next(n, asked) not in values}
    return recorded._replace(series={series: _sorted(values, recorded.scrapes) for series, values in found.items()})


def _target(series: str) -> str | None:
    found = re.search(r'instance="([^"]+)"', series)
    return found and found[1]


def _next(n: int, asked: dict[int, str]) -> int:
    """Return the first scrape from *n* on that was made."""
    return min((at for at in asked if at >= n), default=n)


def _sorted(values: dict[int, str], scrapes: int) -> dict[int, str]:
    return {n: values[n] for n in sorted(values) if n < scrapes}


def asked_by_alerts() -> set[str]:
    """Return the names of all series that an alert is made of, over however many recordings."""
    recorded = {rule["record"]: rule["expr"] for rule in rules(*RULES) if "record" in rule}
    exprs = [rule["expr"] for rule in rules(*RULES) if "alert" in rule]
    found: set[str] = set()
    while exprs:
        new = {name for expr in exprs for name in _NAME.findall(re.sub(r"\(_(\w+)\)\?", "", expr))} - found
        found |= new
        exprs = [expr for name, expr in recorded.items() if name in new]
    return found | {name + total for name in found if name.startswith("otelcol_") for total in ("_total",)}


def unit_test(recorded: Recorded) -> dict[str, Any]:
    """Return the incident as a unit test of promtool, which asks each minute what fires and expects nothing."""
    shown = ended(moved(recorded, 0))  # promtool's time begins at 0
    asked = asked_by_alerts()
    minutes = recorded.scrapes * recorded.every // 60
    files = sorted(RULES, key=lambda file: file.name != "recording.yaml")
    return {
        "rule_files": [str(file) for file in files],
        "evaluation_interval": "1m",
        "group_eval_order": [group["name"] for file in files for group in yaml.safe_load(file.read_text())["groups"]],
        "tests": [
            {
                "interval": f"{recorded.every}s",
                "input_series": [
                    {"series": series, "values": runs(values, recorded.scrapes)}
                    for series, values in shown.series.items()
                    if _NAME.match(series)[0] in asked  # type: ignore[index]
                ],
                "promql_expr_test": [{"expr": _FIRING, "eval_time": f"{minute}m"} for minute in range(1, minutes)],
            }
        ],
    }


def timeline(recorded: Recorded, promtool: Tool, folder: Path) -> dict[int, frozenset[Labels]]:
    """Return what fires, by minute of the recording."""
    file = folder / "incident.yaml"
    file.write_text(yaml.dump(unit_test(recorded), Dumper=yaml.CSafeDumper))
    # It fails by design: what it expected was nothing, and what it got is the answer.
    command = [promtool.path, "test", "rules", str(file)]
    done = subprocess.run(
        command, env=LESS_OFTEN, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return dict(_answers(done.stdout))


def _answers(said: str) -> Iterator[tuple[int, frozenset[Labels]]]:
    for block in said.split("expr: ")[1:]:
        hours, minutes = re.findall(r"time: (?:(\d+)h)?(?:(\d+)m)?", block)[0]
        got = block.split("got:", 1)[1]
        found = [dict(_PAIR.findall(one)) for one in re.findall(r"\{([^}]*)\}", got)]
        firing = {frozenset((name, value) for name, value in one.items() if name not in _OURS) for one in found}
        yield 60 * int(hours or 0) + int(minutes or 0), frozenset(firing)
