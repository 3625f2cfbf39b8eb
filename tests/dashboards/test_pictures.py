"""The pictures of the dashboards: of today's panels, and honest about what they are."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

from tests.dashboards.boards import BOARDS, DASHBOARDS, Panel, panels
from tests.dashboards.picture.plotter import Shown, drawn
from tests.dashboards.picture.readme import ORDER, readme
from tests.dashboards.picture.series import Series, answers, choices, filled

if TYPE_CHECKING:
    from collections.abc import Callable

CHOSEN = {"status": "SUBMITTED"}
NOT_GRAFANA = "Drawn by our own plotter: this is not Grafana."


def words(svg: str) -> str:
    """All text of a picture; a title may stand on several lines."""
    root = ET.fromstring(svg)  # noqa: S314 - our own
    return " ".join(filter(None, (element.text for element in root.iter("{http://www.w3.org/2000/svg}text"))))


def nothing(_panel: Panel) -> list[Any]:
    return []


def shown(name: str, series: Callable[[Panel], list[Series]] = nothing) -> str:
    """A picture, of which only the series of Prometheus matter."""
    return drawn(BOARDS[name], Shown("A test.", (0, 60), choices(BOARDS[name], CHOSEN), series, nothing))


@pytest.mark.parametrize("name", BOARDS)
def test_a_committed_picture_has_every_title_of_today_and_says_that_it_is_not_grafana(name: str) -> None:
    seen = words((DASHBOARDS / "pictures" / f"{name}.svg").read_text())
    assert NOT_GRAFANA in seen
    for panel in panels(BOARDS[name]):
        assert filled(panel["title"], choices(BOARDS[name], CHOSEN)) in seen, "python -m tests.dashboards.picture"


def test_the_readme_shows_each_dashboard_with_its_questions_of_today() -> None:
    text = (DASHBOARDS / "README.md").read_text()
    assert text == readme(BOARDS), "python -m tests.dashboards.picture"
    assert set(re.findall(r"\]\(pictures/(\w+)\.svg\)", text)) == set(BOARDS) == set(ORDER)


@pytest.mark.parametrize("name", BOARDS)
def test_a_layout_can_be_drawn_without_any_data(name: str) -> None:
    assert BOARDS[name]["title"] in words(shown(name))


def ask(query: str) -> list[dict[str, object]]:
    """A Prometheus that knows one service, and that the ledger stopped before the end."""
    if "swept" in query:
        return [{"metric": {}, "values": [[0, "30"]]}]
    named = {"service_name": "mes-api"} if "service_name" in query else {}
    return [{"metric": named, "values": [[0, "30"], [60, "90"]]}]


def test_a_value_is_drawn_with_its_name_and_unit_and_what_had_ended_before_is_not() -> None:
    (panel,) = (panel for panel in panels(BOARDS["overview"]) if panel["title"] == "How old is what I see here?")
    seen = words(shown("overview", lambda one: answers(one, ask, {}, end=60) if one is panel else []))
    assert "mes-api 1.5 min" in seen
    assert "its look at the queues 1.5 min" in seen
    assert "the ledger's timers" not in seen


def test_what_is_no_number_is_left_out() -> None:
    panel = {"targets": [{"expr": "x", "datasource": {"type": "prometheus"}}]}
    values = [[0, "NaN"], [60, "+Inf"], [120, "3"]]
    (found,) = answers(panel, lambda _: [{"metric": {"a": "b"}, "values": values}], {}, end=120)
    assert (found.name, found.points) == ("b", [(120.0, 3.0)])
