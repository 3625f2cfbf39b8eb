"""Draw all dashboards anew: ``python -m tests.dashboards.picture`` writes dashboards/pictures and dashboards/README.md.

What is drawn was recorded from the real pipeline, and is asked of a real Prometheus, up to the moment when the incident
was mended.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.alerts.recordings import read
from tests.alerts.replay import replayed
from tests.alerts.tools import Tool
from tests.dashboards.boards import BOARDS, DASHBOARDS
from tests.dashboards.picture.plotter import drawn
from tests.dashboards.picture.readme import readme
from tests.dashboards.picture.series import answers, choices

if TYPE_CHECKING:
    from tests.alerts.replay import Replay
    from tests.dashboards.boards import Panel
    from tests.dashboards.picture.series import Series

CHOSEN = {"status": "SUBMITTED"}
SHOWN = {
    "services": "CRM down",
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
    with (
        tempfile.TemporaryDirectory() as folder,
        replayed(str(programs["prometheus"]), Tool(str(programs["promtool"])), Path(folder)) as replay,
    ):
        (DASHBOARDS / "pictures").mkdir(exist_ok=True)
        for name, board in BOARDS.items():
            (DASHBOARDS / "pictures" / f"{name}.svg").write_text(picture(board, SHOWN.get(name, USUALLY), replay))
            print(f"{name}: drawn")  # noqa: T201 - a command
    (DASHBOARDS / "README.md").write_text(readme(BOARDS))


def picture(board: dict[str, Any], incident: str, replay: Replay) -> str:
    """What *board* shows of an incident, from its beginning until it was mended."""
    span, mended = replay.spans[incident], read(incident).mended
    until = {"start": str(span.began), "end": str(span.began + mended), "step": "60"}
    chosen = choices(board, CHOSEN)

    def answered(panel: Panel) -> list[Series]:
        return answers(
            panel, lambda query: replay.prometheus.ask("query_range", query=query, **until)["result"], chosen
        )

    return drawn(board, answered, chosen, f"A recorded incident, replayed: {incident}.")


if __name__ == "__main__":
    main()
