"""The demo: 18 orders through all services, three kinds of trouble, and what the ledger says about them.

    python -m examples.order_pipeline.scenarios.demo

KEEP=1 in the environment leaves it running until Ctrl-C.  Ends with status 0 only if what it shows is right.
Everything is stopped and removed afterwards.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import httpx
from rich.console import Console

from examples.order_pipeline.scenarios import screen, support
from examples.order_pipeline.scenarios.broker import BrokerUnavailable, broker
from examples.order_pipeline.scenarios.corner import own_corner
from examples.order_pipeline.scenarios.partner_server import partner_server
from examples.order_pipeline.scenarios.pipeline import LIFECYCLE, Pipeline
from examples.order_pipeline.scenarios.play import play
from examples.order_pipeline.scenarios.processes import ServiceFailedError, Services
from examples.order_pipeline.scenarios.reading import NOWHERE, Stage, Story, board, story
from examples.order_pipeline.scenarios.sidecar import start_ledger, store_url
from examples.order_pipeline.scenarios.verdict import Sent, mistakes, pricing_seconds
from otel_orders.lifecycle import load_lifecycle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from examples.order_pipeline.scenarios.partner_server import PartnerServer

SETTLE_WITHIN = 45.0
"""Seconds after the last order in which the ledger must come to be right about all of them."""
LOOK_EVERY = 0.5
INTERRUPTED = 130


class Seen(NamedTuple):
    """What the ledger says at one time, and what is wrong with it."""

    board: list[Stage]
    stories: dict[str, Story]
    wrong: list[str]


class Asked(NamedTuple):
    """What a partner asked support about, and the order id that support found, empty for none."""

    order_id: str
    partner_id: str
    reference: str
    found: str


def main() -> int:
    """Run the demo; return the exit status."""
    console = Console(width=None if sys.stdout.isatty() else 132)
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, _interrupt)
    try:
        return run(console, keep=os.environ.get("KEEP") == "1")
    except (BrokerUnavailable, ServiceFailedError, httpx.HTTPError) as error:
        console.print(f"The demo cannot run: {error}", markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("Interrupted; everything is stopped and removed.")
        return INTERRUPTED


def run(console: Console, *, keep: bool) -> int:
    """Play, look, show; return 0 if what was seen is right."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="otel-orders-demo-")))
        console.print("Starting RabbitMQ, the ledger and six services ...")
        rabbitmq = stack.enter_context(broker())
        amqp_url = stack.enter_context(own_corner(rabbitmq))
        services = stack.enter_context(Services(folder, _settings(folder)))
        journal = folder / "legacy-mes.jsonl"  # of the one service that cannot send it anything
        ledger_url = start_ledger(services, folder, journal, rabbitmq, amqp_url).address()
        partner = stack.enter_context(partner_server())
        pipeline = Pipeline(services, folder, amqp_url, partner.url, OTEL_EXPORTER_OTLP_ENDPOINT=ledger_url)
        ledger = stack.enter_context(httpx.Client(base_url=ledger_url, timeout=10, trust_env=False))
        sent = play(console.print, pipeline, amqp_url)
        asked = ask_support(ledger, pipeline, sent, store_url(folder))
        seen = settle(ledger, sent)
        seen.wrong.extend(partner_mistakes(sent, asked, partner))
        show(console, sent, seen)
        console.print(
            f"{asked.partner_id} asks about {asked.reference}; `otel-orders resolve` says it is {asked.found}."
        )
        where = addresses(pipeline, folder, ledger_url, sent.lost, rabbitmq.management_url)
        console.print(where, highlight=False, soft_wrap=True)
        status = judge(console, sent, seen, services)
        if keep:
            _wait_for_interrupt(console)
        else:
            console.print("It stops now; KEEP=1 leaves it running.")
    return status


def ask_support(ledger: httpx.Client, pipeline: Pipeline, sent: Sent, store: str) -> Asked:
    """Ask as a partner does about an order of which the ledger has heard, by its reference."""
    order_id, partner_id = next(iter(sent.partner_of.items()))
    deadline = time.monotonic() + SETTLE_WITHIN
    while story(ledger, order_id).status == NOWHERE and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY)
    with pipeline.client("b2b-api") as b2b:
        reference = support.order_ref(b2b, pipeline.keys[partner_id], order_id)
    return Asked(order_id, partner_id, reference, support.resolve(reference, store, pipeline.pseudonym_key))


def partner_mistakes(sent: Sent, asked: Asked, partner: PartnerServer) -> Iterator[str]:
    """Yield what is wrong about what partners were told."""
    if asked.found != asked.order_id:
        yield f"{asked.reference} was resolved to {asked.found or 'no order'}, expected {asked.order_id}"
    if len(partner.notices) != len(sent.partner_of):
        yield f"partners were told of {len(partner.notices)} parcels, expected {len(sent.partner_of)}"


def settle(ledger: httpx.Client, sent: Sent) -> Seen:
    """Look until everything is right, or for SETTLE_WITHIN seconds."""
    lifecycle = load_lifecycle(LIFECYCLE)
    deadline = time.monotonic() + SETTLE_WITHIN
    while True:
        stages = board(ledger, lifecycle)
        stories = {order_id: story(ledger, order_id) for order_id in sent.all}
        seen = Seen(stages, stories, list(mistakes(sent, stages, stories)))
        if not seen.wrong or time.monotonic() > deadline:
            return seen
        time.sleep(LOOK_EVERY)


def show(console: Console, sent: Sent, seen: Seen) -> None:
    """Draw the board and the two stories."""
    now = time.time()
    good = seen.stories[next(iter(sent.partner_of))]
    console.print()
    console.print(screen.board_table(seen.board, now))
    console.print()
    console.print(screen.story_table("A good one", good, now))
    console.print()
    stuck = seen.stories[sent.lost]
    console.print(screen.story_table("The stuck one", stuck, now))
    answer = f"The order, the stage or the telemetry? {stuck.status} is {stuck.stage}: {stuck.evidence}."
    console.print(answer, highlight=False, soft_wrap=True)
    slow, usual = (screen.duration(pricing_seconds(told)) for told in (seen.stories[sent.slow], good))
    console.print(f"The slow one: order {sent.slow} took {slow} to price, the good one {usual}.")


def addresses(pipeline: Pipeline, folder: Path, ledger_url: str, order_id: str, management_url: str | None) -> str:
    """Say where everything is."""
    instrumented = {name: address for name, address in pipeline.addresses.items() if name != "legacy-mes"}
    lines = [
        "",
        f"Web:      {ledger_url}/ (the board), {ledger_url}/orders/{order_id} (the stuck order)",
        *(f"Metrics:  {address}/metrics ({name})" for name, address in {"ledger": ledger_url, **instrumented}.items()),
        f"Logs:     {folder}/events.jsonl (every event and log line), {folder}/*.log",
        f"RabbitMQ: {management_url or 'shows no web page'}",
    ]
    return "\n".join(lines)


def judge(console: Console, sent: Sent, seen: Seen, services: Services) -> int:
    """Say whether it was right; return the exit status."""
    if not seen.wrong:
        console.print(f"[green]All {len(sent.all)} orders are accounted for, and the stuck one was found.[/]")
        return 0
    console.print("[red]This is wrong:[/]", *seen.wrong, sep="\n  ")
    for service in services.ended():
        console.print(f"{service.name} has ended:", service.last_lines(), sep="\n", markup=False)
    return 1


def _settings(folder: Path) -> dict[str, str]:
    """Return the environment that all services share; this is all that a deployment configures."""
    return {
        "OTEL_ORDERS_LIFECYCLE": str(LIFECYCLE),
        "OTEL_ORDERS_HEARTBEAT": "3s",
        "OTEL_ORDERS_JSON_LINES": str(folder / "events.jsonl"),
    }


def _wait_for_interrupt(console: Console) -> None:
    console.print("Running until Ctrl-C ...")
    try:
        while True:
            signal.pause()
    except KeyboardInterrupt:
        console.print("Stopping ...")


def _interrupt(_signal: int, _frame: object) -> None:
    """Interrupt once: a second Ctrl-C shall not keep us from cleaning up."""
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
