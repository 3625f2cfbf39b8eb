"""XES event logs: read as the standard has them, in bounded memory, without what XML can be made to do."""

from __future__ import annotations

import io
import tracemalloc
from typing import BinaryIO

import pytest

from otel_orders.errors import ConfigurationError
from otel_orders.ledger import xes

LOG = """<?xml version="1.0" encoding="UTF-8"?>
<log xes.version="1849.2016" xmlns="http://www.xes-standard.org/">
  <extension name="Concept" prefix="concept" uri="http://www.xes-standard.org/concept.xesext"/>
  <global scope="event"><string key="concept:name" value="a default"/></global>
  <classifier name="Activity" keys="concept:name"/>
  <string key="concept:name" value="the whole log"/>
  <trace>
    <string key="concept:name" value="4711"/>
    <event>
      <string key="concept:name" value="Angebot &lt;neu&gt; ä"><string key="cost" value="nested"/></string>
      <date key="time:timestamp" value="2025-11-26T12:00:00.000+01:00"/>
    </event>
    <event>
      <string key="concept:name" value="SUBMITTED"/>
      <list key="items"><values><string key="concept:name" value="an item"/></values></list>
    </event>
  </trace>
  <trace><string key="concept:name" value="4712"/><event><int key="n" value="5"/></event></trace>
</log>
"""


def read(text: str | bytes) -> list[xes.Event]:
    return list(xes.events(io.BytesIO(text.encode() if isinstance(text, str) else text), "log.xes"))


def test_events_come_with_their_own_attributes_and_those_of_their_trace() -> None:
    first, second, third = read(LOG)
    assert first.trace == second.trace == {"concept:name": "4711"}
    assert first.values == {"concept:name": "Angebot <neu> ä", "time:timestamp": "2025-11-26T12:00:00.000+01:00"}
    assert second.values == {"concept:name": "SUBMITTED"}
    assert (third.trace, third.values) == ({"concept:name": "4712"}, {"n": "5"})
    assert (first.line, second.line, third.line) == (12, 16, 18)


def test_a_prefix_of_the_namespace_makes_no_difference() -> None:
    event = '<x:event><x:string key="a" value="b"/></x:event>'
    text = f'<x:log xmlns:x="http://www.xes-standard.org/"><x:trace>{event}</x:trace></x:log>'
    assert [event.values for event in read(text)] == [{"a": "b"}]


LAUGHS = '<!DOCTYPE log [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><log><trace/>&b;</log>'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (LAUGHS, r"log\.xes:1: a document type or an entity"),
        ('<!DOCTYPE log SYSTEM "file:///etc/passwd"><log/>', "a document type"),
        ("<html/>", "first element is <log>"),
        ("no xml", r"log\.xes:1: syntax error"),
        ("<log><trace>", r"log\.xes:1: no element found"),
        ("", "no element found"),
        ("<log>\n<trace></event>", r"log\.xes:2: mismatched tag"),
        ("<log>" + "<list>" * 200, "nested too deeply"),
        (b"<log>\xff</log>", "not well-formed"),
    ],
)
def test_what_is_no_xes_ends_with_its_place(text: str | bytes, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        read(text)


@pytest.mark.parametrize("endless", ['<trace><string key="concept:name" value="', "<!--", "<"])
def test_a_tag_without_end_is_a_mistake_before_it_takes_all_memory(
    endless: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xes, "MAX_TAG", 1 << 20)
    tracemalloc.start()
    with pytest.raises(ConfigurationError, match=r"log.xes:1: a tag has over 1048576 bytes"):
        list(xes.events(Endless(f"<log>{endless}".encode()), "log.xes"))  # type: ignore[arg-type]
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


class Endless:
    """A file that begins with something and goes on for ever."""

    def __init__(self, beginning: bytes) -> None:
        self._next = beginning

    def read(self, size: int) -> bytes:
        piece, self._next = self._next, b"x" * size
        return piece


def test_what_came_before_a_fault_is_read() -> None:
    events = xes.events(_Slowly(LOG.encode()[:-20]), "log.xes")
    assert next(events).trace == {"concept:name": "4711"}


class _Slowly(io.BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size or 1, 100))


class _Long(io.RawIOBase):
    """A log of many events, made as it is read."""

    def __init__(self, events: int) -> None:
        self._left = events
        self._begun = False

    def read(self, _size: int = -1, /) -> bytes:
        if not self._begun:
            self._begun = True
            return b"<log><trace>"
        if not self._left:
            return b""
        self._left -= 1
        return b"<event><string key='a' value='" + b"x" * 1000 + b"'/></event>" + b"</trace></log>" * (not self._left)


def test_a_log_of_any_size_takes_the_memory_of_a_piece() -> None:
    file: BinaryIO = _Long(20_000)  # type: ignore[assignment]
    tracemalloc.start()
    try:
        assert sum(1 for _ in xes.events(file, "long.xes")) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
