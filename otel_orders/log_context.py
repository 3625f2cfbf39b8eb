"""Put the current order and trace on every log line inside it, structlog's and the standard library's alike.

``install`` does so for all stdlib records and all structlog lines of the process, whoever logs; ``add_order`` is the
structlog processor, ``OrderFilter`` the logging.Filter, for a set-up of one's own.  What is written as JSON lines is
masked.  Knows nothing of events and sinks.
"""

from __future__ import annotations

import functools
import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from opentelemetry import trace

from otel_orders import json_lines, names
from otel_orders.context import current_order
from otel_orders.faults import count_failure
from otel_orders.faults import logger as faults_logger
from otel_orders.privacy import Masker

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

OWN_LOGGER = faults_logger.name
FAULT = "log_lines"
"""The source under which lines are counted that could not be written."""

_STANDARD = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"message", "asctime", "taskName"}


def complete(line: MutableMapping[str, Any]) -> None:
    """Add the current order and trace to *line*.  What the caller wrote there wins."""
    if names.ORDER_ID not in line and (order := current_order()) is not None:
        line[names.ORDER_ID] = order.order_id
        if order.partner_id is not None:
            line.setdefault(names.PARTNER_ID, order.partner_id)
    if names.TRACE_ID not in line and (span := trace.get_current_span().get_span_context()).is_valid:
        line[names.TRACE_ID] = f"{span.trace_id:032x}"
        line[names.SPAN_ID] = f"{span.span_id:016x}"


def add_order(_logger: Any, _method: str, event_dict: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Structlog processor: add order and trace."""
    with suppress(Exception):  # a log call must not fail because of us, and this cannot be logged
        complete(event_dict)
    return event_dict


class MaskingProcessor:
    """Structlog processor: mask personal data in the whole line."""

    def __init__(self, masker: Masker) -> None:
        self._masker = masker

    def __call__(self, _logger: Any, _method: str, event_dict: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Return the masked line."""
        return self._masker.mask_mapping(event_dict)


class OrderFilter(logging.Filter):
    """Adds order and trace to each record, and masks its text, extra fields, exception and stack.

    Belongs on handlers: a logger's own filters do not see what its children log.  masker: one that knows no further
    keys by default.
    """

    def __init__(self, masker: Masker | None = None) -> None:
        super().__init__()
        self._masker = masker or Masker()

    def filter(self, record: logging.LogRecord) -> bool:
        """Change *record* in place; only a record that cannot be masked does not pass."""
        try:
            complete(record.__dict__)
            _mask(record, self._masker)
        except Exception as error:
            count_failure(FAULT, error)
            return False
        return True


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    """Return what the caller, or a filter, added; structlog's own additions for its formatter start with a _."""
    return {key: found for key, found in record.__dict__.items() if key not in _STANDARD and not key.startswith("_")}


def _mask(record: logging.LogRecord, masker: Masker) -> None:
    if isinstance(record.msg, dict):  # structlog's wrap_for_formatter
        record.msg = masker.mask_mapping(record.msg)
    else:
        text = _text(record)
        masked = masker.mask_text(text)
        if masked != text:
            record.msg, record.args = masked, ()
    record.__dict__.update(masker.mask_mapping(_extra(record)))
    if record.exc_info and not record.exc_text:
        record.exc_text = logging.Formatter().formatException(record.exc_info)
    if record.exc_text:  # perhaps made, unmasked, by another handler
        record.exc_text = masker.mask_text(record.exc_text)
    if record.stack_info:
        record.stack_info = masker.mask_text(record.stack_info)


def _text(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # arguments that do not fit the text
        return f"{record.msg} {record.args}"


class JsonLineFormatter(logging.Formatter):
    """Formats a stdlib record as one line of the JSON line format, without the newline."""

    def __init__(self, service: str, env: str) -> None:
        super().__init__()
        self._constant = {names.SERVICE: service, names.ENV: env}
        self._timestamps = json_lines.Timestamps()

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields: dict[str, object] = {
            **_extra(record),
            **(record.msg if isinstance(record.msg, dict) else {"event": _text(record)}),
            **self._constant,
            "timestamp": self._timestamps.text(int(record.created * 1e9)),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            fields["exception"] = record.exc_text
        if record.stack_info:
            fields["stack"] = record.stack_info
        return json_lines.encode(fields)[:-1].decode()


class JsonLineHandler(logging.Handler):
    """Writes stdlib records as JSON lines to the same place as the event records."""

    def __init__(self, write: Callable[[bytes], None], service: str, env: str, masker: Masker) -> None:
        super().__init__()
        self._write = write
        self.addFilter(OrderFilter(masker))
        self.setFormatter(JsonLineFormatter(service, env))

    def emit(self, record: logging.LogRecord) -> None:
        """Write *record*; a line that cannot be written is counted, and harms nobody."""
        try:
            self._write(self.format(record).encode() + b"\n")
        except Exception as error:
            if record.name == OWN_LOGGER and logging.lastResort is not None:
                logging.lastResort.handle(record)  # what we say of a full disk must not wait for that disk
            count_failure(FAULT, error)


def structlog_processors(write: Callable[[bytes], None], service: str, env: str, masker: Masker) -> list[Any]:
    """Return the processors that make structlog write the JSON line format through *write*."""
    import structlog  # noqa: PLC0415 - importing otel_orders must not load it

    timestamps = json_lines.Timestamps()

    def stamp(_logger: Any, _method: str, event_dict: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event_dict["timestamp"] = timestamps.text(time.time_ns())
        event_dict[names.SERVICE], event_dict[names.ENV] = service, env
        return event_dict

    def render(_logger: Any, _method: str, event_dict: MutableMapping[str, Any]) -> Any:
        try:
            write(json_lines.encode(dict(event_dict)))
        except Exception as error:
            count_failure(FAULT, error)
        raise structlog.DropEvent

    return [
        structlog.contextvars.merge_contextvars,
        add_order,
        structlog.processors.add_log_level,
        stamp,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        MaskingProcessor(masker),
        render,
    ]


def install() -> Callable[[], None]:
    """Put order and trace on every stdlib record and structlog line from now on; return what undoes it.

    Of structlog it joins the configuration that stands; the application that configures it later adds ``add_order``.
    """
    leave_logging, leave_structlog = _join_logging(), _join_structlog()

    def undo() -> None:
        leave_structlog()
        leave_logging()

    return undo


def _join_logging() -> Callable[[], None]:
    """Complete records after ``extra`` was put in: a record factory comes before, and its fields would make
    ``extra={"order_id": ...}`` a KeyError in the application.
    """
    original = logging.Logger.makeRecord

    @functools.wraps(original)
    def make_record(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = original(*args, **kwargs)
        with suppress(Exception):  # a log call must not fail because of us, and this cannot be logged
            complete(record.__dict__)
        return record

    def undo() -> None:
        if logging.Logger.makeRecord is make_record:  # else somebody came after us: ours does no harm
            logging.Logger.makeRecord = original  # type: ignore[method-assign]

    logging.Logger.makeRecord = make_record  # type: ignore[method-assign]
    return undo


def _join_structlog() -> Callable[[], None]:
    """Add add_order in place, so that loggers that hold the list already have it too."""
    import structlog  # noqa: PLC0415 - importing otel_orders must not load it

    processors = structlog.get_config()["processors"]
    if not isinstance(processors, list):
        structlog.configure(processors=(processors := list(processors)))
    if add_order not in processors:
        processors.insert(0, add_order)

    def undo() -> None:
        with suppress(ValueError):
            processors.remove(add_order)

    return undo
