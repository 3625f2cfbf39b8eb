"""Recorded incidents: what Prometheus would have stored, and what happened when.

A file has a line for each series, with its values scrape by scrape as promtool writes them.
"""

from __future__ import annotations

import json
import lzma
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.alerts.recording.faults import Incident
    from tests.alerts.recording.scraping import Page, Sample

FOLDER: Final = Path(__file__).with_name("recorded")


class Recorded(NamedTuple):
    """One incident.

    began: unix seconds, of the first scrape.  every: seconds between two scrapes.  fault, mended: seconds since then.
    speed: how many of these seconds passed in a real one.  series: values by scrape's number, by series.
    """

    name: str
    began: int
    every: int
    scrapes: int
    fault: int
    mended: int
    speed: float
    lifecycle: list[list[str]]
    series: dict[str, dict[int, str]]

    @property
    def about(self) -> dict[str, Any]:
        """Everything but the series."""
        return {name: value for name, value in self._asdict().items() if name != "series"}

    @classmethod
    def of(cls, incident: Incident, began: float, pages: list[Page], fault: float, mended: float) -> Self:
        """Return what *pages* say."""
        from tests.alerts.recording.scraping import EVERY, samples  # noqa: PLC0415 - only who records needs its clients

        series: dict[str, dict[int, str]] = {}
        for sample in samples(pages):
            series.setdefault(_written(sample), {})[sample.n] = _number(sample.value)
        return cls(
            *(incident.name, round(began), EVERY, max(page.n for page in pages) + 1),
            *(round(fault), round(mended), incident.speed, [list(pair) for pair in incident.lifecycle]),
            dict(sorted(series.items())),
        )

    def open_metrics(self) -> str:
        """Return it as Prometheus' own tools read it."""
        lines = (
            f"{series} {value} {self.began + n * self.every}\n"
            for series, values in self.series.items()
            for n, value in values.items()
        )
        return "".join(lines) + "# EOF\n"


def runs(values: dict[int, str], scrapes: int) -> str:
    """Return *values* by scrape's number in promtool's notation: `0x3 1 _x2` is 0 four times, 1, and nothing twice."""
    each = (values.get(n) for n in range(scrapes))
    found = []
    for value, same in groupby(each):
        count = len(list(same))
        if value is None:
            found.append(f"_x{count}")
        else:
            found.append(value if count == 1 else f"{value}x{count - 1}")
    return " ".join(found)


def values_of(text: str) -> dict[int, str]:
    """Return the values that *runs* has written."""
    found: dict[int, str] = {}
    n = 0
    for run in text.split():
        value, _, more = run.partition("x")
        count = int(more or 0) + (value != "_")
        if value != "_":
            found |= dict.fromkeys(range(n, n + count), value)
        n += count
    return found


def _written(sample: Sample) -> str:
    labels = ",".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in sample.labels)
    return f"{sample.name}{{{labels}}}"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(round(value, 6))


def write(recorded: Recorded) -> None:
    """Keep it in FOLDER, in the place of an older one of that name."""
    FOLDER.mkdir(exist_ok=True)
    stem = recorded.name.replace(" ", "_")
    (FOLDER / f"{stem}.json").write_text(json.dumps(recorded.about, indent=2) + "\n")
    lines = (f"{series} {runs(values, recorded.scrapes)}\n" for series, values in recorded.series.items())
    (FOLDER / f"{stem}.series.xz").write_bytes(lzma.compress("".join(lines).encode()))


def read(name: str) -> Recorded:
    """Return the incident of that *name*."""
    stem = name.replace(" ", "_")
    about = json.loads((FOLDER / f"{stem}.json").read_text())
    text = lzma.decompress((FOLDER / f"{stem}.series.xz").read_bytes()).decode()
    lines = (line.rpartition("} ") for line in text.splitlines())
    return Recorded(**about, series={f"{series}}}": values_of(values) for series, _, values in lines})


def names() -> Iterable[str]:
    """Return what was recorded."""
    return sorted(json.loads(file.read_text())["name"] for file in FOLDER.glob("*.json"))
