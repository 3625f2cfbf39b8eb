"""Every config, and every allowed combination, is accepted by the real Collector and runs."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml

from otel_orders.ledger.reading import KINDS
from otel_orders.names import HEARTBEAT
from tests.collector.processes import AGENT, BALANCER, COLLECTOR, GATEWAY, LINES, collecting, command, settings

if TYPE_CHECKING:
    from pathlib import Path

TYPES = (*KINDS, HEARTBEAT)
ALLOWED = (AGENT, BALANCER, LINES, (*BALANCER, "json_lines"), GATEWAY)


@pytest.mark.parametrize("configs", ALLOWED, ids="+".join)
def test_an_allowed_combination_is_valid_and_starts_without_a_complaint(
    configs: tuple[str, ...], binary: Path, tmp_path: Path
) -> None:
    validation = subprocess.run(
        command(binary, configs, "validate"), env=settings(tmp_path), capture_output=True, text=True, check=False
    )
    assert validation.returncode == 0, validation.stderr
    with collecting(binary, configs, tmp_path) as collector:
        assert collector.stop() == 0
    lines = [line for line in collector.log.splitlines() if "addrConn" not in line]  # the gateways are not there
    complaints = [line for line in lines if "\twarn\t" in line or "\terror\t" in line]
    assert complaints == []


@pytest.mark.parametrize("missing", ["OTELCOL_LEDGER", "OTELCOL_TRACES"])
def test_an_address_that_nobody_gave_is_an_error_at_the_start(missing: str, binary: Path, tmp_path: Path) -> None:
    environ = settings(tmp_path)
    del environ[missing]
    validation = subprocess.run(
        command(binary, GATEWAY, "validate"), env=environ, capture_output=True, text=True, check=False
    )
    assert validation.returncode != 0
    assert "endpoint" in validation.stderr


def test_an_event_record_is_known_by_every_type_that_there_is_and_by_no_other() -> None:
    processors = yaml.safe_load((COLLECTOR / "base.yaml").read_text())["processors"]
    for name in ("filter/events", "filter/no_events"):
        (condition,) = processors[name]["log_conditions"]
        known = re.compile(json.loads(condition[condition.index(', "(') + 2 : -1]))
        assert all(known.search(f"{event_type} ") and known.search(f"<nil> {event_type}") for event_type in TYPES)
        assert not any(known.search(other) for other in ("order.created ", "reorder.observed ", "service.started "))


def test_the_build_has_the_components_that_a_config_uses_and_no_other(binary: Path) -> None:
    told = subprocess.run([binary, "components"], check=True, stdout=subprocess.PIPE, text=True).stdout
    built = yaml.safe_load(told)
    configs = [yaml.safe_load(file.read_text()) for file in COLLECTOR.glob("*.yaml")]
    for kind in ("receivers", "processors", "connectors", "exporters", "extensions"):
        used = {name.partition("/")[0] for config in configs if "service" in config for name in config.get(kind) or {}}
        assert {component["name"] for component in built[kind]} == used, kind
