"""Every query of every panel, answered by a real Prometheus that holds incidents recorded from the real pipeline."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

import pytest

from tests.dashboards.boards import BOARDS, asked, panels
from tests.dashboards.picture.series import choices, filled

if TYPE_CHECKING:
    from tests.alerts.replay import Replay

OF_METRICS = [name for name in BOARDS if name != "order"]
CHOSEN = {"status": "SUBMITTED"}
NEVER = {
    "What is refused in 15 minutes, and why?": "no recorded partner used up its quota",
    "How many orders come in 30 days?": "needs days",
    "How many orders will the next 30 days bring, at least and at most?": "needs two weeks",
    "Does Prometheus evaluate our rules?": "alerts are not recorded",
    "Which share of the traces that it judged is kept?": "an agent is recorded, and judging is a gateway's",
    "Do messages arrive before they were sent?": "of messages, no recorded clock was that wrong",
    "What did the Collector lose in 10 minutes?": "a Collector that is down loses nothing",
    "What telemetry was lost in the last 10 minutes?": "a Collector that is away for an hour costs nothing yet",
}
"""Panels that need not show anything, whatever was recorded, and why."""
SELECTOR = re.compile(r'(?<![\w:])([a-zA-Z_][\w:]*)\{((?:[^}"]|"[^"]*")*)\}')
GROUPED = re.compile(r"\b(?:by|on) \(([^)]*)\)")


@pytest.mark.parametrize("name", OF_METRICS)
def test_no_query_fails_and_no_panel_is_empty_that_should_show_something(name: str, replay: Replay) -> None:
    board = BOARDS[name]
    empty = set()
    for panel in panels(board):
        answers = [replay.whole(filled(expr, choices(board, CHOSEN))) for expr in asked(panel)]
        assert not any(answer.get("warnings") for answer in answers), panel["title"]
        if answers and not any(answer["data"]["result"] for answer in answers):
            empty.add(panel["title"])
    assert empty <= NEVER.keys()


@pytest.mark.parametrize("name", OF_METRICS)
def test_every_label_that_a_panel_asks_for_is_on_a_recorded_series(name: str, replay: Replay) -> None:
    @cache
    def labels(metric: str) -> set[str]:
        series = replay.prometheus.ask("series", **{"match[]": metric, **replay.all_of_it})
        return {label for one in series for label in one}

    checked = 0
    for expr in (expr for panel in panels(BOARDS[name]) for expr in asked(panel)):
        for metric, matchers in SELECTOR.findall(expr):
            wanted = set(re.findall(r'(\w+)(?:=~|!=|!~|=)"', matchers)) - {"env"}
            if known := labels(metric):
                assert wanted <= known, expr
                checked += 1
        metrics = [metric for metric, _ in SELECTOR.findall(expr)]
        grouped = {label.strip() for listed in GROUPED.findall(expr) for label in listed.split(",")} - {"env", "le"}
        if metrics and all(map(labels, metrics)):
            assert grouped <= set().union(*map(labels, metrics)) | {"__name__"}, expr
    assert checked
