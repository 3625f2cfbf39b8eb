"""In each incident only its cause is told: what fires is asked of Prometheus' rules, what is told of Alertmanager."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.alerts.incidents import INCIDENTS, Incident, Labels, Series, healthy
from tests.alerts.running import alerting
from tests.alerts.tools import ALERTS, RULES, rules

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.alerts.running import Alertmanager
    from tests.alerts.tools import Tool

ALERTING = [rule for rule in rules(*RULES) if "alert" in rule]
FIRING = "count by (alertname, status, queue, owner) (ALERTS{alertstate='firing',alertname!='Watchdog'})"


def shown(incident: Incident) -> Series:
    """A healthy pipeline's series with those of the incident in place of, or beside, them."""
    found = healthy()
    for beginning, values in incident.changed.items():
        others = [series for series in found if series.startswith(beginning)]
        found |= dict.fromkeys(others or [beginning], values)
    return found


def unit_test(incident: Incident) -> dict[str, Any]:
    groups = [group["name"] for file in sorted_rules() for group in yaml.safe_load(file.read_text())["groups"]]
    wanted = [
        {"labels": "{" + ",".join(f"{name}={json.dumps(value)}" for name, value in labels.items()) + "}", "value": 1}
        for labels in (*incident.told, *incident.silenced)
    ]
    asked = {"expr": FIRING, "eval_time": f"{incident.minute}m", "exp_samples": wanted}
    series = [{"series": name, "values": values} for name, values in shown(incident).items()]
    return {
        "rule_files": [str(file) for file in sorted_rules()],
        "evaluation_interval": "1m",
        "group_eval_order": groups,
        "tests": [{"interval": "1m", "input_series": series, "promql_expr_test": [asked]}],
    }


def sorted_rules() -> list[Path]:
    """The rule files, what is recorded first."""
    return sorted(RULES, key=lambda file: file.name != "recording.yaml")


@pytest.fixture(scope="module")
def manager(alertmanager_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alertmanager]:
    with alerting(alertmanager_program, ALERTS / "alertmanager.yaml", tmp_path_factory.mktemp("alertmanager")) as found:
        yield found


@pytest.mark.parametrize("incident", INCIDENTS, ids=lambda incident: incident.name)
def test_these_alerts_fire_in_an_incident_and_no_other(incident: Incident, promtool: Tool, tmp_path: Path) -> None:
    file = tmp_path / "incident.yaml"
    file.write_text(yaml.safe_dump(unit_test(incident)))
    promtool("test", "rules", file)


@pytest.mark.parametrize("incident", INCIDENTS, ids=lambda incident: incident.name)
def test_only_the_cause_of_an_incident_is_told(incident: Incident, manager: Alertmanager) -> None:
    told, silenced = ([whole(labels, incident) for labels in listed] for listed in (incident.told, incident.silenced))
    for labels in (*told, *silenced):
        manager.post(labels)
    for expected, listed in (("active", told), ("suppressed", silenced)):
        for labels in listed:
            assert manager.state(**labels) == expected, labels


def whole(labels: Labels, incident: Incident) -> Labels:
    """The labels of an alert with those that its rule gives it, in an environment of the incident's own."""
    (severity,) = {rule["labels"]["severity"] for rule in ALERTING if rule["alert"] == labels["alertname"]}
    promise = {"sla": "price_in_5_minutes"} if labels["alertname"].startswith("Promise") else {}
    return labels | promise | {"severity": severity, "env": incident.name}
