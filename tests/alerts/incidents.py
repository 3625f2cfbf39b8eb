"""Incidents as the series that a healthy pipeline would show, and what is different in them; a sample a minute.

`told` is what reaches people once causes have silenced their consequences; `silenced` fires too.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from tests.alerts.tools import REFERENCE

Series = dict[str, str]
Labels = dict[str, str]
END: Final = 130
_LEDGER: Final = 'job="ledger",instance="ledger:4318"'
_STAGE: Final = {"status": "SUBMITTED", "owner": "mes"}
_PRICING: Final = _STAGE | {"queue": "pricing.requests"}


class Incident(NamedTuple):
    """What differs from a healthy pipeline, by the beginning of each series; and what fires, at a minute."""

    name: str
    minute: int
    changed: Series
    told: list[Labels]
    silenced: list[Labels] = []  # noqa: RUF012 - nobody changes it


def firing(alertname: str, *more: Labels, **labels: str) -> Labels:
    return {"alertname": alertname} | {key: value for one in (*more, labels) for key, value in one.items()}


def healthy() -> Series:
    """Return what the ledger, the services and the Collector show while nothing is wrong."""
    return _ledger() | _statuses() | _queues() | _promises() | _services() | _collector()


def _own(metric: str, values: str, labels: str = "") -> Series:
    return {f"{metric}{{{labels}{',' if labels else ''}{_LEDGER}}}": f"{values}x{END}"}


def _ledger() -> Series:
    found = _own("otel_orders_ledger_swept_timestamp_seconds", "0+60") | _own("otel_orders_ledger_probe_up", "1")
    found |= _own("otel_orders_ledger_probe_success_timestamp_seconds", "0+60")
    found |= _own("otel_orders_ledger_unreadable_orders_total", "0") | _own("otel_orders_ledger_waiting_events", "0")
    for result, values in (("accepted", "0+20"), ("negative_duration", "0"), ("rejected", "0"), ("late", "0")):
        found |= _own("otel_orders_ledger_events_total", values, f'result="{result}"')
    return found


def _statuses() -> Series:
    found: Series = {}
    for status in REFERENCE.statuses.values():
        this = f'status="{status.name}"'
        found |= _own("orders_reached_total", "0+2", this)
        if not status.terminal:
            found |= _own("orders_in_status", "3", this) | _own("orders_stuck", "0", this)
            found |= _own("order_stage_stalled", "0", this) | _own("order_stage_blind", "0", this)
            found |= _own("order_stuck_after_seconds", "86400", this)
            found |= _own("order_oldest_entered_timestamp_seconds", "-30+60", this)
    return found


def _queues() -> Series:
    found: Series = {}
    for queue in REFERENCE.queues.values():
        this = f'queue="{queue.name}"'
        found |= _own("order_queue_messages", "1", f'{this},state="ready"')
        found |= _own("order_queue_consumers", "2", this)
        found |= _own("order_queue_oldest_message_timestamp_seconds", "-5+60", f'{this},source="ledger"')
        exchange, key = queue.bindings[0]
        at = f'messaging_destination_name="{exchange}:{key}:{queue.name}",{_scrape(queue.consumer)}'
        found[f"messaging_client_consumed_messages_total{{{at}}}"] = f"0+2x{END}"
        found[f'messaging_process_duration_seconds_count{{outcome="ack",{at}}}'] = f"0+2x{END}"
    return found | _own("order_queue_messages_gone_total", "0", 'queue="pricing.requests"')


def _promises() -> Series:
    found: Series = {}
    for sla in REFERENCE.slas:
        found |= _own("orders_sla_at_risk", "0", f'sla="{sla}"') | _own("orders_sla_overdue", "0", f'sla="{sla}"')
        found |= _own("order_sla_met_total", "0+2", f'sla="{sla}",partner="retail"')
        found |= _own("order_sla_breached_total", "0", f'sla="{sla}",partner="retail"')
    return found


def _services() -> Series:
    found: Series = {}
    for service in ("shop-api", "b2b-api", "crm-api", "mes-api", "pricing-worker"):
        found[f"up{{{_scrape(service)}}}"] = f"1x{END}"
        answered = f'http_response_status_code="200",error_type="",audience="external",{_scrape(service)}'
        found[f"http_server_request_duration_seconds_count{{{answered}}}"] = f"0+30x{END}"
        sent = f'outcome="confirmed",{_scrape(service)}'
        found[f"messaging_client_sent_messages_total{{{sent}}}"] = f"0+2x{END}"
    return found


def _collector() -> Series:
    queue = f'data_type="logs",exporter="otlp_http/ledger",{_scrape("otelcol")}'
    return {
        f"otelcol_process_uptime{{{_scrape('otelcol')}}}": f"0+60x{END}",
        f"otelcol_exporter_queue_size{{{queue}}}": f"5x{END}",
        f"otelcol_exporter_queue_capacity{{{queue}}}": f"1000x{END}",
    }


def _scrape(job: str) -> str:
    return f'job="{job}",instance="{job}:80"'


def _missed(minute: int) -> Series:
    """Return the ledger's series without their sample of one minute, in which it was not there."""
    found: Series = {}
    for series, values in healthy().items():
        if _LEDGER in series:
            start, step = map(int, re.fullmatch(r"(-?\d+)(?:\+(\d+))?x\d+", values).groups("0"))  # type: ignore[union-attr]
            found[series] = f"{start}+{step}x{minute - 1} _x1 {start + (minute + 1) * step}+{step}x{END}"
    return found


_LATE: Final = {  # 5 minutes after pricing stopped in minute 10, orders begin to be late
    'order_sla_met_total{sla="price_in_5_minutes"': "0+2x9 18x120",
    'order_sla_breached_total{sla="price_in_5_minutes"': "0x16 0+2x110",
}
_NO_PRICE: Final = _LATE | {
    'messaging_client_consumed_messages_total{messaging_destination_name="orders:pricing:': "0+2x9 18x120",
    'messaging_process_duration_seconds_count{outcome="ack",messaging_destination_name="orders:pr': "0+2x9 18x120",
}
_WAITING: Final = {
    'order_queue_messages{queue="pricing.requests"': "1x9 1+2x120",
    'order_queue_oldest_message_timestamp_seconds{queue="pricing.requests"': "-5+60x9 535x120",
}
_STALLED: Final = {'order_stage_stalled{status="SUBMITTED"': "0x39 1x90"}
_SLOWLY: Final = firing("PromiseBurnsSlowly", _STAGE)
_NOT_SCRAPED: Final = firing("ServiceNotScraped", owner="mes")
_DEAD_WORKER: Final = _NO_PRICE | _WAITING | {'order_queue_consumers{queue="pricing.requests"': "2x9 0x120"}
_DEAD_BROKER: Final = _LATE | {
    "messaging_client_consumed_messages_total{": "0+2x9 18x120",
    "messaging_process_duration_seconds_count{": "0+2x9 18x120",
    "otel_orders_ledger_probe_up": "1x9 0x120",
    "order_queue_messages{": f"1x9 stale _x{END}",
    "order_queue_consumers{": f"2x9 stale _x{END}",
    "order_queue_oldest_message_timestamp_seconds{": f"-5+60x9 stale _x{END}",
    'messaging_client_sent_messages_total{outcome="error",job="shop-api",instance="shop-api:80"}': "_x9 1+2x120",
}
_WORK: Final = 'service_name="pricing-worker",to_status="PRICE_CALCULATED",job="pricing-worker",instance="p:80"'
_BLIND: Final = [(status.name, status.owner) for status in REFERENCE.statuses.values() if not status.terminal]

INCIDENTS: Final = (
    Incident("a healthy pipeline", 60, {}, []),
    Incident("one lost message", 30, {'orders_stuck{status="SUBMITTED"': "0x20 1x99"}, [firing("OrderStuck", _STAGE)]),
    Incident(
        "a pricing consumer that died 4 minutes ago",
        14,
        _DEAD_WORKER | {'up{job="pricing-worker"': "1x9 0x120"},
        [firing("QueueWithoutConsumers", _PRICING)],
    ),
    Incident(
        "a pricing consumer that died 50 minutes ago",
        60,
        _DEAD_WORKER | _STALLED | {'up{job="pricing-worker"': "1x9 0x120"},
        [firing("QueueWithoutConsumers", _PRICING), _NOT_SCRAPED],
        [firing("StageStalled", _STAGE), firing("QueueOld", _PRICING), _SLOWLY],
    ),
    Incident(
        "models that take half an hour to price",
        45,
        _LATE
        | _WAITING
        | {
            'messaging_client_consumed_messages_total{messaging_destination_name="orders:pricing:': "0+2x9 18x30 20x80",
            f"order_transition_duration_seconds_count{{{_WORK}}}": "0+2x9 18x29 20x80",
            f'order_transition_duration_seconds_bucket{{le="600.0",{_WORK}}}': "0+2x9 18x120",
        },
        [firing("WorkSlow", _PRICING)],
        [firing("QueueStalled", _PRICING), firing("QueueOld", _PRICING), _SLOWLY],
    ),
    Incident(
        "a broker that has been down for 6 minutes",
        16,
        _DEAD_BROKER,
        [firing("BrokerUnreachable", owner="telemetry")],
        [firing("PublishErrors", owner="shop")],
    ),
    Incident(
        "a broker that has been down for 50 minutes",
        60,
        _DEAD_BROKER | _STALLED,
        [firing("BrokerUnreachable", owner="telemetry")],
        [firing("PublishErrors", owner="shop"), firing("StageStalled", _STAGE), _SLOWLY],
    ),
    Incident(
        "a message that kills its consumer again and again",
        20,
        {
            'order_messages_redelivered_total{queue="pricing.requests",job="worker",instance="p:80"}': "0x9 0+6x99",
            'messaging_client_consumed_messages_total{messaging_destination_name="orders:pricing:': "0+2x9 18+8x99",
        },
        [firing("RetriesGrowing", _PRICING)],
    ),
    Incident(
        "a message that the broker gave up",
        20,
        {"order_queue_messages_gone_total{": "0x15 1x99"},
        [firing("MessagesGone", owner="mes", queue="pricing.requests")],
    ),
    Incident(
        "a service whose clock is wrong",
        20,
        {'otel_orders_ledger_events_total{result="negative_duration"': "0x9 0+2x99"},
        [firing("ClocksDiffer", owner="telemetry")],
    ),
    Incident(
        "a Collector that is dead",
        30,
        {"otelcol_": "5x9 stale", "order_stage_blind{": "0x11 1x99"},
        [firing("CollectorDown", owner="telemetry")],
        [firing("StageBlind", status=status, owner=owner) for status, owner in _BLIND],
    ),
    Incident(
        "a CRM that is down",
        20,
        {
            'order_queue_consumers{queue="crm.': "2x9 0x99",
            'order_queue_messages{queue="crm.': "1x9 1+2x99",
            'order_queue_oldest_message_timestamp_seconds{queue="crm.': "-5+60x9 535x99",
            'messaging_client_consumed_messages_total{messaging_destination_name="orders:priced:crm': "0+2x9 18x99",
            'messaging_client_consumed_messages_total{messaging_destination_name="orders:shipped:crm': "0+2x9 18x99",
            'up{job="crm-api"': "1x9 0x99",
        },
        [
            firing("QueueWithoutConsumers", status="PRICE_CALCULATED", owner="crm", queue="crm.priced"),
            firing("QueueWithoutConsumers", status="SHIPPED", owner="crm", queue="crm.shipped"),
            firing("ServiceNotScraped", owner="crm"),
        ],
        [
            firing("QueueOld", status="PRICE_CALCULATED", owner="crm", queue="crm.priced"),
            firing("QueueOld", status="SHIPPED", owner="crm", queue="crm.shipped"),
        ],
    ),
    Incident(
        "a partner who floods",
        28,
        _WAITING
        | {
            'orders_reached_total{status="INITIATED"': "0+2x9 18+300x99",
            'order_queue_oldest_message_timestamp_seconds{queue="pricing.requests"': "-5+60x9 535+20x99",
        },
        [firing("OrderCreationSurging", owner="shop"), firing("QueueOld", _PRICING)],
    ),
    Incident("a ledger that restarts within a minute", 12, _missed(10), []),
)
