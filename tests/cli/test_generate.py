"""``otel-orders generate`` writes what a lifecycle decides, and says what is stale."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.integration.processes import LIFECYCLE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., tuple[int, str, str]]


def test_what_was_written_is_up_to_date_until_the_lifecycle_changes(run: Run, tmp_path: Path) -> None:
    changed = tmp_path / "lifecycle.yaml"
    changed.write_text(LIFECYCLE.read_text().replace("ratio: 0.15", "ratio: 0.2"))
    command = ("generate", "collector", "--out", tmp_path)
    assert run(*command, "--lifecycle", LIFECYCLE)[0] == 0
    assert run(*command, "--lifecycle", LIFECYCLE, "--check")[0] == 0
    code, _, err = run(*command, "--lifecycle", changed, "--check")
    assert (code, err) == (2, f"otel-orders: {tmp_path}/sampling.yaml is stale: run the same command without --check\n")


def test_a_folder_that_is_not_there_is_one_line_of_error(run: Run, tmp_path: Path) -> None:
    code, _, err = run("generate", "collector", "--lifecycle", LIFECYCLE, "--out", tmp_path / "none")
    assert code == 2
    assert err == f"otel-orders: {tmp_path}/none/sampling.yaml: No such file or directory\n"
