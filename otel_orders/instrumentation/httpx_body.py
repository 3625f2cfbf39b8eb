"""The bodies of httpx responses, whose end is the end of what they answer.  Knows no span.

A body may be left, and even closed, by the garbage collector, which runs anywhere: nothing may be ended there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


class Call(Protocol):
    """What ends with the body, once, and never raises."""

    def end_safely(self, error: BaseException | None = None) -> None:
        """End, because of *error* if there is one; later, where the garbage collector may have come here."""

    def let_go(self) -> None:
        """Have it ended later: nobody holds the body any more."""


def ending(response: httpx.Response, call: Call) -> None:
    """Have *call* end with the body of *response*: when it is read, fails, is closed, or when nobody holds it."""
    stream = response.stream
    if isinstance(stream, httpx.SyncByteStream):
        response.stream = _Body(stream, call)
    elif isinstance(stream, httpx.AsyncByteStream):
        response.stream = _AsyncBody(stream, call)


class _Body(httpx.SyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream, call: Call) -> None:
        self._stream = stream
        self._call = call

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._stream
        except BaseException as error:
            self._call.end_safely(error)
            raise
        self._call.end_safely()

    def close(self) -> None:
        try:
            self._stream.close()
        finally:
            self._call.end_safely()

    def __del__(self) -> None:
        self._call.let_go()


class _AsyncBody(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream, call: Call) -> None:
        self._stream = stream
        self._call = call

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._stream:
                yield chunk
        except BaseException as error:
            self._call.end_safely(error)
            raise
        self._call.end_safely()

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            self._call.end_safely()

    def __del__(self) -> None:
        self._call.let_go()
