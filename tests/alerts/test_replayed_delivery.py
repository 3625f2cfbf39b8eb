"""A recorded incident, from the series that Prometheus stored to the page that a webhook hears."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.alerts.prometheus import prometheus
from tests.alerts.recordings import read
from tests.alerts.replay import backfill
from tests.alerts.running import alerting
from tests.alerts.timeline import moved, until
from tests.alerts.tools import ALERTS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.alerts.tools import Tool

LONG_AGO = 20 * 60
"""Seconds since the broker went down, when Prometheus starts."""


def test_a_broker_that_went_down_is_one_page_to_who_runs_it_and_none_to_the_shop(
    prometheus_program: str, alertmanager_program: str, promtool: Tool, tmp_path: Path
) -> None:
    recorded = read("broker down")
    shown_until = moved(until(recorded, recorded.fault + LONG_AGO), int(time.time()) - recorded.fault - LONG_AGO)
    (tmp_path / "incident.om").write_text(shown_until.open_metrics())
    backfill(promtool, tmp_path, "openmetrics", tmp_path / "incident.om", tmp_path / "data")
    (tmp_path / "alertmanager").mkdir()
    config = ALERTS / "alertmanager.yaml"
    with (
        # All that has long fired comes at once, within the seconds that all groups of rules take.
        alerting(alertmanager_program, config, tmp_path / "alertmanager", group_wait="12s") as manager,
        prometheus(prometheus_program, tmp_path, {}, urlsplit(manager.url).netloc) as shown,
    ):
        shown.shows('ALERTS{alertname="PublishErrors",service_name="shop-api"}')
        (page,) = manager.notified("telemetry-page", alertname="BrokerUnreachable")
        (alert,) = page["alerts"]
        assert alert["labels"] == {"alertname": "BrokerUnreachable", "owner": "telemetry", "severity": "critical"}
        assert (
            "No replica of the ledger gets an answer on all queues. The last one was"
            in (alert["annotations"]["description"])
        )
        assert manager.notified("dead-mans-switch", alertname="Watchdog")
        assert manager.state(alertname="PublishErrors", service_name="shop-api") == "suppressed"
        assert not manager.seen("shop-page")
