"""The ASGI application of a ledger: routes, authentication, errors as JSON."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from otel_orders.errors import OperationError, StoreError, UnreadableOrderError
from otel_orders.server import operators, otlp, pages, reports
from otel_orders.server.bearer import BearerToken
from otel_orders.server.bodies import RETRY_AFTER, Intake
from otel_orders.server.first import LookupsFirst

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp

    from otel_orders.ledger.service import Ledger

MAX_LISTED = 1000
_LIMIT = re.compile("[1-9][0-9]{0,3}")


def create_app(
    ledger: Ledger, token: str | None = None, operator_token: str | None = None, intake: Intake | None = None
) -> ASGIApp:
    """Return the application.

    token: what ``Authorization: Bearer`` must hold, None to ask for none.  operator_token: what it must hold to change
    something; None lets nobody.  intake: where other ways in share it.
    """
    app = Starlette(
        routes=[
            Route("/v1/logs", otlp.logs, methods=["POST"]),
            Route("/v1/traces", otlp.traces, methods=["POST"]),
            Route("/events", otlp.events, methods=["POST"]),
            Route("/", board),
            Route("/statuses", board),
            Route("/stages", stages),
            Route("/find", find),
            Route("/orders/{order_id:path}/hold", operators.hold, methods=["PUT"]),
            Route("/orders/{order_id:path}/hold", operators.release, methods=["DELETE"]),
            Route("/holds", operators.hold, methods=["PUT"]),
            Route("/holds", operators.release, methods=["DELETE"]),
            Route("/erasures", operators.erase, methods=["POST"]),
            Route("/audit", operators.audit),
            Route("/orders", worst),
            Route("/orders/{order_id:path}", order),
            Route("/statuses/{status}/orders", waiting),
            Route("/report", reports.report),
            Route("/metrics", metrics),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
        ],
        exception_handlers={
            HTTPException: _refuse,
            OperationError: operators.refused,
            StoreError: _unavailable,
            UnreadableOrderError: _unreadable,
            ClientDisconnect: _gone,
        },
    )
    app.state.ledger = ledger
    app.state.intake = intake or Intake()
    app.state.operator_token = operator_token
    first = LookupsFirst(app)
    return first if token is None else BearerToken(first, *filter(None, (token, operator_token)))


def board(request: Request) -> Response:
    """GET /statuses (a page at /): how many orders wait where."""
    ledger: Ledger = request.app.state.ledger
    if request.url.path == "/" or pages.wants_page(request):
        odd = [*ledger.quiet_services().values()], ledger.other_lifecycles()
        return pages.board_page(ledger.board(), *odd, ledger.env)
    return JSONResponse({"statuses": msgspec.to_builtins(ledger.board())})


def stages(request: Request) -> Response:
    """GET /stages: whether each stage is flowing, stalled or blind, since when (unix ns), and why; who is quiet."""
    ledger: Ledger = request.app.state.ledger
    shown = [stage for stage in ledger.board() if not stage.terminal]
    fields = ("status", "owner", "state", "since", "evidence", "orders", "stuck")
    told = [{field: getattr(stage, field) for field in fields} for stage in shown]
    others = msgspec.to_builtins(ledger.other_lifecycles())
    return JSONResponse({"stages": told, "quiet_services": ledger.quiet_services(), "other_lifecycles": others})


def find(request: Request) -> Response:
    """GET /find?order_id=ID: where the search field leads; itself the story of an order that no path can name."""
    order_id = request.query_params.get("order_id", "").strip()
    if order_id in pages.NO_PATH:
        return _order(request, order_id)
    return RedirectResponse(pages.path_of(order_id) if order_id else "/", 303)


def order(request: Request) -> Response:
    """GET /orders/{order_id}: one order's story, as a page for browsers."""
    return _order(request, request.path_params["order_id"])


def _order(request: Request, order_id: str) -> Response:
    ledger: Ledger = request.app.state.ledger
    told = ledger.story(order_id)
    if pages.wants_page(request):
        return pages.order_page(told, ledger.env) if told else pages.no_order_page(order_id, ledger.env)
    if told is None:
        raise HTTPException(404, f"no event of this order has reached this ledger (env {ledger.env})")
    return JSONResponse(told)


def waiting(request: Request) -> Response:
    """GET /statuses/{status}/orders?limit=N: the orders that wait there longest."""
    ledger: Ledger = request.app.state.ledger
    status = request.path_params["status"]
    if ledger.lifecycle.status(status) is None:
        raise HTTPException(404, f"the lifecycle has no such status; it has {', '.join(ledger.lifecycle.statuses)}")
    found = ledger.longest_waiting(status, _limit(request))
    if pages.wants_page(request):
        return pages.status_page(status, found, ledger.env)
    return JSONResponse({"orders": [order._asdict() for order in found]})


def worst(request: Request) -> Response:
    """GET /orders?limit=N: the orders that have used most of the time that they may wait, wherever they are."""
    ledger: Ledger = request.app.state.ledger
    found = ledger.worst(_limit(request))
    if pages.wants_page(request):
        return pages.worst_page(found, ledger.env)
    return JSONResponse({"orders": [order._asdict() for order in found]})


def _limit(request: Request) -> int:
    limit = request.query_params.get("limit", "20")
    if not (_LIMIT.fullmatch(limit) and int(limit) <= MAX_LISTED):
        raise HTTPException(400, f"limit: expected 1 to {MAX_LISTED}")
    return int(limit)


def metrics(request: Request) -> Response:
    """GET /metrics, in Prometheus' text format."""
    ledger: Ledger = request.app.state.ledger
    return Response(ledger.metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")


def healthz(_request: Request) -> Response:
    """GET /healthz: the process answers."""
    return PlainTextResponse("ok\n")


def readyz(request: Request) -> Response:
    """GET /readyz: events can be kept."""
    ledger: Ledger = request.app.state.ledger
    return PlainTextResponse("ready\n") if ledger.ready else PlainTextResponse("the writer has stopped\n", 503)


def _refuse(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - that is what it is registered for
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


def _unavailable(_request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 503, RETRY_AFTER)


def _unreadable(request: Request, error: Exception) -> Response:
    if pages.wants_page(request):
        return pages.unreadable_page(request.path_params["order_id"], request.app.state.ledger.env)
    return JSONResponse({"error": str(error)}, 500)


def _gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=400)  # for nobody; without it, whoever hangs up could fill the log
