"""Bearer tokens (RFC 6750), compared in constant time."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Scope


def bears(scope: Scope, *tokens: str) -> bool:
    """Whether the request of *scope* brings one of *tokens*."""
    scheme, _, given = dict(scope["headers"]).get(b"authorization", b"").partition(b" ")
    found = [hmac.compare_digest(given.strip(), token.encode()) for token in tokens]
    return scheme.lower() == b"bearer" and any(found)
