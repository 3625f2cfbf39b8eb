"""The web pages: the board, the worst orders, one status's longest waiting ones, one order's story.

For people who look and change nothing.  Templates escape all that comes from outside; no script runs and nothing is
loaded from elsewhere, which the pages' Content-Security-Policy also says.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import jinja2
from starlette.responses import HTMLResponse

from otel_orders.ledger.words import span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from otel_orders.ledger.board import OtherLifecycle, Stage
    from otel_orders.ledger.report import Report
    from otel_orders.ledger.service import Waiting
    from otel_orders.ledger.worst import Worst

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

NO_PATH: Final = (".", "..")
"""Order ids that browsers take out of a path, also where they are encoded (WHATWG URL, "double-dot path segment")."""


def wants_page(request: Request) -> bool:
    """Whether *request* comes from a browser rather than a program."""
    return "text/html" in request.headers.get("accept", "")


def board_page(stages: Sequence[Stage], quiet: Sequence[str], others: Sequence[OtherLifecycle], env: str) -> Response:
    """Return the board.  quiet: sentences about services that are not heard.  others: that run another lifecycle."""
    return _page("board.html", stages=stages, quiet=quiet, others=others, env=env, now=time.time_ns())


def status_page(stage: str, orders: Sequence[Waiting], env: str) -> Response:
    """Return the orders that wait longest in the status *stage*."""
    return _page("status.html", stage=stage, orders=orders, env=env, now=time.time_ns())


def worst_page(orders: Sequence[Worst], env: str) -> Response:
    """Return the orders that are worst off."""
    return _page("worst.html", orders=orders, env=env, now=time.time_ns())


def order_page(story: Mapping[str, Any], env: str) -> Response:
    """Return one order's story."""
    return _page("order.html", story=story, env=env, now=time.time_ns())


def report_page(report: Report, env: str) -> Response:
    """Return business figures."""
    return _page("report.html", report=report, env=env, now=report.at)


def no_order_page(order_id: str, env: str) -> Response:
    """Return what is said of an order that no event named."""
    return _page("no_order.html", status=404, order_id=order_id, env=env)


def unreadable_page(order_id: str, env: str) -> Response:
    """Return what is said of an order whose row has rotted."""
    return _page("unreadable.html", status=500, order_id=order_id, env=env)


def moment(unix_ns: int) -> str:
    """Return *unix_ns* as UTC, to the millisecond."""
    return datetime.fromtimestamp(unix_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def _page(template: str, status: int = 200, **shown: Any) -> Response:
    return HTMLResponse(_templates.get_template(template).render(**shown), status, HEADERS)


def path_of(order_id: str) -> str:
    """Return where the story of *order_id* is, relative to the ledger."""
    if order_id in NO_PATH:
        return "/find?order_id=" + order_id
    return "/orders/" + quote(order_id, safe="")


_templates = jinja2.Environment(
    loader=jinja2.PackageLoader("otel_orders.server"), autoescape=True, undefined=jinja2.StrictUndefined
)
_templates.filters.update(span=span, moment=moment, path_of=path_of)
