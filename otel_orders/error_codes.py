"""What a failed transition is called: the error code of an exception.  Knows nothing of orders."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from otel_orders.event import text_of

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_ERROR_CODES = 50
OTHER_ERROR = "other"


class ErrorCodes:
    """Turns exceptions into error codes, of which there are at most 50: they are metric labels."""

    def __init__(self) -> None:
        self._registered: dict[type[BaseException], str] = {}
        self._seen: set[str] = set()

    def register(self, codes: Mapping[type[BaseException], str]) -> None:
        """Name the code of each exception class in *codes*, and of its subclasses."""
        self._registered.update(codes)

    def forget(self) -> None:
        """Forget what was registered and seen."""
        self._registered.clear()
        self._seen.clear()

    def of(self, error: BaseException) -> str:
        """Return *error*'s own error_code, else its registered one, else the name of its class."""
        if isinstance(error, asyncio.CancelledError):
            return "cancelled"
        try:
            own = getattr(error, "error_code", None)
        except Exception:  # a property of the application's that fails is as good as none
            own = None
        code = text_of(own) if isinstance(own, (str, int)) and own != "" else self._by_class(type(error))
        return self.bounded(code)

    def bounded(self, code: str) -> str:
        """Return *code*, or `other` when there are 50 already, `other` included."""
        if code not in self._seen:
            if len(self._seen) >= MAX_ERROR_CODES - 1:
                return OTHER_ERROR
            self._seen.add(code)
        return code

    def _by_class(self, kind: type[BaseException]) -> str:
        return next((self._registered[base] for base in kind.__mro__ if base in self._registered), kind.__name__)


error_codes = ErrorCodes()
