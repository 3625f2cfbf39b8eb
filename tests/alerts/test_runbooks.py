"""Each alert has a runbook that answers all questions, and what it tells on-call to type exists."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import yaml

from otel_orders.generate.runbooks import END, HEADINGS, framed, runbooks
from tests.alerts.test_alerts_fire import NAMES
from tests.alerts.test_rules import LABELS, METRIC, exported
from tests.alerts.tools import ALERTS, REFERENCE, RULES, rules

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.alerts.tools import Tool

FILES = sorted((ALERTS / "runbooks").glob("*.md"))
PROGRAMS = re.compile(
    r"(curl|rabbitmqctl|rabbitmq-diagnostics|rabbitmq-queues|otel-orders|otelcol-orders|df|dmesg|chronyc|openssl"
    r"|pg_isready|psql) "
)
"""Whose commands are not PromQL."""


def written(file: Path) -> str:
    return file.read_text().partition(END)[2]


def commands(file: Path) -> list[str]:
    return re.findall(r"^   `(.+)`$", written(file), re.MULTILINE)


def queries() -> list[str]:
    """Every query of every runbook."""
    confirm = [found for file in FILES for found in re.findall(r"```promql\n(.+?)\n```", written(file), re.DOTALL)]
    typed = [command.partition("   #")[0] for file in FILES for command in commands(file)]
    return confirm + [command for command in typed if not PROGRAMS.match(command)]


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    assert [file.stem for file in FILES] == NAMES
    linked = {rule["annotations"]["runbook_url"].rpartition("/")[2] for rule in rules(*RULES) if "alert" in rule}
    assert linked == {file.name for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_runbook_answers_every_question_in_order_below_its_frame(file: Path) -> None:
    text = written(file)
    assert tuple(re.findall(r"^## (.+)$", text, re.MULTILINE)) == HEADINGS
    answers = re.split(r"^## .+$", text, flags=re.MULTILINE)[1:]
    assert all(len(answer.strip()) >= len("Nothing yet.") for answer in answers)
    assert "not written yet" not in text
    assert text.count("```promql") == 1
    assert len(commands(file)) == len(re.findall(r"^\d\. ", text, re.MULTILINE)) >= 2


def test_the_frames_are_what_the_reference_lifecycle_says_today() -> None:
    for name, frame in runbooks(REFERENCE).items():
        there = (ALERTS / name).read_text()
        assert framed(frame, there) == there


def test_a_runbook_that_is_not_there_asks_all_questions() -> None:
    text = framed("a frame\n", None)
    assert tuple(re.findall(r"^## (.+)$", text, re.MULTILINE)) == HEADINGS


def test_prometheus_understands_every_query(promtool: Tool, tmp_path: Path) -> None:
    assert len(queries()) > len(FILES)
    listed = [{"record": f"query:{number}:x", "expr": query} for number, query in enumerate(queries())]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": listed}]}))
    promtool("check", "rules", file)


def test_every_metric_of_ours_in_a_query_exists() -> None:
    recorded = {rule["record"] for rule in rules(*RULES) if "record" in rule}
    for query in queries():
        plain = re.sub(r'"[^"]*"', '""', query)
        assert set(re.findall(r"[a-z_]+:[a-z_0-9]+:[a-z0-9_]+", plain)) <= recorded, query
        for name in recorded:
            plain = plain.replace(name, "")
        found = {name for name in METRIC.findall(plain) if not name.startswith("otelcol_")}
        assert found - LABELS <= exported(), query


def test_every_command_of_ours_exists_with_its_options(run: Callable[..., tuple[int, str, str]]) -> None:
    ours = {command for file in FILES for command in re.findall(r"`(otel-orders .+?)`", written(file))}
    assert ours
    for command in ours:
        words = command.partition("   #")[0].split()[1:]
        names = [word for word in words[:2] if re.fullmatch(r"[a-z]+", word)]
        code, text, _ = run(*names, "--help")
        assert code == 0, command
        assert {word for word in words if word.startswith("--")} <= set(re.findall(r"--[a-z-]+", text)), command
