"""Where an HTTP request says which order it is about: baggage, a header, or a parameter of the matched path.

Knows the ASGI scope, and no framework: a path parameter is noticed as whatever routes the request notes it there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import msgspec

from otel_orders.context import Order, usable
from otel_orders.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping

BAGGAGE = "baggage"


class OrderSource(msgspec.Struct, frozen=True):
    """What is looked at, in this order: a path parameter, as soon as it is known, headers, baggage."""

    path: str | None = None
    headers: tuple[str, ...] = ()
    baggage: bool = False

    @classmethod
    def parse(cls, *written: str) -> Self:
        """Return what *written* means: ``baggage``, ``header:NAME`` and ``path:PARAMETER``.

        Raises ConfigurationError for anything else.
        """
        parts = [one.strip().partition(":") for one in written]
        paths = [name for kind, _, name in parts if kind == "path"]
        known = all((kind in ("path", "header") and name) or (kind, name) == (BAGGAGE, "") for kind, _, name in parts)
        if not known or len(paths) > 1:
            raise ConfigurationError(
                f"order_id={', '.join(written)!r}: expected baggage, header:NAME, and at most one path:PARAMETER"
            )
        headers = tuple(name.lower() for kind, _, name in parts if kind == "header")
        return cls(paths[0] if paths else None, headers, any(kind == BAGGAGE for kind, *_ in parts))

    def early(self, headers: Mapping[str, str], carried: Order | None) -> Order | None:
        """Return the order that is known before the request is routed.  carried: what the baggage names."""
        for name in self.headers:
            if usable(order_id := headers.get(name)):
                return _with_partner(order_id, carried)
        return carried if self.baggage else None

    def routed(self, path_params: object, carried: Order | None) -> Order | None:
        """Return the order that the parameters of the matched path name."""
        found = path_params.get(self.path) if isinstance(path_params, dict) else None
        order_id = None if found is None else str(found)
        return _with_partner(order_id, carried) if usable(order_id) else None


def _with_partner(order_id: str, carried: Order | None) -> Order:
    return carried if carried is not None and carried.order_id == order_id else Order(order_id)


class WatchedScope(dict[str, Any]):
    """An ASGI scope that tells when the request has been routed.

    What is written to it is written to the caller's scope too: who stands before us reads the route there.
    """

    def __init__(self, scope: MutableMapping[str, Any], routed: Callable[[object], None]) -> None:
        super().__init__(scope)
        self._outer = scope
        self._routed = routed

    def __setitem__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Note what a router has found."""
        super().update(*args, **kwargs)
        self._outer.update(*args, **kwargs)
        self._routed(self.get("path_params"))
