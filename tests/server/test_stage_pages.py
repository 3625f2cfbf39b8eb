"""What is shown of stages: as JSON, on the board, and with an order."""

from __future__ import annotations

import json
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from otel_orders import names
from otel_orders.ledger import queues
from otel_orders.ledger.queues import QueueFact
from otel_orders.ledger.service import Ledger, open_store
from otel_orders.lifecycle import Duration
from tests.ledger.senders import ENV, SECOND, changed
from tests.ledger.strategies import LIFECYCLE, MINUTE
from tests.server.conftest import served
from tests.server.test_app import post
from tests.sinks.receiver import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

HTML = {"accept": "text/html"}
FACT = {"ready": 31, "unacked": 0, "consumers": 0}


@contextmanager
def hasty(folder: Path, **fact: Any) -> Iterator[httpx.Client]:
    """Serve a ledger whose SUBMITTED is stalled after a second, with what a probe saw of its queue."""
    submitted = msgspec.structs.replace(LIFECYCLE.statuses["SUBMITTED"], stalled_after=Duration(SECOND))
    mes = msgspec.structs.replace(LIFECYCLE.owners["mes"], quiet_after=Duration(SECOND))
    lifecycle = msgspec.structs.replace(
        LIFECYCLE, statuses=LIFECYCLE.statuses | {"SUBMITTED": submitted}, owners=LIFECYCLE.owners | {"mes": mes}
    )
    store = open_store(f"sqlite:///{folder / 'ledger.db'}")
    if fact:
        seen = QueueFact("pricing.requests", time.time_ns(), time.time_ns() + MINUTE, **fact)
        with store.transaction() as tx:
            tx.put(queues.FACTS + seen.queue, queues.encode(seen))
    with closing(Ledger(store, lifecycle, ENV)) as ledger, served(ledger) as client:
        yield client


def stage(client: httpx.Client, status: str = "SUBMITTED") -> dict[str, Any]:
    stages = client.get("/stages").raise_for_status().json()["stages"]
    (found,) = [one for one in stages if one["status"] == status]
    return dict(found)


def beat(service: str = "pricing-worker", **fields: Any) -> dict[str, Any]:
    return changed("", event_type=names.HEARTBEAT, service=service, instance="i-1") | fields


def test_a_stalled_stage_is_shown_wherever_one_looks(tmp_path: Path) -> None:
    with hasty(tmp_path, **FACT) as client:
        post(client, changed("A-1", "SUBMITTED", "FILE_UPLOADED"), changed("A-2", "CANCELLED", "INITIATED"))
        wait_for(lambda: stage(client)["state"] == "stalled")
        assert stage(client)["since"] == pytest.approx(time.time_ns(), abs=60 * SECOND)
        assert "queue pricing.requests holds 31, no consumer" in stage(client)["evidence"]
        assert "stalled</span> since" in client.get("/", headers=HTML).text
        page = client.get("/orders/A-1", headers=HTML).text
        assert "The whole stage is stalled</span>: no order has left SUBMITTED yet; 1 order waits for" in page
        assert client.get("/orders/A-1").json()["stage"]["state"] == "stalled"
        ended = client.get("/orders/A-2", headers=HTML).text
        assert "stage" not in ended
        assert stage(client, "PACKAGING")["state"] == "flowing"


def test_a_blind_stage_says_who_is_not_heard(tmp_path: Path) -> None:
    with hasty(tmp_path) as client:
        post(client, beat(), changed("A-1", "SUBMITTED", "FILE_UPLOADED"))
        wait_for(lambda: stage(client)["state"] == "blind")
        assert "pricing-worker has been quiet for" in stage(client)["evidence"]
        assert (
            "Nobody can tell how the stage does</span>: pricing-worker" in client.get("/orders/A-1", headers=HTML).text
        )


def test_a_flowing_stage_says_that_it_is_this_order(tmp_path: Path) -> None:
    with hasty(tmp_path) as client:
        long_ago = time.time_ns() - 3 * 86_400 * SECOND
        post(client, changed("A-1", occurred_at=long_ago), changed("A-2", "FILE_UPLOADED", "INITIATED"))
        wait_for(lambda: client.get("/orders/A-1").json()["stuck"])
        says = "The stage is flowing, so it is this order: an order left INITIATED"
        wait_for(lambda: says in client.get("/orders/A-1", headers=HTML).text)


def test_a_stage_that_no_order_has_left_yet_does_not_put_it_down_to_the_order(tmp_path: Path) -> None:
    with hasty(tmp_path) as client:
        post(client, changed("A-1", occurred_at=time.time_ns() - 3 * 86_400 * SECOND))
        wait_for(lambda: client.get("/orders/A-1").json()["stuck"])
        says = "Whether it is this order or its whole stage is not known: no order has left INITIATED"
        wait_for(lambda: says in client.get("/orders/A-1", headers=HTML).text)


def test_a_service_that_died_is_shown_even_if_it_moves_nothing(tmp_path: Path) -> None:
    with hasty(tmp_path) as client:
        post(client, beat("mes-api"), beat("crm-api"))
        wait_for(lambda: client.get("/stages").json()["quiet_services"])
        quiet = client.get("/stages").json()["quiet_services"]
        assert list(quiet) == ["mes-api"]  # the CRM may be silent for two minutes
        assert quiet["mes-api"].startswith("mes-api has been quiet for ")
        assert "mes-api has been quiet for " in client.get("/", headers=HTML).text


def test_a_service_that_runs_another_lifecycle_is_shown(tmp_path: Path) -> None:
    with hasty(tmp_path) as client:
        assert "another lifecycle" not in client.get("/", headers=HTML).text
        post(client, beat("crm-api", lifecycle_hash="<b>old</b>"))
        others = client.get("/stages").json()["other_lifecycles"]
        assert others == [{"service": "crm-api", "instances": 1, "hashes": ["<b>old</b>"]}]
        page = client.get("/", headers=HTML).text
        assert "crm-api runs another lifecycle" in page
        assert "&lt;b&gt;old" in page


def test_what_is_shown_holds_no_order(tmp_path: Path) -> None:
    with hasty(tmp_path, **FACT) as client:
        post(client, changed("ORDER-4711", "SUBMITTED", "FILE_UPLOADED"))
        wait_for(lambda: stage(client)["state"] == "stalled")
        assert "4711" not in json.dumps(client.get("/stages").json())
