"""What the README says is true: its example runs, its tables name what there is."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

import otel_orders
from otel_orders import names
from otel_orders.lifecycle import load_lifecycle
from otel_orders.testing import captured_events
from tests.promised import README, promised

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).parents[1]
OURS = re.compile(r"OTEL_ORDERS_[A-Z_]+")


def block(name: str) -> str:
    """The fenced block between <!-- name --> and <!-- end -->."""
    return README.split(f"<!-- {name} -->\n```", 1)[1].split("\n", 1)[1].split("\n```\n<!-- end -->", 1)[0]


def test_the_example_runs_as_it_stands() -> None:
    code = block("example").replace('otel_orders.configure(service="mes-api")\n', "")
    assert code.count("\n") < 20
    module: dict[str, object] = {}
    with captured_events() as events:
        exec(compile(code, "README.md", "exec"), module)  # noqa: S102 - it is our own
        module["price"](SimpleNamespace(order_id="A-1", grams=3))  # type: ignore[operator]
        module["pack"](SimpleNamespace(id="A-2", status="MANUFACTURING_COMPLETED", version=7))  # type: ignore[operator]
    assert [(event.order_id, event.from_status, event.to_status) for event in events] == [  # type: ignore[attr-defined]
        ("A-1", "SUBMITTED", "PRICE_CALCULATED"),
        ("A-2", "MANUFACTURING_COMPLETED", "PACKAGING"),
    ]


def test_every_variable_of_ours_is_documented_and_no_other() -> None:
    sources = [path.read_text() for path in (ROOT / "otel_orders").rglob("*.py")]
    used = {found for source in sources for found in OURS.findall(source)}
    assert set(OURS.findall(README)) == {found for found in used if not found.endswith("_")}


def test_every_metric_of_the_ledger_that_the_readme_names_exists() -> None:
    known = {value for value in vars(names).values() if isinstance(value, str)} | {
        "otel_orders_ledger_store_bytes",
        "otel_orders_ledger_waiting_events",
        "otel_orders_ledger_swept_timestamp_seconds",
    }
    table = README.split("### The ledger's metrics", 1)[1].split("\n## ", 1)[0]
    named = set(re.findall(r"`((?:otel_)?orders?_[a-z_]+)", table)) - {"order_id"}
    assert named
    assert named <= known


def test_every_metric_of_a_service_is_in_the_table_with_its_labels_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_ORDERS_JSON_LINES", "none")
    registry = CollectorRegistry()
    runtime = otel_orders.configure("mes-api", registry=registry)
    made = {
        name: set(vars(metric)["_labelnames"]) for metric, all_ in registry._collector_to_names.items() for name in all_
    }
    count = len(registry._collector_to_names)
    runtime.shutdown()
    assert len(promised()) == count
    assert promised().items() <= made.items()


def test_the_demo_output_shows_the_statuses_of_the_lifecycle_in_order() -> None:
    lifecycle = load_lifecycle(ROOT / "examples/order_pipeline/lifecycle.yaml")
    board = block("demo").split("A good one", 1)[0]
    assert re.findall(r"^│ ([A-Z_]+)", board, re.MULTILINE) == list(lifecycle.statuses)


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_api_that_the_readme_explains_is_public() -> None:
    for name in ("configure", "transition", "transition_context", "record", "order_context", "OUTBOX_SCHEMA"):
        assert name in README
        assert name in otel_orders.__all__
