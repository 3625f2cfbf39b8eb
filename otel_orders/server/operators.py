"""What operators change by HTTP: holds and erasures, with a token of their own.  Support looks, and changes nothing."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from otel_orders.errors import OperationError
from otel_orders.server.bearer import bears

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from otel_orders.ledger.operators import Operators

    Handler = Callable[[Request], Awaitable[Response]]

NO_TOKEN = "this ledger was started without OTEL_ORDERS_LEDGER_OPERATOR_TOKEN, so nobody changes anything by HTTP"  # noqa: S105
MAX_BODY = 16_384


def for_operators(handler: Handler) -> Handler:
    """Let only requests with the operator token through to *handler*."""

    @functools.wraps(handler)
    async def guarded(request: Request) -> Response:
        token = request.app.state.operator_token
        if token is None:
            raise HTTPException(403, NO_TOKEN)
        if not bears(request.scope, token):
            raise HTTPException(403, "an operator token is needed to change something")
        return await handler(request)

    return guarded


@for_operators
async def hold(request: Request) -> Response:
    """PUT /orders/{order_id}/hold, or /holds?order_id=ID, with ``{"until": ..., "why": ..., "by": ...}``."""
    asked = await _fields(request, "until", "why", "by")
    made = await run_in_threadpool(_operators(request).hold, _order_id(request), **asked)
    return JSONResponse(msgspec.to_builtins({"hold": msgspec.structs.asdict(made)}))


@for_operators
async def release(request: Request) -> Response:
    """DELETE /orders/{order_id}/hold?by=NAME, or /holds?order_id=ID&by=NAME."""
    by = request.query_params.get("by", "")
    await run_in_threadpool(_operators(request).release, _order_id(request), by)
    return Response(status_code=204)


@for_operators
async def erase(request: Request) -> Response:
    """POST /erasures with ``{"order_id": ..., "by": ...}`` or ``{"partner_id": ..., "by": ...}``."""
    asked = await _body(request)
    if "partner_id" in asked:
        fields = _only(asked, "partner_id", "by")
        return JSONResponse({"erased": await run_in_threadpool(_operators(request).erase_partner, **fields)})
    await run_in_threadpool(_operators(request).erase, **_only(asked, "order_id", "by"))
    return JSONResponse({"erased": 1})


@for_operators
async def audit(request: Request) -> Response:
    """GET /audit?order_id=ID: what was changed by hand, oldest first."""
    found = await run_in_threadpool(_operators(request).audit, request.query_params.get("order_id"))
    return JSONResponse({"entries": msgspec.to_builtins(found)})


def refused(_request: Request, error: Exception) -> Response:
    """Answer what cannot be done."""
    known = isinstance(error, OperationError) and error.known
    return JSONResponse({"error": str(error)}, 409 if known else 404)


def _operators(request: Request) -> Operators:
    found: Operators = request.app.state.ledger.operators
    return found


def _order_id(request: Request) -> str:
    """Return the order of the path, or of the query: no path can name an order that is called ``..``."""
    found = request.path_params.get("order_id") or request.query_params.get("order_id")
    if not found:
        raise HTTPException(400, "order_id: expected the id of an order")
    return str(found)


async def _fields(request: Request, *names: str) -> dict[str, str]:
    return _only(await _body(request), *names)


async def _body(request: Request) -> dict[str, Any]:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise HTTPException(413, f"a request of this kind has at most {MAX_BODY} bytes")
    try:
        return msgspec.json.decode(bytes(body), type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise HTTPException(400, "expected a JSON object") from None


def _only(asked: dict[str, Any], *names: str) -> dict[str, str]:
    if asked.keys() != set(names) or not all(isinstance(value, str) for value in asked.values()):
        raise HTTPException(400, f"expected an object of text fields {', '.join(names)}")
    return asked
