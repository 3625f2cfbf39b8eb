"""Read an event log in XES (IEEE 1849), event by event: a log of any size takes the memory of one event.

Knows XML and the log's shape, and no order.  A file that declares a document type or entities is refused, since XES has
neither and they are how XML is made to grow or to fetch; what else is not well-formed ends the reading where it stands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn
from xml.parsers import expat

from otel_orders.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

AT_ONCE: Final = 1 << 16
MAX_DEPTH: Final = 100
MAX_TAG: Final = 16 << 20
"""Longest tag, in bytes: a packed file may hold one as long as you please."""
MAX_ATTRIBUTES: Final = 1_000
"""Attributes read of one trace or event; what comes after is passed over."""


class Event(NamedTuple):
    """One event.  line: where it ends in the file.  trace, values: attributes of its trace and its own, as text."""

    line: int
    trace: dict[str, str]
    values: dict[str, str]


def events(file: BinaryIO, name: str) -> Iterator[Event]:
    """Yield the events of the log in *file*.  Raises ConfigurationError, with *name* and line, where it is no XES."""
    log = _Log(name)
    while piece := file.read(AT_ONCE):
        yield from log.parsed(piece)
    yield from log.parsed(b"", last=True)


class _Log:
    """The state of reading one log: what the elements around the next one say."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._parser = expat.ParserCreate()
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._parser.EntityDeclHandler = self._refuse
        self._parser.buffer_text = True
        self._fed = 0
        self._open: list[str] = []
        self._trace: dict[str, str] = {}
        self._event: dict[str, str] = {}
        self._found: list[Event] = []

    def parsed(self, piece: bytes, *, last: bool = False) -> list[Event]:
        """Return the events that end in *piece*."""
        try:
            self._parser.Parse(piece, last)
        except expat.ExpatError as error:
            raise ConfigurationError(f"{self._name}:{error.lineno}: {expat.ErrorString(error.code)}") from None
        self._fed += len(piece)
        if self._fed - max(0, self._parser.CurrentByteIndex) > MAX_TAG:
            line = self._parser.CurrentLineNumber
            raise ConfigurationError(f"{self._name}:{line}: a tag has over {MAX_TAG} bytes")
        found, self._found = self._found, []
        return found

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        name, around = tag.rpartition(":")[2], self._open
        if not around and name != "log":
            raise ConfigurationError(f"{self._name}: expected XES, whose first element is <log>")
        if len(around) >= MAX_DEPTH:
            raise ConfigurationError(f"{self._name}:{self._parser.CurrentLineNumber}: elements are nested too deeply")
        if name == "trace":
            self._trace = {}
        elif name == "event":
            self._event = {}
        elif "key" in attributes and "value" in attributes and around[-1] in ("trace", "event"):
            into = self._trace if around[-1] == "trace" else self._event
            if len(into) < MAX_ATTRIBUTES:
                into[attributes["key"]] = attributes["value"]
        around.append(name)

    def _end(self, _tag: str) -> None:
        if self._open.pop() == "event":
            self._found.append(Event(self._parser.CurrentLineNumber, self._trace, self._event))

    def _refuse(self, *_: Any) -> NoReturn:
        line = self._parser.CurrentLineNumber
        raise ConfigurationError(f"{self._name}:{line}: a document type or an entity, which XES has not")
