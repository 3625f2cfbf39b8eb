"""Read every /metrics page at a fixed pace, as Prometheus would, and keep what rules and dashboards may ask for."""

from __future__ import annotations

import re
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, NamedTuple

import httpx
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from examples.order_pipeline.scenarios.hurried import Clock

EVERY: Final = 30
"""Seconds of the hurried clock between two scrapes."""
ANSWER_SECONDS: Final = 3.0
"""Real seconds: nobody's answers are hurried."""
LEFT_OUT: Final = re.compile(
    r"python_|process_(?!start_time)|.+_created$|(http|rpc)_(?!server|client_request)|promhttp_|scrape_|otelcol_.*(_size_bytes|_bytes|_bucket|_sum|_count)$"
)
"""What no rule and no panel asks for."""
_OF_COLLECTOR: Final = re.compile("otelcol_")


class Target(NamedTuple):
    """Who is scraped."""

    job: str
    instance: str
    url: str


class Page(NamedTuple):
    """What a target said at the *n*th scrape; None where it did not answer."""

    n: int
    job: str
    instance: str
    text: str | None


class Sample(NamedTuple):
    """One value of one series at the *n*th scrape."""

    name: str
    labels: tuple[tuple[str, str], ...]
    n: int
    value: float


class Scraper:
    """Scrapes each target by itself, so that one which hangs costs only its own samples."""

    def __init__(self, clock: Clock, targets: Callable[[], list[Target]]) -> None:
        self._clock = clock
        self._targets = targets
        self._asked: dict[str, Future[Page]] = {}
        self._pages: list[Future[Page]] = []
        self.began = clock.now()

    def until(self, seconds: float) -> list[Page]:
        """Scrape up to so many *seconds* of the clock after the beginning; return what was said."""
        client = httpx.Client(trust_env=False, timeout=ANSWER_SECONDS, follow_redirects=True)
        with client, ThreadPoolExecutor(max_workers=16) as pool:
            for n in range(int(seconds // EVERY) + 1):
                self._clock.sleep_until(self.began + n * EVERY)
                for target in self._targets():
                    before = self._asked.get(target.instance)
                    if before is None or before.done():
                        self._asked[target.instance] = pool.submit(_page, client, n, target)
                        self._pages.append(self._asked[target.instance])
        return [page.result() for page in self._pages]


def _page(client: httpx.Client, n: int, target: Target) -> Page:
    try:
        text = client.get(target.url, headers={"Accept": "text/plain"}).raise_for_status().text
    except httpx.HTTPError:
        text = None
    return Page(n, target.job, target.instance, text)


def samples(pages: list[Page]) -> Iterator[Sample]:
    """Yield what Prometheus would store of *pages*, `up` included."""
    for n, job, instance, text in pages:
        scrape = (("instance", instance), ("job", job))
        yield Sample("up", scrape, n, float(text is not None))
        for family in text_string_to_metric_families(text or ""):
            for sample in family.samples:
                if _is_kept(sample.name, job):
                    labels = tuple(sorted((sample.labels | dict(scrape)).items()))
                    yield Sample(sample.name, labels, n, sample.value)


def _is_kept(name: str, job: str) -> bool:
    if job == "otelcol":
        return bool(_OF_COLLECTOR.match(name)) and not LEFT_OUT.match(name)
    return not LEFT_OUT.match(name)
