"""Read request bodies within bounds: size, compression, and how far a compressed one may grow."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from starlette.requests import Request

MAX_BODY = 16 << 20
"""Largest body that is taken, in bytes, compressed and not: an OTLP batch is a few hundred KB."""


async def body_of(request: Request) -> bytes:
    """Return the body, unpacked.  Raises HTTPException 413, 415 or 400."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY:
            raise HTTPException(413, f"a body may have {MAX_BODY} bytes; send smaller batches")
        chunks.append(chunk)
    body = b"".join(chunks)
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding == "gzip":
        return _unzipped(body)
    if encoding not in ("identity", ""):
        raise HTTPException(415, "expected no content-encoding, or gzip")
    return body


def _unzipped(body: bytes) -> bytes:
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        unpacked = unpacker.decompress(body, MAX_BODY)
    except zlib.error:
        raise HTTPException(400, "the body is no gzip") from None
    if unpacker.unconsumed_tail:
        raise HTTPException(413, f"an unpacked body may have {MAX_BODY} bytes; send smaller batches")
    if not unpacker.eof:
        raise HTTPException(400, "the gzip body is cut short")
    return unpacked
