"""What each recorded incident told whom, and when: for the table in alerts/README.md, and for who changes rules.

.venv/bin/python -m tests.alerts.incident_table [NAME ...]      shows all that fires
.venv/bin/python -m tests.alerts.incident_table --write         writes the table anew
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.alerts.recordings import Recorded, names, read
from tests.alerts.timeline import timeline
from tests.alerts.told import Notice, notices, own_alertmanager, unsilenced
from tests.alerts.tools import ALERTS, Tool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.alerts.running import Alertmanager

README: Final = ALERTS / "README.md"
TABLE: Final = re.compile(r"(?<=<!-- incidents -->\n).*?(?=<!-- end -->)", re.DOTALL)
_HEAD: Final = "| incident | page | after | messages | silenced meanwhile |\n|---|---|---|---|---|\n"


class Outcome(NamedTuple):
    """What an incident led to.  told: what reached people.  silenced: what fired, and was not told."""

    recorded: Recorded
    told: list[Notice]
    silenced: list[Notice]

    @property
    def pages(self) -> list[Notice]:
        return [notice for notice in self.told if notice.pages]

    @property
    def messages(self) -> list[Notice]:
        return [notice for notice in self.told if not notice.pages]


def outcome(recorded: Recorded, promtool: Tool, manager: Alertmanager, folder: Path) -> Outcome:
    """Return what *recorded* leads to by today's rules and Alertmanager's config."""
    firing = timeline(recorded, promtool, folder)
    told = unsilenced(firing, manager, recorded.name)
    silenced = {minute: found - told[minute] for minute, found in firing.items()}
    fault = recorded.fault / 60
    return Outcome(recorded, notices(told, fault), notices(silenced, fault))


def table(outcomes: list[Outcome]) -> str:
    """Return the table of README.md."""
    return _HEAD + "".join(map(_row, outcomes))


def _row(found: Outcome) -> str:
    pages = "<br>".join(f"{page.alertname} ({page.where})" if page.where else page.alertname for page in found.pages)
    after = "<br>".join(f"{page.after:.0f} min" for page in found.pages)
    told = {notice.alertname for notice in found.told}
    messages = ", ".join(dict.fromkeys(notice.alertname for notice in found.messages))
    silenced = ", ".join(sorted({notice.alertname for notice in found.silenced} - told))
    return f"| {found.recorded.name} | {pages or '-'} | {after or '-'} | {messages or '-'} | {silenced or '-'} |\n"


def _lines(found: Outcome) -> Iterator[str]:
    yield f"{found.recorded.name}: {found.recorded.fault / 60:.1f} to {found.recorded.mended / 60:.1f} min"
    for how, listed in (("told", found.told), ("silenced", found.silenced)):
        for notice in listed:
            yield f"  {how:8} {notice.severity:8} {notice.after:6} +{notice.lasts:<3} {notice.alertname} {notice.where}"


def main(wanted: list[str]) -> None:
    with tempfile.TemporaryDirectory() as made, own_alertmanager("prometheus-alertmanager", Path(made)) as manager:
        found = [
            outcome(read(name), Tool("promtool"), manager, Path(made))
            for name in (wanted if wanted != ["--write"] else []) or names()
        ]
    if wanted == ["--write"]:
        README.write_text(TABLE.sub(table(found), README.read_text()))
    sys.stdout.write("".join(f"{line}\n" for one in found for line in _lines(one)))


if __name__ == "__main__":
    main(sys.argv[1:])
