"""Draw all dashboards anew: ``python -m tests.dashboards.picture`` writes dashboards/pictures and dashboards/README.md.

What is drawn was recorded from the real pipeline, and is asked of a real Prometheus, up to the moment when the incident
was mended.  The story of one order is told by a real ledger.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.alerts.recordings import read
from tests.alerts.replay import replayed, stored
from tests.alerts.tools import Tool
from tests.dashboards.boards import BOARDS, DASHBOARDS, asked
from tests.dashboards.picture.one_order import ORDER, TOLD_OF, events
from tests.dashboards.picture.plotter import Shown, drawn
from tests.dashboards.picture.readme import readme
from tests.dashboards.picture.series import answers, choices
from tests.dashboards.told import told
from tests.integration.processes import running

if TYPE_CHECKING:
    import httpx

    from tests.alerts.replay import Replay
    from tests.dashboards.boards import Panel
    from tests.dashboards.picture.series import Rows, Series

CHOSEN = {"status": "SUBMITTED"}
SHOWN = {
    "services": "broker down",
    "partners": "partner flood",
    "capacity": "partner flood",
    "telemetry": "Collector dead",
}
"""Which incident a picture shows; the others show one that has something to say on each."""
USUALLY = "dead pricing consumer"


def main() -> None:
    programs = {name: shutil.which(name) for name in ("prometheus", "promtool")}
    if None in programs.values():
        sys.exit("this needs prometheus and promtool: apt-get install prometheus")
    (DASHBOARDS / "pictures").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        data, ledger = Path(folder, "prometheus"), Path(folder, "ledger")
        data.mkdir()
        ledger.mkdir()
        _put("order", of_one_order(ledger))
        stored(str(programs["prometheus"]), Tool(str(programs["promtool"])), data)
        with replayed(str(programs["prometheus"]), data) as replay:
            for name, board in BOARDS.items():
                if name != "order":
                    _put(name, of_an_incident(board, SHOWN.get(name, USUALLY), replay))
    (DASHBOARDS / "README.md").write_text(readme(BOARDS))


def _put(name: str, picture: str) -> None:
    (DASHBOARDS / "pictures" / f"{name}.svg").write_text(picture)
    print(f"{name}: drawn")  # noqa: T201 - a command


def of_an_incident(board: dict[str, Any], incident: str, replay: Replay) -> str:
    """What *board* shows of an incident, from its beginning until it was mended."""
    began = replay.spans[incident].began
    end = began + read(incident).mended // 60 * 60
    chosen = choices(board, CHOSEN)

    def ask(query: str) -> list[dict[str, Any]]:
        times = {"start": str(began), "end": str(end), "step": "60"}
        return list(replay.prometheus.ask("query_range", query=query, **times)["result"])

    def series(panel: Panel) -> list[Series]:
        recorded = not any("ALERTS" in expr for expr in asked(panel))
        return answers(panel, ask, chosen, end) if recorded else []

    return drawn(board, Shown(f"A recorded incident, replayed: {incident}.", (began, end), chosen, series, None))


def of_one_order(folder: Path) -> str:
    """What One order shows of an order that a ledger was told of just now."""
    board = BOARDS["order"]
    chosen = choices(board, {"order_id": ORDER})
    with running(folder) as started, started.client() as ledger:
        ledger.post("/events", content=events()).raise_for_status()
        now = time.time()
        return drawn(board, Shown(TOLD_OF, (now, now), chosen, lambda _: [], _told(ledger, chosen)))


def _told(ledger: httpx.Client, chosen: dict[str, str]) -> Any:
    def rows(panel: Panel) -> Rows:
        return told(panel["targets"][0], ledger, chosen)

    return rows


if __name__ == "__main__":
    main()
