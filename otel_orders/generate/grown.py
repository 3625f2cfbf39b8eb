"""What a counter of rare things grew by, its first time included.  Pure."""

from __future__ import annotations


def grown(metric: str, selector: str, window: str) -> str:
    """Return how much *metric* grew in *window*, by series.

    A counter's series appears with its first count, and increase() sees no growth in a first sample: the first dead
    letter would be missed.  So a series that was not there *window* ago counts whole, if its process was scraped then:
    neither a scrape that failed, nor a series of the same process before its restart, says anything else.
    """
    series = f"{metric}{{{selector}}}"
    return (
        f"(({series} unless {series} offset {window})\n"
        f"   and on (job, instance) (up offset {window} == 1))\n"
        f"  or increase({series}[{window}])"
    )
