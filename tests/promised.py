"""What the README promises about the services' metrics, and what a /metrics page really has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import Metric
    from prometheus_client.samples import Sample

README = (Path(__file__).parents[1] / "README.md").read_text()


def promised() -> dict[str, set[str]]:
    """Return the label names of each metric in the README's table."""
    table = README.split("### The services' metrics", 1)[1].split("\n## ", 1)[0]
    return {
        name: set(labels.split(",")) for name, labels in re.findall(r"^\| `(\w+)\{([\w,]+)\}`", table, re.MULTILINE)
    }


def scraped(url: str) -> list[Metric]:
    """Return the metrics of the page at *url*, as Prometheus would read it."""
    page = httpx.get(url, trust_env=False, follow_redirects=True).raise_for_status()
    return list(text_string_to_metric_families(page.text))


def found(metrics: Iterable[Metric], name: str, **labels: str) -> list[Sample]:
    """Return the samples of the metric *name* that have *labels*; of a histogram, its counts."""
    wanted = {name, f"{name}_count"}
    return [
        sample
        for metric in metrics
        for sample in metric.samples
        if sample.name in wanted and labels.items() <= sample.labels.items()
    ]


def label_names(metrics: Iterable[Metric]) -> dict[str, set[str]]:
    """Return the label names of each promised metric that has samples."""
    return {name: set(samples[0].labels) for name in promised() if (samples := found(metrics, name))}
