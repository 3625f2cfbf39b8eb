"""Which traces a lifecycle keeps: the policies that are made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from otel_orders.generate.collector import policies, sampling
from otel_orders.lifecycle import load_lifecycle, parse_lifecycle

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "examples/order_pipeline/lifecycle.yaml"
SMALL = """
version: 1
statuses:
  NEW: {owner: shop, initial: true, next: [DONE], stuck_after: 2h}
  DONE: {owner: shop, terminal: true}
owners: {shop: {services: [shop-api]}}
"""
QUEUES = """
queues:
  q.a$b: {status: NEW, consumer: shop-api, oldest_after: 90s}
"""


def made(text: str) -> dict[str, Any]:
    """Return the policies by name."""
    return {policy["name"]: policy for policy in policies(parse_lifecycle(text))}


def conditions(policy: dict[str, Any]) -> list[str]:
    found = policy["ottl_condition"]["span"]
    assert isinstance(found, list)
    return found


def test_what_is_committed_is_what_the_reference_lifecycle_says_today() -> None:
    assert (ROOT / "collector/sampling.yaml").read_text() == sampling(load_lifecycle(REFERENCE))


def test_the_output_is_a_config_without_aliases_that_says_what_it_was_made_of() -> None:
    text = sampling(load_lifecycle(REFERENCE))
    assert load_lifecycle(REFERENCE).hash in text.splitlines()[0]
    assert "&id" not in text
    found = yaml.safe_load(text)["processors"]["tail_sampling"]["policies"]
    assert [policy["name"] for policy in found] == ["errors", "problems", "slow", "orders", "outside_orders"]


@pytest.mark.parametrize(("ratio", "last"), [("0.15", 14), ("0.155", 15), ("0.01", 0), ("1", 99)])
def test_the_buckets_below_the_ratio_are_kept(ratio: str, last: int) -> None:
    bucket = made(f"{SMALL}sampling: {{ratio: {ratio}}}\n")["orders"]["and"]["and_sub_policy"][0]
    assert bucket["numeric_attribute"] == {"key": "order_bucket", "min_value": 0, "max_value": last}


def test_a_ratio_of_nothing_keeps_problems_only() -> None:
    assert made(f"{SMALL}sampling: {{ratio: 0}}\n").keys() == {"errors", "problems", "slow"}


def test_without_a_problem_only_queue_nothing_but_the_bucket_decides() -> None:
    assert len(made(f"{SMALL}sampling: {{ratio: 0.5}}\n")["orders"]["and"]["and_sub_policy"]) == 1


def test_a_queue_of_problem_only_is_left_out_of_the_share() -> None:
    found = made(f'{SMALL}{QUEUES}sampling: {{ratio: 0.5, problem_only: ["q.a$b"]}}\n')
    for name in ("orders", "outside_orders"):
        (consumed,) = conditions(found[name]["and"]["and_sub_policy"][-1]["not"]["not_sub_policy"])
        assert consumed.startswith("span.kind == SPAN_KIND_CONSUMER")


def test_a_name_is_matched_literally_and_names_no_variable_of_the_config() -> None:
    (slow, _) = conditions(made(SMALL + QUEUES)["slow"])
    assert r'"(^|:)q\\.a\\$$b$$"' in slow
    assert slow.endswith('span.attributes["message_age_seconds"] > 90.0')


def test_work_is_slow_from_the_shortest_limit_of_the_way_to_its_status() -> None:
    sla = "slas:\n  soon: {from: NEW, to: DONE, within: 5m, objective: 0.9}\n"
    took = "span.end_time_unix_nano - span.start_time_unix_nano > "
    assert conditions(made(SMALL)["slow"]) == [f'{took}{7200 * 10**9} and span.attributes["to_status"] == "DONE"']
    assert conditions(made(SMALL + sla)["slow"]) == [f'{took}{300 * 10**9} and span.attributes["to_status"] == "DONE"']


def test_without_limits_nothing_is_slow() -> None:
    assert "slow" not in made(SMALL.replace(", stuck_after: 2h", ""))
