"""What a receiver of OTLP did not keep, and says so in an answer that is otherwise a success.

OTLP, "Partial Success": the sender must not send the batch again.  The SDK's exporter does not look, so a service in
the wrong environment would lose every event without a word.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

from otel_orders.errors import RefusedError
from otel_orders.event import text_of
from otel_orders.faults import LOG_EVERY, count_failure, logger
from otel_orders.privacy import Masker

if TYPE_CHECKING:
    import requests

MAX_ANSWER = 65_536
"""Longest answer that is read, in bytes."""


class Refusals:
    """Counts refused events as faults of *source*, and says the receiver's reasons once a minute."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._masker = Masker()
        self._said = -LOG_EVERY

    def hook(self, response: requests.Response, *_args: Any, **_kwargs: Any) -> None:
        """Look at an answer; a hook of requests."""
        if response.ok and 0 < len(response.content) <= MAX_ANSWER:
            self.look(response.content)

    def look(self, answer: bytes) -> None:
        """Look at the body of an answer.  Never raises: what cannot be read refuses nothing."""
        try:
            refused = ExportLogsServiceResponse.FromString(answer).partial_success
            if refused.rejected_log_records > 0:
                self._note(refused.rejected_log_records, refused.error_message)
        except Exception as error:
            count_failure(self._source, error)

    def _note(self, count: int, why: str) -> None:
        now = time.monotonic()
        if now - self._said >= LOG_EVERY:
            self._said = now
            reason = self._masker.mask_text(text_of(why)) or "no reason given"
            logger.warning("otel_orders: the receiver refused %d events: %s; said once a minute", count, reason)
        count_failure(self._source, RefusedError(), count)
