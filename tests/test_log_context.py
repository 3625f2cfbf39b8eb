from __future__ import annotations

import contextvars
import io
import json
import logging
import queue
import threading
from logging.handlers import QueueHandler, QueueListener
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from opentelemetry import trace

from otel_orders import log_context, order_context, transition_context
from otel_orders.log_context import JsonLineHandler, OrderFilter, add_order, structlog_processors
from otel_orders.privacy import Masker
from tests.sinks.memory import Counted, kept_spans

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Lines = list[dict[str, Any]]


@pytest.fixture
def _installed() -> Iterator[None]:
    undo = log_context.install()
    yield
    undo()


@pytest.fixture
def third_party() -> Iterator[logging.Logger]:
    """A logger that knows nothing of us and does not propagate."""
    logger = logging.getLogger("third.party")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    yield logger
    logger.handlers.clear()
    logger.propagate = True


@pytest.fixture
def lines(third_party: logging.Logger) -> Lines:
    """The JSON lines that third.party's log lines become."""
    found: Lines = []
    third_party.addHandler(JsonLineHandler(lambda line: found.append(json.loads(line)), "mes", "test", Masker()))
    return found


@pytest.fixture
def structured() -> Iterator[tuple[Any, Lines]]:
    """A structlog logger as configure() sets it up, and its lines."""
    found: Lines = []
    structlog.configure(structlog_processors(lambda line: found.append(json.loads(line)), "mes", "test", Masker()))
    yield structlog.get_logger(), found
    structlog.reset_defaults()


def only_ours(logger: logging.Logger) -> JsonLineHandler:
    """Take away the handlers that pytest adds, which fail where ours must not; return ours."""
    (ours,) = (handler for handler in logger.handlers if isinstance(handler, JsonLineHandler))
    logger.handlers[:] = [ours]
    return ours


# Order and trace.


@pytest.mark.usefixtures("_installed")
def test_every_stdlib_line_inside_an_order_has_the_order_and_none_outside(
    third_party: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(order_id)s %(partner_id)s %(message)s", defaults={"order_id": "-"}))
    third_party.addHandler(handler)
    third_party.addHandler(caplog.handler)
    with order_context("A-1", partner_id="acme"):
        third_party.info("inside")
    third_party.info("outside", extra={"partner_id": "-"})
    assert stream.getvalue() == "A-1 acme inside\n- - outside\n"
    assert not hasattr(caplog.records[1], "order_id")


@pytest.mark.usefixtures("_installed")
def test_a_line_names_the_trace_that_it_was_written_in(third_party: logging.Logger, lines: Lines) -> None:
    with kept_spans() as spans, transition_context("A-1", "SHIPPED"):
        third_party.info("inside")
        structlog.get_logger()
    context = spans.get_finished_spans()[0].context
    assert context is not None
    assert lines[0]["trace_id"] == trace.format_trace_id(context.trace_id)
    assert lines[0]["span_id"] == trace.format_span_id(context.span_id)


@pytest.mark.usefixtures("_installed")
def test_what_the_caller_wrote_wins_and_does_not_mix_with_another_orders_partner(
    third_party: logging.Logger, lines: Lines
) -> None:
    with order_context("A-1", partner_id="acme"):
        third_party.info("about another", extra={"order_id": "B-2"})
    assert lines[0]["order_id"] == "B-2"
    assert "partner_id" not in lines[0]


@pytest.mark.usefixtures("_installed")
def test_a_thread_with_a_copied_context_logs_the_order_and_another_thread_does_not(
    third_party: logging.Logger, lines: Lines
) -> None:
    with order_context("A-1"):
        copied = contextvars.copy_context()
        for target in (lambda: copied.run(third_party.info, "copied"), lambda: third_party.info("bare")):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()
    assert [line.get("order_id") for line in lines] == ["A-1", None]


@pytest.mark.usefixtures("_installed")
def test_a_line_that_another_thread_writes_out_keeps_the_order_it_was_made_in(
    third_party: logging.Logger, lines: Lines
) -> None:
    handler = only_ours(third_party)
    third_party.removeHandler(handler)
    records: queue.Queue[Any] = queue.Queue()
    third_party.addHandler(QueueHandler(records))
    listener = QueueListener(records, handler)
    try:
        with order_context("A-1"):
            1 / 0  # noqa: B018
    except ZeroDivisionError:
        with order_context("A-1"):
            third_party.exception("queued")
    with order_context("B-2"):
        listener.start()
        listener.stop()
    assert lines[0]["order_id"] == "A-1"
    assert "ZeroDivisionError" in lines[0]["event"]


def test_install_leaves_nothing_behind() -> None:
    make_record, processors = logging.Logger.makeRecord, list(structlog.get_config()["processors"])
    log_context.install()()
    assert logging.Logger.makeRecord is make_record
    assert structlog.get_config()["processors"] == processors
    assert not structlog.is_configured()


def test_whoever_came_after_us_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.Logger, "makeRecord", logging.Logger.makeRecord)  # put back afterwards
    undo = log_context.install()
    ours = logging.Logger.makeRecord

    def theirs(*args: Any, **kwargs: Any) -> logging.LogRecord:
        return ours(*args, **kwargs)

    monkeypatch.setattr(logging.Logger, "makeRecord", theirs)
    undo()
    assert logging.Logger.makeRecord is theirs


@pytest.mark.parametrize("kind", [list, tuple])
def test_an_applications_own_structlog_gets_the_order_too(kind: Callable[[list[Any]], Any]) -> None:
    seen: list[Any] = []

    def keep(_logger: Any, _method: str, event_dict: Any) -> Any:
        seen.append(dict(event_dict))
        raise structlog.DropEvent

    structlog.configure(processors=kind([keep]), cache_logger_on_first_use=kind is list)
    log = structlog.get_logger().bind() if kind is list else structlog.get_logger()
    undo = log_context.install()
    try:
        with order_context("A-1", partner_id="acme"):
            log.info("inside", partner_id="theirs")
        log.info("outside")
    finally:
        undo()
        log.info("after")
        structlog.reset_defaults()
    assert seen == [
        {"event": "inside", "order_id": "A-1", "partner_id": "theirs"},
        {"event": "outside"},
        {"event": "after"},
    ]


def test_a_filter_of_ones_own_adds_the_order_and_masks() -> None:
    record = logging.makeLogRecord({"msg": "mail to a@b.com"})
    with order_context("A-1"):
        assert OrderFilter().filter(record)
    assert (record.order_id, record.getMessage()) == ("A-1", "mail to [email]")  # type: ignore[attr-defined]


# The lines.


def test_a_stdlib_line_has_the_one_format(third_party: logging.Logger, lines: Lines) -> None:
    with order_context("A-1", partner_id="acme"):
        third_party.warning("price is %d", 5, extra={"queue": "pricing"})
    (line,) = lines
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "warning",
        "service": "mes",
        "env": "test",
        "order_id": "A-1",
        "partner_id": "acme",
        "queue": "pricing",
        "event": "price is 5",
        "logger": "third.party",
    }


def test_a_structlog_line_has_the_same_format(structured: tuple[Any, Lines]) -> None:
    log, lines = structured
    with order_context("A-1", partner_id="acme"), structlog.contextvars.bound_contextvars(shift="night"):
        log.warning("price", queue="pricing")
    (line,) = lines
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "level": "warning",
        "service": "mes",
        "env": "test",
        "order_id": "A-1",
        "partner_id": "acme",
        "queue": "pricing",
        "shift": "night",
        "event": "price",
    }


def test_structlogs_own_dictionaries_arrive_through_the_stdlib_as_fields(
    third_party: logging.Logger, lines: Lines
) -> None:
    log = structlog.wrap_logger(
        third_party,
        processors=[structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    log.info("price", cents=5, email="a@b.com")
    assert {key: lines[0].get(key) for key in ("event", "cents", "email", "level")} == {
        "event": "price",
        "cents": 5,
        "email": "[email]",
        "level": "info",
    }
    assert not any(key.startswith("_") for key in lines[0])


def test_fields_of_the_caller_do_not_replace_what_identifies_the_line(
    third_party: logging.Logger, lines: Lines
) -> None:
    third_party.info("x", extra={"service": "forged", "env": "forged", "level": "forged", "logger": "forged"})
    assert {lines[0][key] for key in ("service", "env", "level", "logger")} == {"mes", "test", "info", "third.party"}


# Masking.


def fail(text: str) -> None:
    raise ValueError(text)


@pytest.mark.parametrize(
    ("message", "args", "extra"),
    [
        ("mail a@b.com", (), {}),
        ("mail %s", ("a@b.com",), {}),
        ("mail %(to)s", ({"to": "a@b.com"},), {}),
        ("x", (), {"customer_name": "a@b.com"}),
        ("x", (), {"order": {"contact": {"email": "a@b.com"}}}),
        ("too few %s %s", ("a@b.com",), {}),
        (ValueError("a@b.com"), (), {}),
    ],
)
def test_personal_data_never_reaches_a_stdlib_line(
    message: Any, args: tuple[Any, ...], extra: dict[str, Any], third_party: logging.Logger, lines: Lines
) -> None:
    third_party.error(message, *args, extra=extra, stack_info=True)
    assert len(lines) == 1
    assert "a@b.com" not in json.dumps(lines)


@pytest.mark.parametrize("formatted_before", [False, True])
def test_personal_data_in_an_exception_is_masked_whoever_formatted_it_first(
    formatted_before: bool, third_party: logging.Logger, lines: Lines
) -> None:
    if formatted_before:
        third_party.handlers.insert(0, logging.StreamHandler(io.StringIO()))
    try:
        fail("no such customer: a@b.com")
    except ValueError:
        third_party.exception("failed")
    assert "ValueError: no such customer: [email]" in lines[0]["exception"]
    assert "a@b.com" not in json.dumps(lines)


def test_personal_data_never_reaches_a_structlog_line(structured: tuple[Any, Lines]) -> None:
    log, lines = structured
    log.info("mail a@b.com", customer_name="Ivan Petrov", nested={"phone": "+79161234567"})
    try:
        fail("a@b.com")
    except ValueError:
        log.exception("failed", stack_info=True)
    assert (lines[1]["level"], lines[1]["event"]) == ("error", "failed")
    assert "ValueError: [email]" in lines[1]["exception"]
    assert not [word for word in ("a@b.com", "Ivan", "9161234567") if word in json.dumps(lines)]


def test_an_order_id_that_looks_like_a_phone_number_is_not_masked(
    structured: tuple[Any, Lines], third_party: logging.Logger, lines: Lines
) -> None:
    with order_context("79161234567"):
        structured[0].info("x")
        third_party.info("x")
    assert structured[1][0]["order_id"] == lines[0]["order_id"] == "79161234567"


# Faults.


def full_disk(line: bytes) -> None:
    raise OSError(28, "No space left on device", line[:0])


def test_a_line_that_cannot_be_written_is_counted_and_harms_nobody(third_party: logging.Logger) -> None:
    counted = Counted()
    third_party.addHandler(JsonLineHandler(full_disk, "mes", "test", Masker()))
    third_party.info("lost")
    structlog.configure(structlog_processors(full_disk, "mes", "test", Masker()))
    try:
        structlog.get_logger().info("lost")
    finally:
        structlog.reset_defaults()
    assert counted.faults() == {"log_lines": 2}


def test_a_full_disk_under_the_root_logger_does_not_call_itself_forever() -> None:
    counted = Counted()
    handler = JsonLineHandler(full_disk, "mes", "test", Masker())
    logging.getLogger().addHandler(handler)
    try:
        logging.getLogger("third.party").warning("lost")
    finally:
        logging.getLogger().removeHandler(handler)
    assert 1 <= counted.faults()["log_lines"] <= 2


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


def test_an_argument_that_cannot_be_printed_costs_its_own_line_only(
    third_party: logging.Logger, lines: Lines, structured: tuple[Any, Lines]
) -> None:
    only_ours(third_party)
    third_party.info("%s", Unprintable())
    structured[0].info("x", odd=Unprintable())
    third_party.info("next")
    structured[0].info("next")
    assert lines[-1]["event"] == structured[1][-1]["event"] == "next"


def test_add_order_never_fails() -> None:
    broken: Any = None
    with order_context("A-1"):
        assert add_order(None, "info", broken) is None
