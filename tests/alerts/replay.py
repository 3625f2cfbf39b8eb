"""All recorded incidents in one real Prometheus, one after the other, with what our rules record of them.

stored(prometheus_program, promtool, folder)
with replayed(prometheus_program, folder) as replay:
    replay.prometheus.ask("query_range", query=..., **replay.spans["broker down"].asked())
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import yaml

from tests.alerts.prometheus import Prometheus
from tests.alerts.recordings import names, read
from tests.alerts.running import started
from tests.alerts.timeline import moved
from tests.alerts.tools import RULES, rules

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.alerts.recordings import Recorded
    from tests.alerts.tools import Tool

BEGAN: Final = 1_767_571_200
"""Unix seconds: Monday, 5 January 2026, 00:00 UTC, when the first incident begins."""
APART: Final = 3 * 3_600
"""Seconds from the beginning of one incident to that of the next; none is longer."""
_LONG_BLOCKS: Final = "--max-block-duration=360h"
_NO_MARKS: Final = "--query.lookback-delta=75s"
"""Blocks that are made of text have no marks where a series ended: it counts as gone after two scrapes instead."""


class Span(NamedTuple):
    """When an incident is, in unix seconds.  fault: when it went wrong."""

    began: int
    fault: int
    ended: int

    def asked(self, step: int = 60) -> dict[str, str]:
        """Return the parameters of a range query over all of it."""
        return {"start": str(self.began), "end": str(self.ended), "step": str(step)}


class Replay(NamedTuple):
    """A started Prometheus, and when each incident is in it."""

    prometheus: Prometheus
    spans: dict[str, Span]

    @property
    def all_of_it(self) -> dict[str, str]:
        """Return the parameters of a query over all incidents."""
        return {"start": str(BEGAN), "end": str(max(span.ended for span in self.spans.values()))}

    def whole(self, query: str) -> dict[str, Any]:
        """Return Prometheus' whole answer to *query* over all incidents, warnings included."""
        return self.prometheus.answer("query_range", query=query, step="300", **self.all_of_it)

    def values(self, query: str, incident: str) -> list[dict[str, Any]]:
        """Return the series that *query* has during *incident*, a sample a minute."""
        return list(self.prometheus.ask("query_range", query=query, **self.spans[incident].asked())["result"])


@contextmanager
def replayed(program: str, folder: Path) -> Iterator[Replay]:
    """Run Prometheus on what *stored* made in *folder*."""
    spans = {name: _span(recorded) for name, recorded in _incidents().items()}
    with _prometheus(program, folder) as found:
        yield Replay(found, spans)


def stored(program: str, promtool: Tool, folder: Path) -> None:
    """Make the data of a Prometheus that holds all recordings, in *folder*."""
    incidents = _incidents().values()
    for recorded in incidents:
        (folder / "incident.om").write_text(recorded.open_metrics())
        backfill(promtool, folder, "openmetrics", folder / "incident.om", folder / "data")
    end = max(_span(recorded).ended for recorded in incidents)
    for level in levels():
        (folder / "level.yaml").write_text(yaml.safe_dump({"groups": [{"name": "level", "rules": level}]}))
        with _prometheus(program, folder) as found:
            options = (f"--url={found.url}", f"--start={BEGAN}", f"--end={end}", f"--output-dir={folder / 'data'}")
            backfill(promtool, folder, "rules", *options, "--eval-interval=60s", folder / "level.yaml")


def _incidents() -> dict[str, Recorded]:
    return {name: moved(read(name), BEGAN + place * APART) for place, name in enumerate(names())}


def backfill(promtool: Tool, folder: Path, kind: str, *arguments: object) -> None:
    """Make blocks of what *arguments* say, as promtool has them."""
    promtool("tsdb", "create-blocks-from", kind, "--quiet", _LONG_BLOCKS, *arguments, cwd=folder)


def _span(recorded: Recorded) -> Span:
    ended = recorded.began + (recorded.scrapes - 1) * recorded.every
    return Span(recorded.began, recorded.began + recorded.fault, ended)


def levels() -> list[list[dict[str, Any]]]:
    """Return all recording rules, those first that need none of the others."""
    left = [rule for rule in rules(*RULES) if "record" in rule]
    found = []
    while left:
        unknown = {rule["record"] for rule in left}
        ready = [rule for rule in left if not unknown & set(re.findall(r"[a-z_]+:[a-z0-9_:]+", rule["expr"]))]
        assert ready, left
        found.append(ready)
        left = [rule for rule in left if rule not in ready]
    return found


@contextmanager
def _prometheus(program: str, folder: Path) -> Iterator[Prometheus]:
    (folder / "prometheus.yaml").write_text(yaml.safe_dump({"global": {"scrape_interval": "1m"}}))
    arguments = [
        f"--config.file={folder}/prometheus.yaml",
        f"--storage.tsdb.path={folder}/data",
        "--storage.tsdb.retention.time=100y",
        _NO_MARKS,
    ]
    with started([program, *arguments], folder / "log") as url:
        yield Prometheus(url)
