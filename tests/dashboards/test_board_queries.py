"""What dashboards ask: PromQL that Prometheus parses, of metrics and labels that exist."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.alerts.test_rules import METRIC, exported, labels_of_readme
from tests.alerts.tools import RULES, rules
from tests.dashboards.boards import BOARDS, VARIABLE, Panel, asked, every_panel, panels

if TYPE_CHECKING:
    from pathlib import Path

    from tests.alerts.tools import Tool

RULE_LIST = rules(*RULES)
RECORDED = {rule["record"]: rule for rule in RULE_LIST if "record" in rule}
KNOWN = labels_of_readme()
SELECTOR = re.compile(r'(?<![\w:])([a-zA-Z_][\w:]*)\{((?:[^}"]|"[^"]*")*)\}')
PROMETHEUS_OWN = {"up", "ALERTS"}
OF_A_SCRAPE = {"job", "instance", "le", "env"}


def filled(expr: str) -> str:
    """A query with everything chosen that its variables may stand for."""
    numbers = {"growth": "100", "ledger_takes": "10000", "disk": "1e10", "__range": "6h"}

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        return numbers.get(name, ".*")

    return VARIABLE.sub(value, expr)


@pytest.mark.parametrize("name", [name for name in BOARDS if name != "order"])
def test_prometheus_parses_every_query(name: str, promtool: Tool, tmp_path: Path) -> None:
    exprs = [filled(expr) for panel in panels(BOARDS[name]) for expr in asked(panel)]
    assert exprs
    file = tmp_path / "rules.yaml"
    each = [{"record": f"query{place}", "expr": expr} for place, expr in enumerate(exprs)]
    file.write_text(yaml.safe_dump({"groups": [{"name": name, "rules": each}]}))
    assert f"{len(exprs)} rules found" in promtool("check", "rules", file)


@pytest.mark.parametrize("panel", every_panel())
def test_every_metric_that_is_asked_exists(panel: Panel) -> None:
    for expr in asked(panel):
        bare = re.sub(r'"[^"]*"', '""', expr)
        levels = set(re.findall(r"\b[a-z_]+:[a-z0-9_]+(?::[a-z0-9_]+)?", bare))
        assert levels <= RECORDED.keys()
        for level in levels:
            bare = bare.replace(level, "")
        found = set(METRIC.findall(bare)) - _labels(bare)
        assert found <= exported() | {"up"}, expr


def _labels(bare: str) -> set[str]:
    """The names in *bare* that stand where labels do."""
    grouped = re.findall(r"\b(?:by|on|group_left) \(([^)]*)\)", bare)
    matched = re.findall(r"(\w+)(?:=~|!=|!~|=)\"", bare)
    return {name.strip() for listed in grouped for name in listed.split(",")} | set(matched)


@pytest.mark.parametrize("panel", every_panel())
def test_every_label_that_a_query_selects_by_exists(panel: Panel) -> None:
    for expr in asked(panel):
        for metric, matchers in SELECTOR.findall(expr):
            labels = set(re.findall(r'(\w+)(?:=~|!=|!~|=)"', matchers))
            if metric in RECORDED:
                assert labels - {"env"} <= labels_of(metric), expr
            elif metric not in PROMETHEUS_OWN:
                own = KNOWN[re.sub("_(bucket|count|sum)$", "", metric)]
                assert labels <= own | OF_A_SCRAPE, expr


@cache
def labels_of(recorded: str) -> set[str]:
    """The labels of what is recorded: those that it is kept by, and those that its rules add."""
    found: set[str] = set()
    for rule in RULE_LIST:
        if rule.get("record") == recorded:
            by = re.match(r"\s*(?:30 \* |86400 \* )?(?:max|sum|quantile) by \(([^)]*)\)", rule["expr"])
            inner = [level for level in RECORDED if re.search(rf"(?<![\w:]){level}(?![\w:])", rule["expr"])]
            kept = {name.strip() for name in by[1].split(",")} if by else set().union(*map(labels_of, inner))
            found |= kept | set(rule.get("labels", {}))
    return found


def test_what_is_recorded_is_asked_by_a_dashboard_an_alert_or_another_rule() -> None:
    texts = [expr for board in BOARDS.values() for panel in panels(board) for expr in asked(panel)]
    texts += [str(rule) for rule in RULE_LIST if "alert" in rule]
    texts += [rule["expr"] for rule in RECORDED.values()]
    unread = {level for level in RECORDED if not any(re.search(rf"{level}(?![\w:])", text) for text in texts)}
    assert unread == set()


def test_a_quantile_is_never_averaged() -> None:
    for board in BOARDS.values():
        for expr in (expr for panel in panels(board) for expr in asked(panel)):
            assert not re.search(r"(avg|sum|max|min)\w*[^(]*\(\s*histogram_quantile", expr)
            assert "quantile(" not in expr or "by (" in expr
