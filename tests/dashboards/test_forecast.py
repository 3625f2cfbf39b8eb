"""How many orders the next 30 days will bring, and how sure that is: promtool's numbers against arithmetic by hand."""

from __future__ import annotations

import math
import random
from statistics import fmean, pvariance
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from otel_orders.generate.rules import FEWEST_DAYS, forecast
from tests.alerts.tools import RULES, Tool

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DAILY = "env:orders_created:increase1d"
NAMES = {record.record for record in forecast()}


def recorded(promtool: Tool, folder: Path, daily: list[int], expected: Mapping[str, float | None]) -> None:
    """Ask promtool whether these orders a day make the *expected* records, None for none, just after the last day."""
    rules = [record.rule() for record in forecast()]
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "forecast", "rules": rules}]}))
    days = len(daily)
    tests: list[dict[str, Any]] = [
        {
            "expr": f"round({name}, 0.01)",
            "eval_time": f"{days}d",
            "exp_samples": [] if value is None else [{"labels": "{}", "value": round(value, 2)}],
        }
        for name, value in expected.items()
    ]
    series = [{"series": DAILY, "values": " ".join(["_", *map(str, daily)])}]
    content = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "1d",
        "tests": [{"interval": "1d", "input_series": series, "promql_expr_test": tests}],
    }
    (folder / "test.yaml").write_text(yaml.safe_dump(content))
    promtool("test", "rules", folder / "test.yaml", cwd=folder)


def by_hand(daily: list[int]) -> tuple[float, float]:
    """The next 30 days by a straight line through *daily*, and two standard errors of that sum."""
    days = len(daily)
    middle, mean = (days - 1) / 2, fmean(daily)
    across = sum((day - middle) ** 2 for day in range(days))
    slope = sum((day - middle) * (count - mean) for day, count in enumerate(daily)) / across
    beside = sum((count - mean - slope * (day - middle)) ** 2 for day, count in enumerate(daily)) / (days - 2)
    next_30 = [mean + slope * (days - 1 + ahead - middle) for ahead in range(1, 31)]
    far = middle + 15.5
    return sum(next_30), 2 * math.sqrt(beside * (30 + 900 / days + 900 * far**2 / across))


def test_orders_that_grow_evenly_are_foretold_without_an_error(promtool: Tool, tmp_path: Path) -> None:
    daily = [100 + 2 * day for day in range(28)]
    after = sum(100 + 2 * day for day in range(28, 58))
    expected = {"env:orders_created_next30d:forecast": float(after), "env:orders_created_next30d:error": 0.0}
    recorded(promtool, tmp_path, daily, expected | {"env:orders_created:increase30d": 30 * fmean(daily)})


@pytest.mark.parametrize("days", [FEWEST_DAYS, 30, 56])
def test_forecast_and_error_are_those_of_a_straight_line(days: int, promtool: Tool, tmp_path: Path) -> None:
    draw = random.Random(days)
    daily = [round(draw.gauss(200 + day, 30)) for day in range(days)]
    assert pvariance(daily) > 0
    total, error = by_hand(daily)
    expected = {"env:orders_created_next30d:forecast": total, "env:orders_created_next30d:error": error}
    recorded(promtool, tmp_path, daily, expected)


def test_too_few_days_foretell_nothing(promtool: Tool, tmp_path: Path) -> None:
    foretold: dict[str, float | None] = dict.fromkeys(NAMES - {DAILY}, None)
    only = {name: value for name, value in foretold.items() if "next30d" in name}
    assert len(only) == 2
    recorded(promtool, tmp_path, [5] * (FEWEST_DAYS - 1), only)


def test_fewer_orders_each_day_end_at_none_and_not_below(promtool: Tool, tmp_path: Path) -> None:
    daily = [max(300 - 20 * day, 0) for day in range(15)]
    recorded(promtool, tmp_path, daily, {"env:orders_created_next30d:forecast": 0.0})


def test_these_rules_are_the_ones_that_are_committed() -> None:
    (file,) = (file for file in RULES if file.name == "recording.yaml")
    text = file.read_text()
    assert all(f"record: {name}\n" in text for name in NAMES)
