"""The README beside the dashboards: what each is for, its questions, and its picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ORDER = ("overview", "queues", "services", "partners", "order", "capacity", "telemetry")
HEAD = """\
# Dashboards

Made by `otel-orders generate dashboards` from the lifecycle of the [reference pipeline](../examples/order_pipeline),
ready to mount; the project's README says how. Each panel asks a question; its description says what to do when the
answer looks bad, and its links lead to its alerts and their runbooks.

**The pictures are not Grafana's.** No Grafana server can be run in our tests. They are drawn by a plotter of our own
(`python -m tests.dashboards.picture`): the grid and the titles are those of the files, the data are what a real
Prometheus answers to the panels' own queries. It holds incidents that were recorded from the real pipeline
(`tests/alerts/recorded`), on a clock that ran faster, and each picture ends when the incident was mended. One order is
what a real ledger answers to that dashboard's queries. Traces and log lines are not drawn; neither is what takes weeks.
"""


def readme(boards: dict[str, dict[str, Any]]) -> str:
    """The text for *boards*, by file name."""
    return "\n".join([HEAD, *(line for name in ORDER for line in _board(name, boards[name]))])


def _board(name: str, board: dict[str, Any]) -> Iterator[str]:
    yield f"## {board['title']}\n"
    yield f"[`{name}.json`]({name}.json), uid `{board['uid']}`. {board['description']}\n"
    for panel in board["panels"]:
        if panel["type"] == "row":
            yield f"- **{panel['title']}**"
        else:
            yield f"  - {panel['title']}"
    yield f"\n![{board['title']}, drawn by our own plotter: not Grafana](pictures/{name}.svg)\n"
