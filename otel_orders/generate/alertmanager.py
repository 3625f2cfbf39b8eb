"""Alertmanager's configuration: whom an alert reaches, with what it is told together, and what is silent meanwhile.

Pure: from a lifecycle to the text of a config.  It holds no secret: receivers name the files that do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otel_orders.generate import owners
from otel_orders.generate.alerts_telemetry import WATCHDOG
from otel_orders.generate.owners import TELEMETRY
from otel_orders.generate.rule import HEAD, dumped, one_of, quoted
from otel_orders.generate.words import said

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from otel_orders.lifecycle import Calendar, Lifecycle, Sla

FILE: Final = "alertmanager.yaml"
SECRETS: Final = "/etc/alertmanager/secrets"
ESCALATION: Final = "escalation"
PARTNERS: Final = "partner-delays"
SWITCH: Final = "dead-mans-switch"
WATCHED_EVERY: Final = "5m"
"""How often the dead man's switch is told that alerts can reach people."""
UNOWNED: Final = "#orders"
"""Where owners without a contact in the lifecycle are told."""

CAUSES: Final[dict[str, tuple[str, ...]]] = {
    "StageBlind": ("StageStalled", "QueueStalled", "QueueOld", "OrderStuck"),
    "QueueMissing": ("StageStalled", "QueueStalled", "QueueOld", "OrderStuck"),
    "QueueWithoutConsumers": ("StageStalled", "QueueStalled", "QueueOld", "OrderStuck"),
    "QueueStalled": ("StageStalled", "QueueOld", "OrderStuck"),
    "StageStalled": ("QueueOld", "OrderStuck"),
    "WorkSlow": ("StageStalled", "QueueStalled", "QueueOld"),
}
"""What is a consequence of what, in the same status and of the same owner: only the cause is told.

Of the same owner, since a queue of others in that status (a copy for a partner's notices) holds up no stage.  No two
are causes of each other.
"""
DELAYS: Final = (*CAUSES, "QueueOld")
"""What delays the orders of a status, so that promises are broken which run while orders are in it."""
_PROMISES: Final = ("PromiseBurnsFast", "PromiseBurnsSlowly")
_BROKER: Final = ("QueueStalled", "StageStalled", "QueueOld", "OrderStuck")

_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_HEAD: Final = f"""\
# Secrets are files below {SECRETS}: slack (the URL of an incoming webhook), pagerduty-OWNER and
# pagerduty-escalation (routing keys), partner-delays and dead-mans-switch (bearer tokens).  Routes:
#   critical  pages the owner at once.  If nobody has silenced it and it still fires 15 minutes later, it is escalated.
#   warning   is a message to the owner, in working hours where the lifecycle has a calendar.
#   Watchdog  always fires, and goes to the dead man's switch every {WATCHED_EVERY}: let that call whoever runs the
#             telemetry when it has heard nothing for 15 minutes.
#   notify="partner" goes to the webhook that tells partners of delays, and to nobody else.
# Alerts of one status are one notification, and of an incident only the cause is told.
"""


def alertmanager(lifecycle: Lifecycle, partner_webhook: str, watchdog_webhook: str) -> str:
    """Return the config.

    partner_webhook: the URL that is told of partners' broken promises.  watchdog_webhook: the URL of a dead man's
    switch, which calls somebody when it is told nothing for longer than WATCHED_EVERY.
    """
    config = {
        "route": _routes(lifecycle),
        "inhibit_rules": _inhibitions(lifecycle),
        "receivers": _receivers(lifecycle, partner_webhook, watchdog_webhook),
    }
    if lifecycle.calendars:
        config["time_intervals"] = [_interval(calendar) for calendar in lifecycle.calendars.values()]
    return HEAD.format(command="alertmanager", hash=lifecycle.hash) + _HEAD + dumped(config)


def _owners(lifecycle: Lifecycle) -> dict[str, str]:
    """Return whom to tell where: owners and their contacts."""
    return {TELEMETRY: UNOWNED} | {owner.name: owner.contact or UNOWNED for owner in lifecycle.owners.values()}


def _routes(lifecycle: Lifecycle) -> dict[str, Any]:
    partners = {
        "receiver": PARTNERS,
        "matchers": ['notify="partner"'],
        "group_by": ["env", "partner", "sla"],
        "repeat_interval": "24h",
    }
    # The first notification of a group waits for group_wait: what ends, or is silenced, before that is not escalated.
    escalated = {
        "receiver": ESCALATION,
        "matchers": ['severity="critical"'],
        "group_by": ["env", "owner", "status", "alertname"],
        "group_wait": "15m",
        "repeat_interval": "1h",
        "continue": True,
    }
    of_nobody = {"receiver": f"{TELEMETRY}-page", "matchers": ['severity="critical"'], "repeat_interval": "4h"}
    of_owners = [_of_owner(owner, lifecycle) for owner in _owners(lifecycle)]
    return {
        "receiver": f"{TELEMETRY}-message",
        "group_by": ["env", "owner", "alertname"],
        "group_wait": "30s",
        "group_interval": "5m",
        "repeat_interval": "12h",
        "routes": [_switch(), partners, escalated, *of_owners, of_nobody],
    }


def _switch() -> dict[str, Any]:
    return {
        "receiver": SWITCH,
        "matchers": [f"alertname={quoted(WATCHDOG)}"],
        "group_by": ["env", "alertname"],
        "group_wait": "0s",
        "group_interval": WATCHED_EVERY,
        "repeat_interval": WATCHED_EVERY,
    }


def _of_owner(owner: str, lifecycle: Lifecycle) -> dict[str, Any]:
    hours = {"active_time_intervals": [next(iter(lifecycle.calendars))]} if lifecycle.calendars else {}
    page = {"receiver": f"{owner}-page", "repeat_interval": "4h"}
    return {
        "receiver": f"{owner}-message",
        "matchers": [f"owner={quoted(owner)}"],
        "routes": [
            {"matchers": ['severity="critical"', 'status=~".+"'], "group_by": ["env", "status"]} | page,
            {"matchers": ['severity="critical"']} | page,
            {"matchers": ['severity!="critical"'], "receiver": f"{owner}-message"} | hours,
        ],
    }


def _inhibitions(lifecycle: Lifecycle) -> list[dict[str, Any]]:
    rules = [_inhibition((cause,), effects, ["env", "status", "owner"]) for cause, effects in CAUSES.items()]
    rules.extend(rule for sla in lifecycle.slas.values() for rule in _of_promise(sla, lifecycle))
    rules.append(_inhibition(("PromiseBurnsFast",), ("PromiseBurnsSlowly",), ["env", "sla"]))
    store = ("LedgerLagging", "LedgerSourceUnread", "LedgerBacklog")
    rules.append(_inhibition(("LedgerStoreFailing",), store, ["env"]))
    rules.append(_inhibition(("DeadLetters",), ("MessagesGone", "RetriesGrowing"), ["env", "queue"]))
    if lifecycle.queues:
        fed = one_of({queue.status: None for queue in lifecycle.queues.values()})
        rules.append(_inhibition(("BrokerUnreachable",), ("PublishErrors", "ConsumeErrors", "ServerErrors"), ["env"]))
        # The record of who settled a message may die with its consumer: then it is no lost message.
        rules.append(_inhibition(("QueueWithoutConsumers",), ("MessagesGone",), ["env", "queue"]))
        rules.append(_inhibition(("BrokerUnreachable",), _BROKER, ["env"], f'status=~"{fed}"'))
    unheard = ("StageBlind", "TelemetryLost", "MessagesGone")
    rules.extend(_inhibition((cause,), unheard, ["env"]) for cause in ("CollectorDown", "CollectorMissing"))
    # One that serves all environments has none of its own, and neither has what was never there.
    rules.append(_inhibition(("CollectorDown",), unheard, [], source=('env=""', 'left="none"')))
    return rules


def _of_promise(sla: Sla, lifecycle: Lifecycle) -> Iterator[dict[str, Any]]:
    """Yield what silences that a promise is broken: what delays orders on the way to it, and is told itself."""
    this = f"sla={quoted(sla.name)}"
    way = owners.on_the_way(sla, lifecycle)
    for owner, statuses in way.items():
        there = ('severity="critical"', f'status=~"{one_of(statuses)}"', f"owner={quoted(owner)}")
        yield _inhibition(DELAYS, _PROMISES, ["env"], this, source=there)
    if {queue.status for queue in lifecycle.queues.values()} & {name for names in way.values() for name in names}:
        yield _inhibition(("BrokerUnreachable",), _PROMISES, ["env"], this)


def _inhibition(
    causes: Sequence[str], effects: Sequence[str], equal: Sequence[str], *more: str, source: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return a rule.  more, source: matchers of what is silenced, and of what silences it, beside their names."""
    found: dict[str, Any] = {
        "source_matchers": [f'alertname=~"{"|".join(causes)}"', *source],
        "target_matchers": [f'alertname=~"{"|".join(effects)}"', *more],
    }
    return found | ({"equal": [*equal]} if equal else {})


def _receivers(lifecycle: Lifecycle, partner_webhook: str, watchdog_webhook: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for owner, contact in _owners(lifecycle).items():
        found.append({"name": f"{owner}-page", "pagerduty_configs": [_pagerduty(owner)]})
        found.append({"name": f"{owner}-message", "slack_configs": [_slack(contact)]})
    found.append({"name": ESCALATION, "pagerduty_configs": [_pagerduty(ESCALATION)]})
    for name, url in ((PARTNERS, partner_webhook), (SWITCH, watchdog_webhook)):
        token = {"authorization": {"credentials_file": f"{SECRETS}/{name}"}}
        webhook = {"url": url, "send_resolved": False, "http_config": token}
        found.append({"name": name, "webhook_configs": [webhook]})
    return found


def _pagerduty(whom: str) -> dict[str, Any]:
    return {
        "routing_key_file": f"{SECRETS}/pagerduty-{whom.replace('/', '%2F')}",
        "description": "{{ (index .Alerts 0).Annotations.summary }}",
        "details": {
            "what": "{{ range .Alerts }}{{ .Annotations.description }}\n{{ end }}",
            "runbook": "{{ (index .Alerts 0).Annotations.runbook_url }}",
            "dashboard": "{{ (index .Alerts 0).Annotations.dashboard_url }}",
        },
    }


def _slack(contact: str) -> dict[str, Any]:
    links = "<{{ .Annotations.runbook_url }}|runbook> <{{ .Annotations.dashboard_url }}|dashboard>"
    return {
        "api_url_file": f"{SECRETS}/slack",
        "channel": said(contact),  # a template too
        "send_resolved": True,
        "title": '{{ if eq .Status "resolved" }}Over: {{ end }}{{ (index .Alerts 0).Annotations.summary }}',
        "text": f"{{{{ range .Alerts }}}}{{{{ .Annotations.description }}}} {links}\n{{{{ end }}}}",
    }


def _interval(calendar: Calendar) -> dict[str, Any]:
    start, end = (f"{minutes // 60:02}:{minutes % 60:02}" for minutes in calendar.hours)
    open_ = {
        "weekdays": [_DAYS[day] for day in sorted(calendar.days)],
        "times": [{"start_time": start, "end_time": end}],
        "location": calendar.zone,
    }
    return {"name": calendar.name, "time_intervals": [open_]}
