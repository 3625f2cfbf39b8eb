"""``run``: the command line in this process."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import pytest

from otel_orders.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable

Outcome = tuple[int, str, str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run ``otel-orders`` in this process; the exit status, what went to stdout and what to stderr."""

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["otel-orders", *map(str, arguments)])
        monkeypatch.setattr(signal, "signal", lambda *_: None)  # the test runner's own stay
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as exit_:
            main()
        said = capsys.readouterr()
        return int(exit_.value.code or 0), said.out, said.err

    return run
