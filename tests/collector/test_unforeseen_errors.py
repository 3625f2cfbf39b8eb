"""What a ledger did not foresee costs no event that a Collector holds, and does not hold up its queue."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import httpx

from otel_orders.ledger.reading import Reading
from otel_orders.ledger.service import Ledger, open_store
from tests.collector.gate import post
from tests.collector.processes import AGENT, collecting
from tests.ledger import senders
from tests.ledger.senders import ENV, changed
from tests.ledger.strategies import LIFECYCLE
from tests.server.conftest import served
from tests.sinks.receiver import wait_for

if TYPE_CHECKING:
    from concurrent.futures import Future
    from pathlib import Path

    import pytest


def test_a_collector_sends_again_what_failed_once_and_goes_on_behind_what_always_fails(
    binary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        closing(Ledger(open_store(f"sqlite:///{tmp_path / 'ledger.db'}"), LIFECYCLE, ENV)) as ledger,
        served(ledger) as client,
        collecting(binary, AGENT, tmp_path, OTELCOL_LEDGER=str(client.base_url)) as collector,
        httpx.Client(base_url=collector.url, trust_env=False, timeout=10) as sender,
    ):
        take, submit, failed = Reading._take, ledger.writer.submit, list[str]()

        def fails_for_bad(reading: Reading, record: dict[str, Any], event_type: str) -> None:
            if record["order_id"] == "bad":
                failed.append("always")
                raise ZeroDivisionError
            take(reading, record, event_type)

        def fails_once(*asked: Any) -> Future[list[str]]:
            if "once" not in failed:
                failed.append("once")
                raise RuntimeError("can't start new thread")
            return submit(*asked)

        monkeypatch.setattr(Reading, "_take", fails_for_bad)
        monkeypatch.setattr(ledger.writer, "submit", fails_once)
        for some in (["A-1"], ["bad", "A-2"], ["A-3"]):
            post(sender, "/v1/logs", senders.logs([changed(order_id) for order_id in some]))
        for order_id in ("A-1", "A-2", "A-3"):
            wait_for(lambda: ledger.story(order_id) is not None, seconds=60)  # noqa: B023 - run at once
        wait_for(lambda: collector.metric("otelcol_exporter_queue_size") == 0, seconds=60)
    assert {"once", "always"} <= set(failed)
