"""What is absent, for each environment apart: staging that lives must not hide that production does not.  Pure.

What has never been there has no environment that it could be missed in, so of that only the whole can be told.
"""

from __future__ import annotations

from typing import Final

LATELY: Final = "1d"
"""How far back an environment is missed: a weekend is not, and one that was taken away is forgotten in a day."""


def gone(now: str, lately: str) -> str:
    """Return an expression that is there for each `env` in which *lately* is and *now* is not, and where neither is.

    now: an instant vector.  lately: the same, for whatever was there in the time LATELY.
    """
    missed = f"group by (env) ({lately})"
    return f"(\n  {missed}\n  unless group by (env) ({now})\n)\nor (absent({now}) unless on () {missed})"


def gone_series(selector: str) -> str:
    """Return the same for the series of *selector*, whatever their values are."""
    return gone(selector, f"last_over_time({selector}[{LATELY}])")


def lacking(there: str, missing: str) -> str:
    """Return an expression that is there for each `env` that has *there* and has no *missing*."""
    return f"group by (env) ({there})\nunless group by (env) ({missing})"
