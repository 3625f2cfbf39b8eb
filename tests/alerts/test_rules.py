"""The rule files: accepted by Prometheus, up to date, and made of metrics that exist."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import yaml

from otel_orders import names
from otel_orders.generate import alerts, rules
from otel_orders.lifecycle import parse_lifecycle
from tests.alerts.tools import ALERTS, REFERENCE, ROOT, RULES
from tests.alerts.tools import rules as rules_of
from tests.promised import README

if TYPE_CHECKING:
    from pathlib import Path

    from tests.alerts.tools import Tool

METRIC = re.compile(r"\b(?:orders?_[a-z_]+|otel_orders_[a-z_]+|messaging_[a-z_]+|http_[a-z_]+|otelcol_[a-z_]+)")
LABELS = {
    *(
        "order_id",
        "otel_orders",
        "http_response_status_code",
        "messaging_destination_name",
        "http_request_method",
        "http_route",
    ),
}
SMALLEST = """
version: 1
statuses:
  NEW: {owner: shop, initial: true, next: [DONE]}
  DONE: {owner: shop, terminal: true}
owners: {shop: {services: [shop-api], heartbeat: none}}
"""
ODD = """
version: 1
statuses:
  NEW: {owner: "the shop", initial: true, next: [DONE], stuck_after: 2h, stalled_after: 1h}
  DONE: {owner: "the shop", terminal: true}
owners: {"the shop": {services: ['shop "1"', "a.b+c\\\\d"]}}
slas: {"a promise": {from: NEW, to: DONE, within: 90s, objective: 0.5}}
queues:
  'q."{{x"\\y': {status: NEW, consumer: 'shop "1"', oldest_after: 90s, track: true}
  one: {status: NEW, consumer: 'shop "1"', oldest_after: 10m}
  other: {status: NEW, consumer: 'shop "1"', oldest_after: 10m}
"""


def everything(text: str) -> dict[str, str]:
    """All rule files of a lifecycle."""
    lifecycle = parse_lifecycle(text)
    return alerts.alerting(lifecycle, "http://grafana", "http://runbooks") | {rules.FILE: rules.recording(lifecycle)}


def exported() -> set[str]:
    """Every metric of ours and of the Collector that a rule may use, as its time series are named."""
    ours = {value for value in vars(names).values() if isinstance(value, str)}
    ours |= set(re.findall(r"`(otel_orders_ledger_[a-z_]+)", README))
    parts = {f"{name}{part}" for name in ours if name.endswith("_seconds") for part in ("_bucket", "_sum", "_count")}
    return ours | parts


@pytest.mark.parametrize("file", RULES, ids=lambda file: file.name)
def test_prometheus_accepts_the_rules_and_finds_no_duplicate(file: Path, promtool: Tool) -> None:
    assert "SUCCESS" in promtool("check", "rules", "--lint-fatal", file)


@pytest.mark.parametrize("text", [SMALLEST, ODD], ids=["the smallest lifecycle", "names that need quoting"])
def test_prometheus_accepts_the_rules_of_any_lifecycle(text: str, promtool: Tool, tmp_path: Path) -> None:
    for name, content in everything(text).items():
        file = tmp_path / name.replace("/", "-")
        file.write_text(content)
        promtool("check", "rules", "--lint-fatal", file)


def test_a_metric_is_not_missed_where_the_lifecycle_gives_the_ledger_none_of_it() -> None:
    of_ledger = everything(SMALLEST)["rules/ledger.yaml"]
    assert '"metric", "order_stuck_after_seconds"' not in of_ledger
    assert '"metric", "orders_stuck"' in of_ledger
    assert '"metric", "order_stuck_after_seconds"' in everything(ODD)["rules/ledger.yaml"]


def test_a_limit_below_a_second_is_none_of_nothing() -> None:
    assert "vector(0.5)" in everything(ODD.replace("within: 90s", "within: 500ms"))[rules.FILE]


def test_a_ledger_with_a_new_address_twice_in_an_hour_loses_no_orders(promtool: Tool, tmp_path: Path) -> None:
    series = {"l0": "0+1x80", "l1": "_x81 81+1x19 stale", "l2": "_x102 102+1x60"}
    of_ledgers = [
        {"series": f'orders_reached_total{{env="prod",status="INITIATED",instance="{one}"}}', "values": values}
        for one, values in series.items()
    ]
    owner = '{env="prod",owner="shop"}'
    hour = {"expr": "env:orders_created:increase1h", "eval_time": "120m"}
    hour["exp_samples"] = [{"labels": f"env:orders_created:increase1h{owner}", "value": 60}]  # type: ignore[assignment]
    test = {"interval": "1m", "input_series": of_ledgers, "promql_expr_test": [hour]}
    recording = str(ALERTS / "rules/recording.yaml")
    asking = tmp_path / "test.yaml"
    asking.write_text(yaml.safe_dump({"rule_files": [recording], "evaluation_interval": "1m", "tests": [test]}))
    promtool("test", "rules", asking)


def test_the_same_lifecycle_always_gives_the_same_text() -> None:
    assert everything(ODD) == everything(ODD)


def test_every_metric_in_a_rule_exists() -> None:
    recorded = {rule["record"] for rule in rules_of(*RULES) if "record" in rule}
    for rule in rules_of(*RULES):
        expr = rule["expr"]
        for name in recorded:
            expr = expr.replace(name, "")
        assert not re.search(r"[a-z_]:[a-z_]+:", re.sub(r'"[^"]*"', "", expr)), expr  # what is not recorded
        found = set(METRIC.findall(re.sub(r'"[^"]*"', '""', expr))) - LABELS
        unknown = {name for name in found - exported() if not name.startswith("otelcol_")}
        assert not unknown, rule


def labels_of_readme() -> dict[str, set[str]]:
    """The labels of each metric, as the README's tables have them; other tests hold those to what is exported."""
    cells = [line.split(" | ")[0] for line in README.splitlines() if line.startswith("| `")]
    named = [found for cell in cells for found in re.findall(r"`(\w+)(?:\{([\w,]+)\})?`", cell)]
    return {name: set(filter(None, labels.split(","))) for name, labels in named}


def test_every_label_that_a_rule_asks_for_exists() -> None:
    known = labels_of_readme()
    selected = []
    for rule in rules_of(*RULES):
        selected += re.findall(r'(?<![:\w])(\w+)\{((?:[^}"]|"[^"]*")+)\}', rule["expr"])
    ours = [(re.sub("_(bucket|count|sum)$", "", name), matchers) for name, matchers in selected]
    checked = [(name, matchers) for name, matchers in ours if name in known]
    assert len(checked) > len(RULES)
    for name, matchers in checked:
        labels = set(re.findall(r'(\w+)(?:=~|!=|!~|=)"', matchers))
        assert labels <= known[name] | {"job", "instance", "le"}, name
    assert {name for name, _ in ours} - set(known) <= {"up"}


def test_what_is_recorded_is_read_or_meant_for_dashboards_only() -> None:
    """A rule that names what nobody records would be silent for ever."""
    recorded = {rule["record"] for rule in rules_of(*RULES) if "record" in rule}
    texts = [str(rule) for rule in rules_of(*RULES) if "alert" in rule]
    asked = {name for text in texts for name in re.findall(r"[a-z_]+:[a-z_]+:[a-z0-9_]+", text)}
    asked |= {name for text in texts for name in re.findall(r"(?:queue|sla):order_[a-z_]+_seconds\b(?!:)", text)}
    assert asked
    assert asked <= recorded


@pytest.mark.parametrize("rule", rules_of(ALERTS / "rules/recording.yaml"), ids=lambda rule: str(rule["record"]))
def test_no_label_of_a_scrape_survives_recording(rule: dict[str, str]) -> None:
    """Neither `without`, which keeps what it does not know, nor a quantile, which nobody may average."""
    assert "without" not in rule["expr"]
    assert not re.search(r"histogram_quantile|\bavg\b", rule["expr"])
    inner = re.findall(r"\b(?:by|on) \(([^)]*)\)", rule["expr"])
    labels = {label.strip() for listed in inner for label in listed.split(",")}
    assert not labels & {"instance", "pod", "endpoint", "namespace", "service", "container", "job"}


def test_every_alert_says_whose_it_is_how_bad_and_where_to_look() -> None:
    owned = {rule["record"] for rule in rules_of(*RULES) if "record" in rule and "owner" in rule.get("labels", {})}
    for rule in rules_of(*RULES):
        if "alert" not in rule:
            continue
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert set(rule["annotations"]) == {"summary", "description", "dashboard_url", "runbook_url"}
        assert rule["annotations"]["runbook_url"].endswith(f"/{rule['alert']}.md")
        assert "for" in rule
        assert "keep_firing_for" in rule
        of_series = any(name in rule["expr"] for name in owned) or "sla:" in rule["expr"]
        assert "owner" in rule["labels"] or of_series, rule["alert"]


def test_what_is_committed_is_what_the_reference_lifecycle_says_today() -> None:
    grafana, runbooks = "http://localhost:3000", "http://localhost/otel-orders/alerts/runbooks"
    wanted = alerts.alerting(REFERENCE, grafana, runbooks) | {rules.FILE: rules.recording(REFERENCE)}
    for name, text in wanted.items():
        assert (ALERTS / name).read_text() == text, f"run `otel-orders generate all --out {ROOT}`"
    assert {f"rules/{file.name}" for file in RULES} == set(wanted)
    assert yaml.safe_load(text)
