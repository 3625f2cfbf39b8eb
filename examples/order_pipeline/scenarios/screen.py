"""Draw what the ledger says: the board, and the story of an order.  Knows no HTTP and judges nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.table import Table

from otel_orders import names

if TYPE_CHECKING:
    from examples.order_pipeline.scenarios.reading import Stage, Story


OVER = ("CLOSED", "CANCELLED")
"""Statuses in which an order stays for good."""


def board_table(board: list[Stage], now: float) -> Table:
    """Return the board.  now: unix seconds."""
    table = Table(title="Where the orders are", title_justify="left")
    table.add_column("status")
    table.add_column("whose move")
    for number in ("orders", "oldest", "stuck after", "stuck"):
        table.add_column(number, justify="right")
    for stage in board:
        if stage.terminal:
            table.add_row(stage.status, "-", f"{stage.entered}", "", "", "", style="dim")
            continue
        oldest = "" if stage.oldest is None else duration(now - stage.oldest)
        limit = "" if stage.stuck_after is None else duration(stage.stuck_after)
        style = "bold red" if stage.stuck else "" if stage.orders else "dim"
        table.add_row(stage.status, stage.owner, f"{stage.orders}", oldest, limit, f"{stage.stuck}", style=style)
    return table


def story_table(title: str, told: Story, now: float) -> Table:
    """Return the story of an order: each status, who put it there, how long it stayed, and the trace."""
    state = f"stuck in {told.status}" if told.stuck else f"in {told.status}"
    whose = f" of {told.partner_id}" if told.partner_id else ""
    table = Table(title=f"{title}: order {told.order_id}{whose}, {state}", title_justify="left")
    for column in ("time (UTC)", "status", "service", "stayed", "trace"):
        table.add_column(column, no_wrap=True, justify="right" if column == "stayed" else "left")
    left_at = iter([*(move.at for move in told.entered[1:]), None if told.status in OVER else now])
    for move in told.moves:
        at = datetime.fromtimestamp(move.at, UTC).strftime("%H:%M:%S.%f")[:-3]
        if move.event_type == names.TRANSITION_FAILED:
            what, stayed, style = f"  {move.to_status} failed: {move.error_code}", "", "red"
        else:
            left = next(left_at)
            what, stayed, style = move.to_status, "" if left is None else duration(left - move.at), ""
        table.add_row(at, what, move.service, stayed, move.trace_id or "(cannot trace)", style=style)
    return table


def duration(seconds: float) -> str:
    """Return *seconds* for people: in one unit, with two digits at least."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
