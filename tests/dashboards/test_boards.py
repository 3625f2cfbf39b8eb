"""The dashboards as files: complete, linked to their alerts, laid out without overlaps, made of the lifecycle alone."""

from __future__ import annotations

import copy
import itertools
import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from otel_orders.generate import links
from otel_orders.generate.alerts import flat
from otel_orders.generate.dashboards.files import files
from otel_orders.lifecycle import parse_lifecycle
from tests.alerts.test_rules import ODD, SMALLEST
from tests.alerts.tools import REFERENCE
from tests.dashboards.boards import ALERTS, BOARDS, DASHBOARDS, Panel, every_panel, panels, used, variables
from tests.dashboards.typed import wrong

RUNBOOKS = "http://localhost/otel-orders/alerts/runbooks"
UIDS = {value for name, value in vars(links).items() if isinstance(value, str) and name.isupper() and "?" not in value}


def test_what_is_committed_is_what_the_reference_lifecycle_says_today() -> None:
    for name, text in files(REFERENCE, RUNBOOKS).items():
        assert (DASHBOARDS / name).read_text() == text, "run `otel-orders generate all --out .`"


def test_the_same_lifecycle_always_gives_the_same_text() -> None:
    assert files(parse_lifecycle(ODD), RUNBOOKS) == files(parse_lifecycle(ODD), RUNBOOKS)


@pytest.mark.parametrize("panel", every_panel())
def test_a_panel_is_a_question_with_a_unit_and_what_to_do(panel: Panel) -> None:
    assert panel["title"].endswith("?")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert len(panel["description"].split()) >= 10
    assert panel["targets"]


@pytest.mark.parametrize("panel", every_panel())
def test_a_panel_leads_to_its_alerts_and_their_runbooks(panel: Panel) -> None:
    links = {link["title"]: link["url"] for link in panel.get("links", ())}
    named = {title.partition(": ")[2] for title in links}
    assert named <= ALERTS
    for name in named:
        assert links[f"Runbook: {name}"] == f"{RUNBOOKS}/{name}.md"
        assert (DASHBOARDS.parent / "alerts/runbooks" / f"{name}.md").exists()
        assert links[f"Alert: {name}"] == f"/alerting/list?search=rule%3A{name}"


@pytest.mark.parametrize("name", BOARDS)
def test_ids_are_unique_and_no_two_panels_overlap(name: str) -> None:
    every = BOARDS[name]["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    cells = [cell for panel in every for cell in _cells(panel["gridPos"])]
    assert len(cells) == len(set(cells))
    assert all(x < 24 for x, _ in cells)


def _cells(at: dict[str, int]) -> list[tuple[int, int]]:
    across, down = range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])
    return list(itertools.product(across, down))


def test_uids_are_the_ones_that_links_know() -> None:
    assert {board["uid"] for board in BOARDS.values()} == UIDS


@pytest.mark.parametrize("name", BOARDS)
def test_every_variable_that_is_used_is_defined_and_every_defined_one_used(name: str) -> None:
    board = BOARDS[name]
    assert used(board) == set(variables(board))


@pytest.mark.parametrize("alert", flat(REFERENCE), ids=lambda alert: alert.name)
def test_an_alert_leads_to_a_dashboard_with_a_panel_on_it_and_fills_its_variables(alert: Any) -> None:
    uid, _, query = alert.dashboard.partition("?")
    (board,) = (board for board in BOARDS.values() if board["uid"] == uid)
    assert any(f"Alert: {alert.name}" == link["title"] for panel in panels(board) for link in panel.get("links", ()))
    assert {name.removeprefix("var-") for name in parse_qs(urlsplit(f"?{query}").query)} <= set(variables(board))


@pytest.mark.parametrize("name", BOARDS)
def test_grafanas_own_types_read_a_dashboard_and_write_the_same_again(name: str) -> None:
    register_default_plugins()
    read = Dashboard.from_json(BOARDS[name])
    assert json.loads(json.dumps(read, cls=JSONEncoder)) == BOARDS[name]


@pytest.mark.parametrize(
    "text",
    [SMALLEST, ODD, SMALLEST.replace("next: [DONE]", "terminal: true").replace("DONE: {", "DONE: {initial: true, ")],
    ids=["the smallest lifecycle", "names that need quoting", "no status to wait in"],
)
def test_any_lifecycle_has_dashboards_without_a_link_that_leads_nowhere(text: str) -> None:
    lifecycle = parse_lifecycle(text)
    known = {alert.name for alert in flat(lifecycle)}
    made = [json.loads(content) for name, content in files(lifecycle, RUNBOOKS).items() if name.endswith(".json")]
    assert {alert.dashboard.partition("?")[0] for alert in flat(lifecycle)} <= {board["uid"] for board in made}
    for board in made:
        assert used(board) <= set(variables(board))
        titles = {link["title"] for panel in panels(board) for link in panel.get("links", ())}
        assert {title.partition(": ")[2] for title in titles} <= known


@pytest.mark.parametrize("name", BOARDS)
def test_every_value_of_a_dashboard_is_of_the_type_that_grafana_declares(name: str) -> None:
    register_default_plugins()
    assert wrong(Dashboard.from_json(BOARDS[name]), Dashboard, name) == []


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("panels", 1, "gridPos", "w"), "wide"),
        (("panels", 1, "links"), {"title": "no list"}),
        (("panels", 1, "options", "rowHeight"), "tall"),
        (("panels", 1, "targets", 0, "expr"), 5),
        (("panels", 1, "fieldConfig", "defaults", "thresholds", "mode"), "someday"),
        (("time", "from"), None),
    ],
)
def test_a_value_of_another_type_is_found(place: tuple[Any, ...], value: object) -> None:
    register_default_plugins()
    board = copy.deepcopy(BOARDS["overview"])
    *way, last = place
    inner: Any = board
    for step in way:
        inner = inner[step]
    assert last in inner
    inner[last] = value
    try:
        found = wrong(Dashboard.from_json(board), Dashboard)
    except (TypeError, AttributeError):
        return
    assert found
