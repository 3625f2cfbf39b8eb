"""Recorded from real runs: in each incident its page comes, in time, and no other one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.alerts.incident_table import README, TABLE, Outcome, outcome, table
from tests.alerts.recording.faults import INCIDENTS
from tests.alerts.recordings import Recorded, names, read, runs, values_of
from tests.alerts.timeline import ended, moved
from tests.alerts.told import own_alertmanager
from tests.alerts.tools import ROOT

if TYPE_CHECKING:
    from tests.alerts.tools import Tool


class Page(NamedTuple):
    """A page that must come, at most so many minutes after the fault; where: the labels that say what it is about."""

    alertname: str
    where: str
    within: float


PRICING = "pricing.requests SUBMITTED"
PAGES: dict[str, list[Page]] = {
    "a normal day": [],
    # The order itself is stuck after an hour, which is 24 in the reference lifecycle.
    "one lost message": [Page("MessagesGone", "pricing.requests", 9), Page("OrderStuck", "SUBMITTED", 65)],
    "dead pricing consumer": [Page("QueueWithoutConsumers", PRICING, 4)],
    "slow pricing": [Page("WorkSlow", f"{PRICING} pricing-worker", 16)],
    "broker down": [Page("BrokerUnreachable", "", 5)],
    "CRM down": [
        Page("QueueWithoutConsumers", "crm.priced PRICE_CALCULATED", 5),
        Page("QueueWithoutConsumers", "crm.shipped SHIPPED", 5),
    ],
    # It is a message: five times as many orders as usual are more than enough to be told, and the pipeline copes.
    "partner flood": [],
    # When the broker gives it up, after 20 times; that it comes again and again is a message before.
    "poison message loop": [Page("MessagesGone", "pricing.requests", 25)],
    # A message: what is shown is wrong by two minutes, and orders move.
    "clock skew of one service": [],
    "Collector dead": [Page("CollectorDown", "", 3)],
    "ledger restart": [],
}
"""All pages of each incident; what is told as a message, in working hours, is in the table of alerts/README.md."""


@pytest.fixture(scope="session")
def outcomes(promtool: Tool, alertmanager_program: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    folder = tmp_path_factory.mktemp("incidents")
    with own_alertmanager(alertmanager_program, folder) as manager:
        return {name: outcome(read(name), promtool, manager, folder) for name in names()}


@pytest.mark.parametrize("name", PAGES)
def test_an_incident_pages_with_its_cause_in_time_and_with_nothing_else(
    name: str, outcomes: dict[str, Outcome]
) -> None:
    pages = outcomes[name].pages
    assert [(page.alertname, page.where) for page in pages] == [(page.alertname, page.where) for page in PAGES[name]]
    for came, wanted in zip(pages, PAGES[name], strict=True):
        assert 0 <= came.after <= wanted.within, came


def test_every_incident_was_recorded_and_is_judged() -> None:
    assert set(names()) == {incident.name for incident in INCIDENTS} == set(PAGES)


def test_the_table_says_what_the_recordings_show(outcomes: dict[str, Outcome]) -> None:
    (written,) = TABLE.findall(README.read_text())
    assert written == table([*outcomes.values()]), "run `python -m tests.alerts.incident_table --write`, and read it"


@pytest.mark.parametrize("incident", INCIDENTS, ids=lambda incident: incident.name)
def test_what_was_written_otherwise_in_a_recordings_lifecycle_is_still_in_the_reference(incident: object) -> None:
    reference = (ROOT / "examples/order_pipeline/lifecycle.yaml").read_text()
    for there, _ in incident.lifecycle:  # type: ignore[attr-defined]
        assert there in reference


RECORDED = Recorded(
    *("a test", 1_000_000, 30, 6, 60, 120, 30.0, []),
    {
        'up{instance="a",job="x"}': {0: "1", 1: "1", 3: "1", 4: "0", 5: "1"},
        'x_total{instance="a",job="x"}': {0: "7", 1: "7", 5: "1"},
        'x_timestamp_seconds{instance="a",job="x"}': {0: "1000000", 1: "1000015.5"},
    },
)


def test_what_is_written_scrape_by_scrape_is_read_as_it_was() -> None:
    values = {0: "0", 1: "0", 2: "1.5", 5: "-2"}
    assert runs(values, 7) == "0x1 1.5 _x2 -2 _x1"
    assert values_of(runs(values, 7)) == values


def test_an_incident_that_is_moved_takes_the_times_with_it_that_are_values() -> None:
    there = moved(RECORDED, 0)
    assert there.began == 0
    assert there.series['x_timestamp_seconds{instance="a",job="x"}'] == {0: "0", 1: "15.5"}
    assert there.series['x_total{instance="a",job="x"}'] == {0: "7", 1: "7", 5: "1"}


def test_a_series_ends_where_its_page_no_longer_has_it_and_not_where_nobody_looked() -> None:
    marked = ended(RECORDED)
    assert marked.series['x_total{instance="a",job="x"}'] == {0: "7", 1: "7", 3: "stale", 5: "1"}
    assert marked.series['up{instance="a",job="x"}'] == {0: "1", 1: "1", 3: "1", 4: "0", 5: "1"}
