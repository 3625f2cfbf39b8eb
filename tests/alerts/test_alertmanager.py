"""Whom each alert reaches, and what is silent while its cause is told: asked of amtool, and of a real Alertmanager."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from otel_orders.generate.alertmanager import CAUSES, DELAYS, alertmanager
from otel_orders.generate.owners import TELEMETRY
from otel_orders.lifecycle import parse_lifecycle
from tests.alerts.running import alerting
from tests.alerts.test_rules import ODD, SMALLEST
from tests.alerts.tools import ALERTS, REFERENCE, RULES, rules

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.alerts.running import Alertmanager
    from tests.alerts.tools import Tool

CONFIG = ALERTS / "alertmanager.yaml"
ANY_OWNER = "mes"
Labels = dict[str, str]


def labels_of(rule: dict[str, Any]) -> Labels:
    """The labels that decide where an alert goes; where its series bring the owner, one of them."""
    found: Labels = {"alertname": rule["alert"], "owner": ANY_OWNER} | rule["labels"]
    return found | ({"status": "SUBMITTED"} if re.search(r"\bstatus:|queue:|sla:", rule["expr"]) else {})


ROUTED = {json.dumps(labels_of(rule), sort_keys=True): labels_of(rule) for rule in rules(*RULES) if "alert" in rule}


def receivers(amtool: Tool, labels: Labels, config: Path = CONFIG) -> list[str]:
    pairs = [f"{name}={value}" for name, value in labels.items()]
    said = amtool("config", "routes", "test", f"--config.file={config}", *pairs)
    return said.splitlines()[-1].split(",")


def test_the_committed_config_is_accepted_and_up_to_date(amtool: Tool) -> None:
    assert "SUCCESS" in amtool("check-config", CONFIG)
    at = "http://localhost:8080"
    assert CONFIG.read_text() == alertmanager(REFERENCE, f"{at}/partner-delays", f"{at}/dead-mans-switch")


@pytest.mark.parametrize("text", [SMALLEST, ODD], ids=["the smallest lifecycle", "names that need quoting"])
def test_the_config_of_any_lifecycle_is_accepted(text: str, amtool: Tool, tmp_path: Path) -> None:
    config = tmp_path / "alertmanager.yaml"
    config.write_text(alertmanager(parse_lifecycle(text), "http://localhost/", "http://localhost/"))
    amtool("check-config", config)


@pytest.mark.parametrize("labels", ROUTED.values(), ids=lambda labels: f"{labels['alertname']}-{labels['owner']}")
def test_every_alert_reaches_its_owner_and_a_page_is_escalated(labels: Labels, amtool: Tool) -> None:
    if labels.get("notify") == "partner":
        wanted = ["partner-delays"]
    elif labels["alertname"] == "Watchdog":
        wanted = ["dead-mans-switch"]
    elif labels["severity"] == "critical":
        wanted = ["escalation", f"{labels['owner']}-page"]
    else:
        wanted = [f"{labels['owner']}-message"]
    assert receivers(amtool, labels) == wanted


def test_an_alert_of_nobody_we_know_reaches_who_runs_the_telemetry(amtool: Tool) -> None:
    assert receivers(amtool, {"alertname": "X", "severity": "warning"}) == [f"{TELEMETRY}-message"]


def test_a_page_of_nobody_we_know_calls_who_runs_the_telemetry(amtool: Tool) -> None:
    wanted = ["escalation", f"{TELEMETRY}-page"]
    assert receivers(amtool, {"alertname": "X", "severity": "critical", "owner": "gone"}) == wanted


def test_what_a_lifecycle_calls_its_owners_is_no_template_and_no_path() -> None:
    text = SMALLEST.replace("owner: shop", "owner: ../x").replace("{shop: {", '{"../x": {contact: "#{{x", ')
    config = yaml.safe_load(alertmanager(parse_lifecycle(text), "http://localhost/", "http://localhost/"))
    of_owner = {one["name"]: one for one in config["receivers"] if one["name"].startswith("../x")}
    (page,), (message,) = of_owner["../x-page"]["pagerduty_configs"], of_owner["../x-message"]["slack_configs"]
    assert page["routing_key_file"] == "/etc/alertmanager/secrets/pagerduty-..%2Fx"
    assert message["channel"] == '#{{ "{{" }}x'


def test_no_secret_is_in_the_config() -> None:
    for receiver in yaml.safe_load(CONFIG.read_text())["receivers"]:
        for kind, configs in receiver.items():
            keys = {key for one in configs for key in one} if kind != "name" else set()
            assert not keys & {"api_url", "routing_key", "service_key", "password", "bearer_token"}


def test_warnings_come_in_the_hours_of_the_calendar_and_pages_at_any_time() -> None:
    config = yaml.safe_load(CONFIG.read_text())
    (interval,) = config["time_intervals"]
    assert interval["time_intervals"] == [
        {
            "weekdays": ["monday", "tuesday", "wednesday", "thursday", "friday"],
            "times": [{"start_time": "09:00", "end_time": "18:00"}],
            "location": "Europe/Moscow",
        }
    ]
    of_owners = [route for route in config["route"]["routes"] if "routes" in route]
    assert len(of_owners) == len(REFERENCE.owners) + 1
    for route in of_owners:
        timed = [child["matchers"] for child in route["routes"] if "active_time_intervals" in child]
        assert timed == [['severity!="critical"']]


def test_no_two_alerts_silence_each_other_and_all_of_them_exist() -> None:
    names = {rule["alert"] for rule in rules(*RULES) if "alert" in rule}
    for cause, effects in CAUSES.items():
        assert {cause, *effects} <= names
        assert not any(cause in CAUSES.get(effect, ()) for effect in effects)


@pytest.fixture(scope="module")
def running(alertmanager_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alertmanager]:
    """A real Alertmanager with our config, every receiver of which is one webhook; its waits are seconds."""
    with alerting(alertmanager_program, CONFIG, tmp_path_factory.mktemp("alertmanager")) as found:
        yield found


@pytest.mark.parametrize(("cause", "effect"), [(c, e) for c, effects in CAUSES.items() for e in effects])
def test_only_the_cause_is_told_in_the_same_status(cause: str, effect: str, running: Alertmanager) -> None:
    env = {"env": f"{cause}-{effect}", "owner": "mes"}
    running.post({"alertname": cause, "status": "SUBMITTED", "severity": "critical"} | env)
    running.post({"alertname": effect, "status": "SUBMITTED", "severity": "critical"} | env)
    running.post({"alertname": effect, "status": "PACKAGING", "severity": "critical"} | env)
    assert running.states(**env) == {
        (cause, "SUBMITTED"): "active",
        (effect, "SUBMITTED"): "suppressed",
        (effect, "PACKAGING"): "active",
    }


def test_a_queue_that_is_not_the_stages_own_silences_nothing(running: Alertmanager) -> None:
    env = {"env": "not its own", "status": "SHIPPED"}
    running.post({"alertname": "QueueWithoutConsumers", "queue": "b2b.shipped", "owner": "shop"} | env)
    running.post({"alertname": "StageStalled", "owner": "crm"} | env)
    assert running.state(alertname="StageStalled", **env) == "active"


@pytest.mark.parametrize(
    ("cause", "effect", "same", "other"),
    [
        ("BrokerUnreachable", "PublishErrors", {}, {"env": "elsewhere"}),
        ("BrokerUnreachable", "StageStalled", {"status": "SUBMITTED"}, {"status": "PACKAGING"}),
        ("BrokerUnreachable", "PromiseBurnsFast", {"sla": "price_in_5_minutes"}, {"env": "elsewhere"}),
        ("CollectorMissing", "StageBlind", {}, {"env": "elsewhere"}),
        ("CollectorDown", "StageBlind", {}, {"env": "elsewhere"}),
        ("PromiseBurnsFast", "PromiseBurnsSlowly", {"sla": "price"}, {"sla": "ship"}),
        ("DeadLetters", "MessagesGone", {"queue": "pricing.requests"}, {"queue": "crm.priced"}),
    ],
)
def test_a_cause_silences_what_it_has_in_common(
    cause: str, effect: str, same: Labels, other: Labels, running: Alertmanager
) -> None:
    env = {"env": f"common-{cause}-{effect}"}
    running.post({"alertname": cause} | env | same)
    running.post({"alertname": effect, "n": "1"} | env | same)
    running.post({"alertname": effect, "n": "2"} | env | same | other)
    assert running.state(alertname=effect, n="1", **(env | same)) == "suppressed"
    assert running.state(alertname=effect, n="2", **(env | same | other)) == "active"


@pytest.mark.parametrize("cause", DELAYS)
def test_a_broken_promise_is_silent_while_what_delays_its_orders_is_told(cause: str, running: Alertmanager) -> None:
    env = {"env": f"promise-{cause}", "severity": "critical"}
    running.post({"alertname": cause, "status": "PRICE_CALCULATED", "owner": "crm"} | env)
    broken = {"alertname": "PromiseBurnsFast", "owner": "mes"} | env
    running.post(broken | {"sla": "manufacturing_within_24_hours", "status": "MANUFACTURING_APPROVED"})
    running.post(broken | {"sla": "price_in_5_minutes", "status": "SUBMITTED"})
    assert running.state(sla="manufacturing_within_24_hours", **broken) == "suppressed"
    assert running.state(sla="price_in_5_minutes", **broken) == "active"


def test_a_delay_that_calls_nobody_silences_no_promise(running: Alertmanager) -> None:
    env = {"env": "promise-warned", "owner": "mes", "status": "SUBMITTED"}
    running.post({"alertname": "QueueOld", "severity": "warning"} | env)
    running.post({"alertname": "PromiseBurnsFast", "sla": "price_in_5_minutes", "severity": "critical"} | env)
    assert running.state(alertname="PromiseBurnsFast", **env) == "active"


def test_a_collector_of_all_environments_silences_in_all_of_them(running: Alertmanager) -> None:
    down = {"alertname": "CollectorDown", "owner": "telemetry"}
    running.post(down | {"left": "none"})
    running.post({"alertname": "StageBlind", "env": "any", "status": "SUBMITTED", "owner": "mes"})
    assert running.state(alertname="StageBlind", env="any") == "suppressed"
    running.post(down | {"left": "none"}, over=True)


def test_a_collector_without_environment_silences_no_other_one_while_some_are_left(running: Alertmanager) -> None:
    down = {"alertname": "CollectorDown", "owner": "telemetry"}
    running.post(down)
    running.post({"alertname": "StageBlind", "env": "other", "status": "SUBMITTED", "owner": "mes"})
    running.post({"alertname": "StageBlind", "status": "SUBMITTED", "owner": "mes", "place": "same"})
    assert running.state(alertname="StageBlind", env="other") == "active"
    assert running.state(alertname="StageBlind", place="same") == "suppressed"
    running.post(down, over=True)


def test_one_status_is_one_notification_and_one_who_is_late_is_escalated(running: Alertmanager) -> None:
    env = {"env": "delivered", "owner": "mes", "severity": "critical"}
    for alertname in ("StageBlind", "StageStalled", "OrderStuck", "QueueMissing"):
        running.post({"alertname": alertname, "status": "SUBMITTED"} | env)
    running.post({"alertname": "OrderStuck", "status": "PACKAGING"} | env)
    (first,) = running.notified("mes-page", env="delivered", status="SUBMITTED")
    assert {alert["labels"]["alertname"] for alert in first["alerts"]} == {"StageBlind", "QueueMissing"}
    (second,) = running.notified("mes-page", env="delivered", status="PACKAGING")
    assert [alert["labels"]["alertname"] for alert in second["alerts"]] == ["OrderStuck"]
    assert running.notified("escalation", env="delivered", status="PACKAGING", alertname="OrderStuck")


def test_what_ends_in_time_is_not_escalated(running: Alertmanager) -> None:
    env = {"owner": "crm", "severity": "critical", "status": "SHIPPED", "alertname": "OrderStuck"}
    running.post(env | {"env": "ended"})
    assert running.notified("crm-page", env="ended", status="SHIPPED")
    running.post(env | {"env": "ended"}, over=True)
    running.post(env | {"env": "marker"})
    assert running.notified("escalation", env="marker", status="SHIPPED", alertname="OrderStuck")
    assert not running.seen("escalation", env="ended")


def test_a_partner_is_told_by_the_webhook_and_nobody_else(running: Alertmanager) -> None:
    labels = {"alertname": "PartnerPromiseBroken", "notify": "partner", "partner": "acme", "sla": "price", "env": "p"}
    running.post(labels | {"owner": "mes", "severity": "info"})
    (told,) = running.notified("partner-delays", env="p", partner="acme", sla="price")
    assert told["commonLabels"]["partner"] == "acme"
    assert not running.seen("mes-message", env="p")


def test_the_dead_mans_switch_hears_that_alerts_work_and_nobody_else_does(running: Alertmanager) -> None:
    running.post({"alertname": "Watchdog", "owner": "telemetry", "severity": "info", "env": "w"})
    assert running.notified("dead-mans-switch", env="w", alertname="Watchdog")
    assert not running.seen("telemetry-message", env="w")
