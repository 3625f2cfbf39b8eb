"""Draw what the ledger says: the board, and the story of an order.  Knows no HTTP and judges nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import zip_longest
from typing import TYPE_CHECKING

from rich.table import Table

from otel_orders import names

if TYPE_CHECKING:
    from examples.order_pipeline.scenarios.reading import Stage, Story


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
    left_at = [move.at for move in told.entered[1:]]
    stays = dict(zip_longest(told.entered, left_at, fillvalue=now))
    for move in told.moves:
        at = datetime.fromtimestamp(move.at, UTC).strftime("%H:%M:%S.%f")[:-3]
        if move.event_type == names.TRANSITION_FAILED:
            table.add_row(
                at, f"  {move.to_status} failed: {move.error_code}", move.service, "", move.trace_id, style="red"
            )
            continue
        is_last = move is told.entered[-1]
        stayed = "" if is_last and told.status == "CLOSED" else duration(stays[move])
        table.add_row(at, move.to_status, move.service, stayed, move.trace_id or "(cannot trace)")
    return table


def duration(seconds: float) -> str:
    """Return *seconds* for people."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"
