"""OTLP/HTTP and newline-delimited JSON in.  A sender is answered when its events are on disk.

Status codes and bodies follow the OTLP specification 1.x, "OTLP/HTTP Response": 200 with partial_success for what was
refused, 400 for what cannot be decoded, 429 and 503 with Retry-After for what should be sent again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import MessageToJson
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from otel_orders.errors import EventError, StoreError
from otel_orders.ledger import ingest
from otel_orders.ledger.apply import FULL
from otel_orders.ledger.writer import OverloadedError
from otel_orders.server.bodies import body_of

if TYPE_CHECKING:
    from collections import Counter

    from starlette.requests import Request

    from otel_orders.ledger.reading import Reading
    from otel_orders.ledger.service import Ledger

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
RETRY_AFTER = {"Retry-After": "1"}


async def logs(request: Request) -> Response:
    """POST /v1/logs."""
    return await _otlp(request, ingest.decode_logs, ingest.logs, ExportLogsServiceResponse(), "rejected_log_records")


async def traces(request: Request) -> Response:
    """POST /v1/traces."""
    return await _otlp(request, ingest.decode_spans, ingest.spans, ExportTraceServiceResponse(), "rejected_spans")


async def events(request: Request) -> Response:
    """POST /events: one JSON object a line."""
    ledger: Ledger = request.app.state.ledger
    reading = ledger.new_reading()
    ingest.lines(await body_of(request), reading)
    results, refused = await _keep(ledger, reading)
    counts = {result: results.count(result) for result in sorted(set(results) - {FULL})}
    return JSONResponse({"received": len(results) + reading.rejected.total(), "results": counts, "rejected": refused})


async def _otlp(request: Request, decode: Any, read: Any, answer: Any, rejected_field: str) -> Response:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in (PROTOBUF, JSON):
        raise HTTPException(415, f"expected content-type {PROTOBUF} or {JSON}")
    json = media_type == JSON
    ledger: Ledger = request.app.state.ledger
    reading = ledger.new_reading()
    try:
        read(decode(await body_of(request), reading, json=json), reading)
    except EventError as error:
        return _encoded(Status(code=3, message=str(error)), json=json, status=400)
    _, refused = await _keep(ledger, reading)
    if refused:
        setattr(answer.partial_success, rejected_field, refused.total())
        answer.partial_success.error_message = ", ".join(f"{count} {why}" for why, count in sorted(refused.items()))
    return _encoded(answer, json=json, status=200)


async def _keep(ledger: Ledger, reading: Reading) -> tuple[list[str], Counter[str]]:
    """Wait until *reading* is on disk; return the results and, with reasons, what was refused."""
    try:
        results = await asyncio.wrap_future(ledger.writer.submit(reading))
    except OverloadedError as error:
        raise HTTPException(429, str(error), RETRY_AFTER) from None
    except StoreError as error:
        raise HTTPException(503, str(error), RETRY_AFTER) from None
    refused = reading.reasons.copy()
    if full := results.count(FULL):
        refused[FULL] += full
    return results, refused


def _encoded(message: Any, *, json: bool, status: int) -> Response:
    if json:
        return Response(MessageToJson(message, indent=None), status, media_type=JSON)
    return Response(message.SerializeToString(), status, media_type=PROTOBUF)
