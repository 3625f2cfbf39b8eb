"""The demo judges itself: it must find whatever the ledger gets wrong, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from examples.order_pipeline.scenarios.pipeline import LIFECYCLE
from examples.order_pipeline.scenarios.reading import Move, Stage, Story
from examples.order_pipeline.scenarios.verdict import WHOLE_WAY, Sent, mistakes
from otel_orders.lifecycle import load_lifecycle

if TYPE_CHECKING:
    from collections.abc import Callable

SENT = Sent(finished=["s", "r", "p"], partner_of={"p": "acme"}, slow="s", rejected="x", lost="l")
TRACE = "0af7651916cd43dd8448eb211c80319c"


def move(status: str, *, took: float = 0.001, trace_id: str = TRACE, error_code: str | None = None) -> Move:
    kind = "order.transition_failed" if error_code else "order.status_changed"
    if status == "PACKAGING":
        return Move(0, kind, status, "legacy-mes", "", 0, None)
    return Move(0, kind, status, "some-api", trace_id, took, error_code)


def finished(order_id: str, partner_id: str | None = None, *, pricing: float = 0.001) -> Story:
    moves = [move(status, took=pricing) for status in WHOLE_WAY]
    return Story(order_id, partner_id, "CLOSED", stuck=False, moves=moves)


def right_board() -> dict[str, Stage]:
    orders = {"SUBMITTED": 1, "PRICE_REJECTED": 1}
    return {
        status.name: Stage(
            status=status.name,
            owner=status.owner,
            terminal=status.terminal,
            orders=orders.get(status.name, 0),
            stuck=int(status.name == "SUBMITTED"),
            entered=3 if status.name == "CLOSED" else 0,
            oldest=None,
            stuck_after=1.0,
        )
        for status in load_lifecycle(LIFECYCLE).statuses.values()
    }


def right_stories() -> dict[str, Story]:
    rejected = [
        *map(move, WHOLE_WAY[:3]),
        move("PRICE_CALCULATED", error_code="not_watertight"),
        move("PRICE_REJECTED"),
    ]
    return {
        "s": finished("s", pricing=2.0),
        "r": finished("r"),
        "p": finished("p", "acme"),
        "x": Story("x", None, "PRICE_REJECTED", stuck=False, moves=rejected),
        "l": Story("l", None, "SUBMITTED", stuck=True, moves=[*map(move, WHOLE_WAY[:3])], stage="flowing"),
    }


def test_nothing_is_wrong_when_everything_is_right() -> None:
    assert list(mistakes(SENT, list(right_board().values()), right_stories())) == []


@pytest.mark.parametrize(
    ("status", "change", "expected"),
    [
        ("CLOSED", {"entered": 2}, "4 orders are accounted for, 5 were sent"),
        ("PACKAGING", {"orders": 1}, "PACKAGING: 1 orders, expected 0"),
        ("SUBMITTED", {"stuck": 0}, "SUBMITTED: 0 orders are stuck"),
        ("PRICE_REJECTED", {"stuck": 1}, "PRICE_REJECTED: 1 orders are stuck"),
    ],
)
def test_a_wrong_board_is_found(status: str, change: dict[str, Any], expected: str) -> None:
    board = right_board()
    board[status] = board[status]._replace(**change)
    assert expected in mistakes(SENT, list(board.values()), right_stories())


def without_packaging(told: Story) -> Story:
    return told._replace(moves=[each for each in told.moves if each.to_status != "PACKAGING"])


def without_trace(told: Story) -> Story:
    return told._replace(moves=[each._replace(trace_id="") for each in told.moves])


@pytest.mark.parametrize(
    ("order_id", "change"),
    [
        pytest.param("r", without_packaging, id="a status is missing"),
        pytest.param("r", lambda told: told._replace(moves=told.moves[:-1]), id="the last status is missing"),
        pytest.param("r", lambda told: told._replace(moves=told.moves + told.moves[-1:]), id="a status comes twice"),
        pytest.param("r", without_trace, id="no traces"),
        pytest.param("l", without_trace, id="no traces of the lost one"),
        pytest.param("p", lambda told: told._replace(partner_id=None), id="the partner is missing"),
        pytest.param("l", lambda told: told._replace(stuck=False), id="the lost one is not stuck"),
        pytest.param("l", lambda told: told._replace(stage="stalled"), id="its stage is called stalled"),
        pytest.param("l", lambda told: told._replace(evidence="queue q holds 1"), id="its message is still there"),
        pytest.param("x", lambda told: told._replace(moves=told.moves[:3]), id="no reason for the rejection"),
        pytest.param("s", lambda _told: finished("s"), id="the slow one is not slow"),
    ],
)
def test_a_wrong_story_is_found(order_id: str, change: Callable[[Story], Story]) -> None:
    stories = right_stories()
    stories[order_id] = change(stories[order_id])
    found = list(mistakes(SENT, list(right_board().values()), stories))
    assert len({mistake.partition(":")[0] for mistake in found}) == 1
    assert found[0].startswith(f"{order_id}: ")
