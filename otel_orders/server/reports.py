"""GET /report: business figures, as JSON, CSV, or a page for browsers.  One at a time: it looks at every order."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response

from otel_orders.ledger.dates import moment
from otel_orders.ledger.report import Selection, rows
from otel_orders.server import pages
from otel_orders.server.bodies import RETRY_AFTER

if TYPE_CHECKING:
    from starlette.requests import Request

    from otel_orders.ledger.service import Ledger

KNOWN: Final = frozenset({"since", "until", "partner", "status", "format"})

_turn = threading.Lock()


def report(request: Request) -> Response:
    """GET /report?since=DATE&until=DATE&partner=ID&status=STATUS&format=csv: business figures; all are optional."""
    ledger: Ledger = request.app.state.ledger
    selection = _selection(request, ledger)
    if not _turn.acquire(blocking=False):
        raise HTTPException(503, "another report is being made", RETRY_AFTER)
    try:
        found = ledger.report(selection)
    finally:
        _turn.release()
    if request.query_params.get("format") == "csv":
        return PlainTextResponse("".join(rows(found)), media_type="text/csv; charset=utf-8")
    if pages.wants_page(request):
        return pages.report_page(found, ledger.env)
    return JSONResponse(msgspec.to_builtins(found))


def _selection(request: Request, ledger: Ledger) -> Selection:
    asked = {name: value for name, value in request.query_params.items() if value}
    if unknown := asked.keys() - KNOWN:
        raise HTTPException(400, f"{min(unknown)}: expected one of {', '.join(sorted(KNOWN))}")
    if asked.get("format", "csv") != "csv":
        raise HTTPException(400, "format: expected csv, or none")
    status = asked.get("status")
    if status is not None and ledger.lifecycle.status(status) is None:
        raise HTTPException(404, f"the lifecycle has no such status; it has {', '.join(ledger.lifecycle.statuses)}")
    return Selection(_moment(asked, "since"), _moment(asked, "until"), asked.get("partner"), status)


def _moment(asked: dict[str, str], name: str) -> int | None:
    try:
        return moment(asked[name], time.time_ns(), -1) if name in asked else None
    except ValueError as error:
        raise HTTPException(400, f"{name}: {error}") from None
