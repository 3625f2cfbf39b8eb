"""Import the past: an event log of another system becomes events of orders, as if they had been sent at their time.

They count as any event does, however old they are: totals are those of all orders that the ledger knows.  An event's
id follows from its content, so what is imported twice counts once; and how far a log was imported is kept in the
transaction that keeps its events, so an import that was interrupted goes on, and one that is done is not done again.
What a longer log says of orders that were removed since is late: it was counted.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from contextlib import ExitStack, closing
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import msgspec

from otel_orders import names
from otel_orders.errors import EventError
from otel_orders.ledger import tables, xes
from otel_orders.ledger.endings import Endings
from otel_orders.ledger.moments import Moments  # noqa: TC001 - msgspec reads it

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import BinaryIO

    from otel_orders.ledger.beside import Beside

AT_ONCE: Final = 4_000
"""Events in one transaction."""
NAMED: Final = 20
"""Bad rows that are named, the first ones."""
COMPLETE: Final = "complete"
XES_COLUMNS: Final = ("concept:name", "concept:name", "time:timestamp")
"""Where XES has case, activity and timestamp."""


class Columns(msgspec.Struct, frozen=True):
    """Which column, or XES attribute, says what.

    case: the order.  activity: the status, through *statuses*.  service: who said so, where *resource* does not say it.
    attributes: kept with the event.  In XES case and partner are attributes of the trace, and of the event else.
    """

    case: str
    activity: str
    timestamp: str
    resource: str | None = None
    partner: str | None = None
    event_id: str | None = None
    attributes: tuple[str, ...] = ()
    service: str = "import"

    @property
    def needed(self) -> list[str]:
        """All columns that are read."""
        optional = (self.resource, self.partner, self.event_id)
        return [self.case, self.activity, self.timestamp, *filter(None, optional), *self.attributes]


class Mapping(msgspec.Struct, frozen=True):
    """How a log is read.  statuses: the status that an activity's name means; None leaves the activity out."""

    columns: Columns
    moments: Moments
    statuses: dict[str, str | None] = {}

    def record(self, values: dict[str, Any], trace: dict[str, str] | None = None) -> dict[str, Any] | None:
        """Return what a row or an XES event says, as a flat record; None for one that is left out.

        Raises EventError where its time cannot be read.
        """
        columns = self.columns
        above = trace or {}
        activity = str(values.get(columns.activity, "")).strip()
        to_status = self.statuses.get(activity, activity)
        if to_status is None or values.get("lifecycle:transition", COMPLETE).lower() != COMPLETE:
            return None
        record = {
            names.EVENT_TYPE: names.STATUS_CHANGED,
            names.ORDER_ID: (above if trace is not None else values).get(columns.case) or "",
            names.TO_STATUS: to_status,
            names.OCCURRED_AT: self.moments.read(values.get(columns.timestamp, "")),
            names.SERVICE: values.get(columns.resource or "") or columns.service,
            names.PARTNER_ID: above.get(columns.partner or "") or values.get(columns.partner or "") or None,
            names.EVENT_ID: values.get(columns.event_id or "") or None,
        }
        return record | {name: values[name] for name in columns.attributes if values.get(name)}


class Imported:
    """What became of a log.

    read: rows or events of it.  skipped: left out by the mapping.  results, reasons: as for any sender.  bad: the first
    rows that were refused, with line and reason.  before: rows that an earlier, interrupted import had read.
    """

    def __init__(self) -> None:
        self.read = self.skipped = self.before = 0
        self.done_before = False
        self.results: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.bad: list[tuple[int, str]] = []

    def refuse(self, line: int, reason: str) -> None:
        """Note a row that cannot be kept."""
        self.reasons[reason] += 1
        if len(self.bad) < NAMED:
            self.bad.append((line, reason))


class Progress(msgspec.Struct, frozen=True):
    """How far a log was imported.  read: rows, from its beginning."""

    read: int = 0
    done: bool = False


Entry = tuple[int, dict[str, Any] | None, dict[str, str] | None]
"""Line, values and, in XES, those of its trace."""


def import_log(
    path: Path,
    mapping: Mapping,
    ledger: Beside,
    *,
    delimiter: str | None = None,
    watch: Callable[[BinaryIO], object] | None = None,
    on_batch: Callable[[Imported], object] = lambda _: None,
) -> Imported:
    """Import the log at *path*, CSV or XES by its name.  on_batch: told how far it is.

    Raises ConfigurationError where it is neither, or lacks a column.
    """
    key = f"import:{_digest(path, mapping)}"
    kept = ledger.store.get(key)
    progress = msgspec.json.decode(kept, type=Progress) if kept else Progress()
    imported = Imported()
    imported.read = imported.before = progress.read
    imported.done_before = progress.done
    if progress.done:
        return imported
    with ExitStack() as stack:
        endings = stack.enter_context(closing(Endings(ledger.removals(), ledger.plan.terminal)))
        if endings.wanted:
            with tables.opened(path) as file:
                endings.read(_records(_entries(file, path, mapping.columns, delimiter), mapping))
        file = stack.enter_context(tables.opened(path, watch))
        rest = islice(_entries(file, path, mapping.columns, delimiter), progress.read, None)
        while some := list(islice(rest, AT_ONCE)):
            _keep(some, mapping, ledger, imported, key=key, endings=endings)
            on_batch(imported)
    ledger.keep(ledger.new_reading(), {key: _encoded(Progress(imported.read, done=True))})
    return imported


def _records(entries: Iterator[Entry], mapping: Mapping) -> Iterator[dict[str, Any]]:
    for _, values, trace in entries:
        try:
            record = None if values is None else mapping.record(values, trace)
        except EventError:
            continue  # it is named when it is to be kept
        if record is not None:
            yield record


def _keep(
    some: list[Entry], mapping: Mapping, ledger: Beside, imported: Imported, *, key: str, endings: Endings
) -> None:
    reading = ledger.new_reading()
    for line, values, trace in some:
        try:
            if values is None:
                raise EventError("undecodable", "it has not the columns of the first line")  # noqa: TRY301
            record = mapping.record(values, trace)
        except EventError as error:
            reading.refuse(error)
            imported.refuse(line, error.reason)
            continue
        if record is None:
            imported.skipped += 1
            continue
        before = reading.reasons.copy()
        reading.take(record)
        for reason in reading.reasons - before:
            imported.refuse(line, reason)
    imported.read += len(some)
    notes = {key: _encoded(Progress(imported.read))}
    ended = endings.among(one.order_id for one in reading.received)
    imported.results.update(ledger.keep(reading, notes, *ended))


def _entries(file: BinaryIO, path: Path, columns: Columns, delimiter: str | None) -> Iterator[Entry]:
    if ".xes" in path.suffixes:
        return ((event.line, dict(event.values), event.trace) for event in xes.events(file, str(path)))
    return ((row.line, row.values, None) for row in tables.csv_rows(file, columns.needed, delimiter))


def _digest(path: Path, mapping: Mapping) -> str:
    """Return what tells one import from another: the file's content, and how it is read."""
    zone = mapping.moments.zone
    how = repr((mapping.columns, sorted(mapping.statuses.items()), zone.key if zone else "", mapping.moments.pattern))
    digest = hashlib.blake2b(how.encode(), digest_size=16)
    with tables.opened(path) as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _encoded(progress: Progress) -> str:
    return msgspec.json.encode(progress).decode()
