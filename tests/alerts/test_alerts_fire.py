"""Each alert fires, holds, ends and stays quiet as its unit tests in alerts/tests say, down to labels and text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from otel_orders.generate.alerts_telemetry import WATCHDOG
from tests.alerts.refresh import fired, seconds
from tests.alerts.tools import ALERTS, RULES, rules

if TYPE_CHECKING:
    from pathlib import Path

    from tests.alerts.tools import Tool

TESTS = sorted((ALERTS / "tests").glob("*.yaml"))
NAMES = sorted({rule["alert"] for rule in rules(*RULES) if "alert" in rule})


def cases(alert: str) -> list[dict[str, Any]]:
    """All cases of an alert; those that take days are evaluated more rarely, in a file of their own."""
    files = [file for file in TESTS if file.stem in (alert, f"{alert}_over_time")]
    tests = [test for file in files for test in yaml.safe_load(file.read_text())["tests"]]
    return [case for test in tests for case in test["alert_rule_test"]]


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_an_alert_does_what_its_unit_tests_say(file: Path, promtool: Tool) -> None:
    assert "SUCCESS" in promtool("test", "rules", file.name, cwd=file.parent)


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_in_a_newer_prometheus_it_does_the_same_an_evaluation_sooner_or_later(file: Path, newer_promtool: str) -> None:
    """From version 3 on the sample at a window's left edge is not in it, and a rate is of other samples."""
    content = yaml.safe_load(file.read_text())
    step = seconds(content["evaluation_interval"])
    for test in content["tests"]:
        cases = [(case["alertname"], seconds(case["eval_time"]), case) for case in test["alert_rule_test"]]
        near = {(name, at): [max(0, at - step), at, at + step] for name, at, _ in cases}
        asked = sorted({(name, at) for (name, _), around in near.items() for at in around})
        found = fired(content, test, asked, file.parent, newer_promtool)
        for name, at, case in cases:
            seen = [labels(found[name, one]) for one in near[name, at]]
            assert labels(case["exp_alerts"]) in seen, (test["name"], name, case["eval_time"])


def labels(alerts: list[dict[str, Any]]) -> list[list[tuple[str, str]]]:
    """What tells alerts apart."""
    return sorted(sorted(alert["exp_labels"].items()) for alert in alerts)


@pytest.mark.parametrize("alert", NAMES)
def test_every_alert_has_a_case_where_it_fires_and_one_where_it_is_quiet(alert: str) -> None:
    found = cases(alert)
    assert all(case["alertname"] == alert for case in found)
    assert any(case["exp_alerts"] for case in found)
    assert any(not case["exp_alerts"] for case in found) or alert == WATCHDOG
    firing = [one for case in found for one in case["exp_alerts"]]
    for one in firing:
        assert {"owner", "severity"} <= set(one["exp_labels"])
        assert set(one["exp_annotations"]) == {"summary", "description", "dashboard_url", "runbook_url"}
        assert "<no value>" not in str(one)
        assert "error calling" not in str(one)


def test_every_alert_is_tested_where_no_series_is_there_at_all() -> None:
    found = yaml.safe_load((ALERTS / "tests/nothing_there.yaml").read_text())["tests"][0]["alert_rule_test"]
    assert [case["alertname"] for case in found] == NAMES
    fired = {case["alertname"] for case in found if case["exp_alerts"]}
    assert fired == {"CollectorDown", "LedgerDown", "ServiceNotScraped", WATCHDOG}
