"""10,000 orders through a balancer and two gateways: what is kept, and that every event record is at the ledger."""

from __future__ import annotations

import math
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING

import httpx
import pytest

from otel_orders.event import order_bucket
from tests.collector.gate import accepted, post
from tests.collector.orders import RATIO, STATUSES, Order, in_groups, request
from tests.collector.processes import BALANCER, GATEWAY, collecting
from tests.integration.processes import running
from tests.ledger import senders
from tests.sinks.receiver import Received, attributes, receiver, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ORDERS = [Order(number) for number in range(10_000)]


class Kept:
    """What arrived at the far ends, after all orders went through."""

    def __init__(self, problems: Received, ordinary: Received, metrics: str) -> None:
        self.problems = Counter(span.span_id for span in problems.spans)
        self.ordinary = Counter(span.span_id for span in ordinary.spans)
        self.spans = [*problems.spans, *ordinary.spans]
        self.metrics = metrics


@pytest.fixture(scope="module")
def kept(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    folder = tmp_path_factory.mktemp("sampling")
    with ExitStack() as stack:
        problems, ordinary = stack.enter_context(receiver()), stack.enter_context(receiver())
        (folder / "ledger").mkdir()
        ledger = stack.enter_context(running(folder / "ledger"))
        stores = {
            "OTELCOL_PROBLEM_TRACES": problems.url,
            "OTELCOL_TRACES": ordinary.url,
            "OTELCOL_LEDGER": ledger.url,
            "OTELCOL_DECISION_WAIT": "4s",  # a busy machine may part the spans of a trace by seconds
        }
        gateways = [stack.enter_context(collecting(binary, GATEWAY, folder / f"gateway{n}", **stores)) for n in (0, 1)]
        balancer = stack.enter_context(
            collecting(
                binary,
                BALANCER,
                folder / "balancer",
                OTELCOL_GATEWAYS=f"[{gateways[0].grpc}, {gateways[1].grpc}]",
                OTELCOL_LEDGER=gateways[0].url,
            )
        )
        client = stack.enter_context(httpx.Client(base_url=balancer.url, trust_env=False, timeout=30))
        for group in in_groups(ORDERS):
            post(client, "/v1/traces", request(span for order in group for span in order.spans()))
            post(client, "/v1/logs", senders.logs(record for order in group for record in order.events()))
        expected = {span for order in ORDERS for span in order.ordinary_spans}
        wait_for(lambda: expected <= {span.span_id for span in ordinary.spans}, seconds=60)
        late = [order.late for order in ORDERS if order.trouble == "late"]
        post(client, "/v1/traces", request(late))
        wait_for(lambda: {span.span_id for span in late} <= {span.span_id for span in problems.spans}, seconds=60)
        wait_for(lambda: accepted(ledger) == len(ORDERS) * len(STATUSES), seconds=60)
        assert balancer.stop() == gateways[0].stop() == gateways[1].stop() == 0  # whatever still waited comes now
        yield Kept(problems, ordinary, httpx.get(f"{ledger.url}/metrics", trust_env=False).text)


def test_every_span_of_a_problem_is_kept_once_and_late_errors_too(kept: Kept) -> None:
    assert kept.problems == Counter({span for order in ORDERS for span in order.spans_of_problems})


def test_no_order_of_a_bucket_is_half_kept(kept: Kept) -> None:
    assert kept.ordinary == Counter({span for order in ORDERS for span in order.ordinary_spans})


def test_the_share_of_orders_without_a_problem_is_within_the_binomial_bound_of_the_ratio(kept: Kept) -> None:
    ordinary = [order for order in ORDERS if not order.trouble]
    found = sum(order.span_id("shop", 0) in kept.ordinary for order in ordinary)
    spread = math.sqrt(len(ordinary) * RATIO * (1 - RATIO))
    assert abs(found - len(ordinary) * RATIO) < 4 * spread


def test_the_bucket_of_a_sender_that_gives_none_is_the_librarys(kept: Kept) -> None:
    buckets = [attributes(span) for span in kept.spans if "order_id" in attributes(span)]
    assert {found["order_bucket"] == order_bucket(found["order_id"]) for found in buckets} == {True}


def test_every_event_record_is_at_the_ledger_and_none_came_twice(kept: Kept) -> None:
    assert f'otel_orders_ledger_events_total{{result="accepted"}} {len(ORDERS) * len(STATUSES)}.0' in kept.metrics
    assert 'otel_orders_ledger_events_total{result="duplicate"} 0.0' in kept.metrics
