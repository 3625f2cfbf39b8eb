"""Every rule, and every panel, asked of a real Prometheus that holds all recorded incidents."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.alerts.tools import RULES, rules

if TYPE_CHECKING:
    from tests.alerts.replay import Replay

ALL = rules(*RULES)
MATCHED = re.compile(r'(?<![:\w])(\w+)\{((?:[^}"]|"[^"]*")+)\}')
NEVER_RECORDED = {
    "env:orders_created:increase1h_usual": "needs a week",
    "env:orders_created_daily:slope8w": "needs days",
    "env:orders_created_next30d:forecast": "needs days",
    "env:orders_created_next30d:error": "needs days",
}
"""What no recording can show, and why."""


@pytest.mark.parametrize("rule", ALL, ids=lambda rule: str(rule.get("record") or rule["alert"]))
def test_prometheus_answers_every_rule_without_an_error_or_a_warning(rule: dict[str, str], replay: Replay) -> None:
    answer = replay.whole(rule["expr"])
    assert not answer.get("warnings")


def test_every_recorded_series_is_there_in_an_incident(replay: Replay) -> None:
    wanted = {rule["record"] for rule in ALL if "record" in rule}
    there = set(replay.prometheus.ask("label/__name__/values"))
    assert wanted - there == set(NEVER_RECORDED)


def test_every_label_that_a_rule_selects_by_is_on_a_recorded_series(replay: Replay) -> None:
    selected = {(name, matchers) for rule in ALL for name, matchers in MATCHED.findall(rule["expr"])}
    assert len(selected) > len(RULES)
    for name, matchers in sorted(selected):
        series = replay.prometheus.ask("series", **{"match[]": name, **replay.all_of_it})
        labels = {label for one in series for label in one}
        asked = set(re.findall(r'(\w+)(?:=~|!=|!~|=)"', matchers))
        assert not series or asked <= labels, name
