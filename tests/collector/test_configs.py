"""Every config, and every allowed combination, is accepted by the real Collector and runs."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.collector.processes import AGENT, BALANCER, GATEWAY, LINES, collecting, command, settings

if TYPE_CHECKING:
    from pathlib import Path

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
    complaints = [line for line in collector.log.splitlines() if "\twarn\t" in line or "\terror\t" in line]
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
