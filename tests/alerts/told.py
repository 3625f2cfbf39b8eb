"""What of an incident reaches people: what fires, less what a real Alertmanager silences because its cause fires."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import yaml

from tests.alerts.running import alerting
from tests.alerts.tools import ALERTS

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.alerts.running import Alertmanager

Labels = frozenset[tuple[str, str]]
_WHERE = ("queue", "status", "service_name", "sla", "partner", "sink")
Timeline = dict[int, frozenset[Labels]]


class Notice(NamedTuple):
    """An alert that people are told of.  after: minutes since the fault; lasts: minutes in which it is told."""

    alertname: str
    severity: str
    where: str
    after: float
    lasts: int

    @property
    def pages(self) -> bool:
        return self.severity == "critical"


def own_alertmanager(program: str, folder: Path) -> AbstractContextManager[Alertmanager]:
    """Run one that tells incidents apart by their `env`.

    Of what is absent nobody knows the env, so it silences others in all; here each incident must be left its own.
    """
    config = yaml.safe_load((ALERTS / "alertmanager.yaml").read_text())
    for rule in config["inhibit_rules"]:
        rule.setdefault("equal", ["env"])
    (folder / "committed.yaml").write_text(yaml.safe_dump(config))
    return alerting(program, folder / "committed.yaml", folder)


def unsilenced(timeline: Timeline, manager: Alertmanager, incident: str) -> Timeline:
    """Return what of each minute's alerts is told."""
    told: dict[frozenset[Labels], frozenset[Labels]] = {}
    for number, firing in enumerate(set(timeline.values())):
        env = f"{incident}, {number}"
        for labels in firing:
            manager.post(dict(labels) | {"env": env})
        active = {
            frozenset(alert["labels"].items()) - {("env", env)}
            for alert in manager.alerts(env=env)
            if alert["status"]["state"] == "active"
        }
        told[firing] = firing & active
    return {minute: told[firing] for minute, firing in timeline.items()}


def notices(told: Timeline, fault: float) -> list[Notice]:
    """Return who is told of what, in the order of time.  fault: when it began, in minutes."""
    minutes: dict[tuple[str, str, str], set[int]] = {}
    for minute, firing in told.items():
        for labels in firing:
            minutes.setdefault(_about(dict(labels)), set()).add(minute)
    found = [Notice(*about, round(min(when) - fault, 1), len(when)) for about, when in minutes.items()]
    return sorted(found, key=lambda one: (one.after, one.alertname, one.where))


def _about(labels: dict[str, str]) -> tuple[str, str, str]:
    where = " ".join(labels[name] for name in _WHERE if name in labels)
    return labels["alertname"], labels["severity"], where
