"""Read requests, of HTTP and gRPC, within bounds: of size, time, how far a packed one may grow, and of all together.

A client that nobody trusts may send anything, slowly, and many times at once; it must not cost the others more than
their turn.
"""

from __future__ import annotations

import asyncio
import functools
import gzip
import io
import time
import zlib
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from starlette.requests import Request

T = TypeVar("T")

MAX_BODY: Final = 16 << 20
"""Largest body that is taken, in bytes, compressed and not: an OTLP batch is a few hundred KB."""
MAX_MESSAGE: Final = 4 << 20
"""Largest message over gRPC as it is sent, in bytes: what gRPC servers usually take, the Collector's too."""
MAX_HELD: Final = 64 << 20
"""Bytes of all bodies whose requests have no answer yet."""
ROOM_SECONDS: Final = 1.0
"""Time that a message waits for room before it is read."""
READ_SECONDS: Final = 30.0
"""Time that a sender has for one body."""
SMALL: Final = 64 << 10
"""Bodies up to this size, in bytes, are decoded where they are; larger ones in a thread, one at a time."""
TURN_SECONDS: Final = 3.0
"""Time that a large body waits for its turn: senders of OTLP wait for an answer for 10 s, the disk included."""
RETRY_SECONDS: Final = 1
"""When senders may try again."""
RETRY_AFTER: Final = {"Retry-After": str(RETRY_SECONDS)}
GZIP: Final = b"\x1f\x8b"
"""How gzip begins, and no protobuf message: its first byte would be a wire type that there is not."""


class Intake:
    """The bodies of all requests that have no answer yet."""

    def __init__(self) -> None:
        self._held = 0
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def body(self, request: Request, decode: Callable[[bytes], T]) -> AsyncIterator[T]:
        """Give what *decode* makes of the body of *request*, unpacked; it has its share of memory inside the block.

        Raises HTTPException 400, 413, 415, 429 or 503, and what *decode* raises.
        """
        encoding = request.headers.get("content-encoding", "identity").lower()
        if encoding not in ("identity", "gzip", ""):
            raise HTTPException(415, "expected no content-encoding, or gzip")
        with self._share() as share:
            body = await _read(request, share)
            yield await self._decoded(body, decode, share, packed=encoding == "gzip")

    @asynccontextmanager
    async def message(self, read: Callable[[], Awaitable[bytes]], decode: Callable[[bytes], T]) -> AsyncIterator[T]:
        """Give what *decode* makes of the message that *read* waits for, as body() does.

        How large it is shows only at its end, so until then it holds the share of the largest; many that come at once
        wait for each other.
        """
        with self._share() as share:
            await self._room(share, MAX_MESSAGE)
            async with _in_time():
                message = await read()
            share.give_back(MAX_MESSAGE - len(message))
            yield await self._decoded(message, decode, share, packed=message.startswith(GZIP))

    async def _decoded(self, body: bytes, decode: Callable[[bytes], T], share: _Share, *, packed: bool) -> T:
        """Unpack and decode *body*; a large one has one turn for both, and keeps nobody else waiting for an answer."""
        if packed and len(body) <= SMALL:
            body, packed = unzipped(body), False
            share.take(len(body))
        if len(body) <= SMALL:
            return decode(body)
        async with self._in_turn():
            if packed:
                body = await _in_thread(functools.partial(unzipped, body))
                share.take(len(body))
            return await _in_thread(functools.partial(decode, body))

    @asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await self._turn.acquire()
        except TimeoutError:
            raise HTTPException(429, "too many large requests wait for their turn", RETRY_AFTER) from None
        try:
            yield
        finally:
            self._turn.release()

    async def _room(self, share: _Share, size: int) -> None:
        """Let *share* take *size* bytes as soon as there is room for them."""
        give_up = time.monotonic() + ROOM_SECONDS
        while self._held + size > MAX_HELD and time.monotonic() < give_up:  # noqa: ASYNC110 - simple, and rare
            await asyncio.sleep(0.01)
        share.take(size)

    @contextmanager
    def _share(self) -> Iterator[_Share]:
        share = _Share(self)
        try:
            yield share
        finally:
            share.give_back(share.size)

    def hold(self, size: int) -> None:
        """Count *size* bytes more, or less."""
        self._held += size
        if size > 0 and self._held > MAX_HELD:
            raise HTTPException(429, "too many large requests at once", RETRY_AFTER)


class _Share:
    """What one request holds of the memory for all; size: in bytes."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self.size = 0

    def take(self, size: int) -> None:
        """Take *size* bytes.  Raises HTTPException 429 where all together have too many."""
        self.size += size
        self._intake.hold(size)

    def give_back(self, size: int) -> None:
        """Give *size* bytes back."""
        self.size -= size
        self._intake.hold(-size)


async def _read(request: Request, share: _Share) -> bytes:
    body = bytearray()
    async with _in_time():
        async for chunk in request.stream():
            body += chunk
            share.take(len(chunk))
            if len(body) > MAX_BODY:
                raise too_large()
    return bytes(body)


async def _in_thread(work: Callable[[], T]) -> T:
    """Return the result of *work*.  A sender that goes away does not end the thread, so its turn lasts until then."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    finally:
        await asyncio.wait([running])


@asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(READ_SECONDS):
            yield
    except TimeoutError:
        # Not 408: senders of OTLP drop what they get that for, and try again what they get this for.
        raise HTTPException(503, f"a body must arrive within {READ_SECONDS:.0f} s", RETRY_AFTER) from None


def unzipped(body: bytes) -> bytes:
    """Return what the gzip *body*, of one member or more (RFC 1952), holds.  Raises HTTPException 400 or 413."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(body)) as members:
            unpacked = members.read(MAX_BODY + 1)
    except EOFError:
        raise HTTPException(400, "the gzip body is cut short") from None
    except (OSError, zlib.error):
        raise HTTPException(400, "the body is no gzip") from None
    if len(unpacked) > MAX_BODY:
        raise too_large()
    return unpacked


def too_large() -> HTTPException:
    """Return what a sender of too large a body is told."""
    return HTTPException(413, f"a body may have {MAX_BODY} bytes, also unpacked; send smaller batches")
