"""OTLP/HTTP and newline-delimited JSON in.  A sender is answered when its events are on disk.

Status codes and bodies follow the OTLP specification 1.x, "OTLP/HTTP Response": 200 with partial_success for what was
refused, 400 for what cannot be decoded, 429 and 503 with Retry-After for what should be sent again; the body of every
4xx and 5xx is a google.rpc.Status.  What nobody foresaw is a 503, since a Collector drops what it gets a 500 for; but
where it happens while a body is decoded it is a 400, as the same bytes would fail again, and hold up all behind them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from google.protobuf.json_format import MessageToJson
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from otel_orders.errors import EventError, StoreError
from otel_orders.ledger import ingest
from otel_orders.ledger.apply import REFUSED
from otel_orders.ledger.bulk import TOO_MANY, check_lines
from otel_orders.ledger.writer import OverloadedError
from otel_orders.server.bodies import RETRY_AFTER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractAsyncContextManager

    from google.protobuf.message import Message
    from starlette.requests import Request

    from otel_orders.ledger.reading import Reading
    from otel_orders.ledger.service import Ledger
    from otel_orders.server.bodies import Intake

    Read = Callable[[bytes, Reading], None]
    """Reads a body; raises EventError where it cannot be decoded at all."""

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
CODES = {429: 8, 503: 14}
"""google.rpc.Code for an HTTP status: RESOURCE_EXHAUSTED, UNAVAILABLE; else INVALID_ARGUMENT."""
INVALID_ARGUMENT = 3

logger = logging.getLogger("otel_orders.ledger")


class Signal(NamedTuple):
    """One kind of telemetry.  rejected: the field of partial_success that counts what was refused."""

    decode: Callable[..., Any]
    read: Callable[[Any, Reading], None]
    answer: type[Message]
    rejected: str

    def take(self, body: bytes, into: Reading, *, json: bool = False) -> None:
        """Read *body*.  Raises EventError where it cannot be decoded at all."""
        self.read(self.decode(body, into, json=json), into)

    def answered(self, refused: Counter[str]) -> Any:
        """Return the answer that says what was *refused*, with counts and reasons."""
        answer: Any = self.answer()
        if refused:
            setattr(answer.partial_success, self.rejected, refused.total())
            answer.partial_success.error_message = ", ".join(f"{count} {why}" for why, count in sorted(refused.items()))
        return answer


LOGS: Final = Signal(ingest.decode_logs, ingest.logs, ExportLogsServiceResponse, "rejected_log_records")
SPANS: Final = Signal(ingest.decode_spans, ingest.spans, ExportTraceServiceResponse, "rejected_spans")


async def logs(request: Request) -> Response:
    """POST /v1/logs."""
    return await _otlp(request, LOGS)


async def traces(request: Request) -> Response:
    """POST /v1/traces."""
    return await _otlp(request, SPANS)


async def events(request: Request) -> Response:
    """POST /events: one JSON object a line.  422 where all of them were refused, so that a script's sender notices."""
    if "origin" in request.headers:
        raise HTTPException(403, "web pages may not send events")
    with unforeseen_is_tried_again():
        async with _read(request, _lines) as reading:
            results, refused = await kept(request.app.state.ledger, reading)
    counts = Counter(result for result in sorted(results) if result not in REFUSED)
    told = {
        "received": counts.total() + refused.total(),
        "results": counts,
        "rejected": refused,
        "passed_over": reading.passed_over,
    }
    return JSONResponse(told, 422 if refused and not counts else 200)


def _lines(body: bytes, into: Reading) -> None:
    check_lines(body)
    ingest.lines(body, into)


async def _otlp(request: Request, signal: Signal) -> Response:
    json = _media_type(request) != PROTOBUF
    try:
        _check_media_type(request)
        with unforeseen_is_tried_again():
            async with _read(request, lambda body, into: signal.take(body, into, json=json)) as reading:
                _, refused = await kept(request.app.state.ledger, reading)
    except HTTPException as error:
        why = Status(code=CODES.get(error.status_code, INVALID_ARGUMENT), message=error.detail)
        return _encoded(why, json=json, status=error.status_code, headers=error.headers)
    return _encoded(signal.answered(refused), json=json)


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _check_media_type(request: Request) -> None:
    if _media_type(request) not in (PROTOBUF, JSON):
        raise HTTPException(415, f"expected content-type {PROTOBUF} or {JSON}")


def _read(request: Request, read: Read) -> AbstractAsyncContextManager[Reading]:
    intake: Intake = request.app.state.intake
    return intake.body(request, decoder(request.app.state.ledger, read))


def decoder(ledger: Ledger, read: Read) -> Callable[[bytes], Reading]:
    """Return what makes a Reading of a body.  It raises HTTPException where nothing can be read."""

    def decode(body: bytes) -> Reading:
        reading = ledger.new_reading()
        try:
            read(body, reading)
        except EventError as error:
            raise HTTPException(413 if error.reason == TOO_MANY else 400, str(error)) from None
        except MemoryError:
            raise
        except Exception:
            logger.exception("otel_orders: a request failed to be decoded, and was refused")
            raise HTTPException(400, "the body cannot be decoded; the ledger's log has more") from None
        return reading

    return decode


@contextmanager
def unforeseen_is_tried_again() -> Iterator[None]:
    """Turn what nobody foresaw into HTTPException 503, so that the sender keeps its events and sends them again."""
    try:
        yield
    except (HTTPException, ClientDisconnect):
        raise
    except Exception:
        logger.exception("otel_orders: a request failed; its sender is told to send it again")
        raise HTTPException(503, "an internal error; the ledger's log has more", RETRY_AFTER) from None


async def kept(ledger: Ledger, reading: Reading) -> tuple[list[str], Counter[str]]:
    """Keep *reading*.

    Returns the results and, with reasons, what was refused.  Raises HTTPException where nothing was kept.
    """
    results = await _results(ledger, reading)
    refused = reading.reasons.copy()
    refused.update(result for result in results if result in REFUSED)
    return results, refused


async def _results(ledger: Ledger, reading: Reading) -> list[str]:
    """Wait until *reading* is on disk; return the result of each event."""
    try:
        return await asyncio.wrap_future(ledger.writer.submit(reading))
    except OverloadedError as error:
        raise HTTPException(429, str(error), RETRY_AFTER) from None
    except StoreError as error:
        raise HTTPException(503, str(error), RETRY_AFTER) from None


def _encoded(message: Any, *, json: bool, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    if json:
        return Response(MessageToJson(message, indent=None), status, headers, media_type=JSON)
    return Response(message.SerializeToString(), status, headers, media_type=PROTOBUF)
