"""OTLP/gRPC in, beside HTTP and within the same bounds.  A sender is answered when its events are on disk.

Status codes follow the OTLP specification 1.x, "OTLP/gRPC": OK with partial_success for what was refused,
INVALID_ARGUMENT for what cannot be decoded, RESOURCE_EXHAUSTED and UNAVAILABLE with RetryInfo for what should be sent
again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn

import grpc
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from grpc import aio
from starlette.exceptions import HTTPException

from otel_orders.errors import ConfigurationError
from otel_orders.server import otlp
from otel_orders.server.bearer import allowed
from otel_orders.server.bodies import MAX_MESSAGE, RETRY_SECONDS

if TYPE_CHECKING:
    from otel_orders.ledger.service import Ledger
    from otel_orders.server.bodies import Intake

SERVICES: Final = {
    "opentelemetry.proto.collector.logs.v1.LogsService": otlp.LOGS,
    "opentelemetry.proto.collector.trace.v1.TraceService": otlp.SPANS,
}
CODES: Final = {429: grpc.StatusCode.RESOURCE_EXHAUSTED, 503: grpc.StatusCode.UNAVAILABLE}
"""Code for an HTTP status; else INVALID_ARGUMENT, which senders do not repeat."""
OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    # Messages come as they were sent, and we unpack them: gRPC does not bound what a small one may become.
    ("grpc.per_message_decompression", 0),
    # Else two ledgers would share a port, each with half of the events.
    ("grpc.so_reuseport", 0),
    # What waits unread is bounded for each request, and requests for each connection.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.max_concurrent_streams", 100),
    # A sender that went away without a word is noticed.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)
GRACEFUL: Final = 10
"""Seconds that running requests have to finish."""


class GrpcServer:
    """Serves *ledger* on (host, port); port 0 takes a free one.  token: what ``authorization`` metadata must hold."""

    def __init__(self, ledger: Ledger, intake: Intake, address: tuple[str, int], token: str | None = None) -> None:
        self._ledger = ledger
        self._intake = intake
        self._address = address
        self._token = token
        self._server: Any = None
        self.endpoint = ""
        """What OTEL_EXPORTER_OTLP_ENDPOINT is for it, once it has started."""

    async def start(self) -> None:
        """Listen and serve, in the running loop.  Raises ConfigurationError where the address cannot be had."""
        host, port = self._address
        name = f"[{host}]" if ":" in host else host
        self._server = aio.server(options=OPTIONS)
        self._server.add_generic_rpc_handlers(tuple(self._handlers()))
        try:
            taken = self._server.add_insecure_port(f"{name}:{port}")
        except RuntimeError:
            why = f"cannot listen on {host}:{port} for gRPC; try --grpc-port 0 for a free port, or --no-grpc"
            raise ConfigurationError(why) from None
        await self._server.start()
        self.endpoint = f"http://{name}:{taken}"

    async def stop(self) -> None:
        """Take nothing new, and let running requests finish."""
        await self._server.stop(GRACEFUL)

    def _handlers(self) -> list[Any]:
        return [
            grpc.method_handlers_generic_handler(
                service, {"Export": grpc.stream_unary_rpc_method_handler(self._export(signal))}
            )
            for service, signal in SERVICES.items()
        ]

    def _export(self, signal: otlp.Signal) -> Any:
        decode = otlp.decoder(self._ledger, signal.take)

        # On the wire a call with one message is a stream of one; only so is the message read by us, when we want it.
        async def export(_messages: object, context: Any) -> bytes:
            if self._token is not None and not allowed(_authorization(context), self._token):
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, "a bearer token is needed")
            try:
                with otlp.unforeseen_is_tried_again():
                    async with self._intake.message(lambda: _message(context), decode) as reading:
                        _, refused = await otlp.kept(self._ledger, reading)
            except HTTPException as error:
                await _refuse(context, error)
            answer: bytes = signal.answered(refused).SerializeToString()
            return answer

        return export


async def _message(context: Any) -> bytes:
    message = await context.read()
    if message is aio.EOF:
        raise HTTPException(400, "expected one message")
    assert isinstance(message, bytes)  # noqa: S101 - no deserializer is set
    return message


def _authorization(context: Any) -> bytes:
    found = [value for key, value in context.invocation_metadata() or () if key == "authorization"]
    return found[-1].encode() if found else b""


async def _refuse(context: Any, error: HTTPException) -> NoReturn:
    code = CODES.get(error.status_code, grpc.StatusCode.INVALID_ARGUMENT)
    await context.abort(code, error.detail, _retry_info(code, error.detail) if error.status_code in CODES else ())
    raise AssertionError  # abort() does not return


def _retry_info(code: grpc.StatusCode, detail: str) -> tuple[tuple[str, bytes], ...]:
    """Return when to try again: as the specification has it, and where OpenTelemetry's Python exporter looks."""
    retry = RetryInfo(retry_delay=Duration(seconds=RETRY_SECONDS))
    packed = Packed()
    packed.Pack(retry)
    status = Status(code=code.value[0], message=detail, details=[packed])
    return (
        ("grpc-status-details-bin", status.SerializeToString()),
        ("google.rpc.retryinfo-bin", retry.SerializeToString()),
    )
