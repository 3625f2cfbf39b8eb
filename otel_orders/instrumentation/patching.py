"""Wrap methods of client classes, and put back the very same originals.  Knows no client.

Ours is the innermost of all wrappers that wrapt made, whoever came first.  So the official instrumentors' unwrap(),
which takes off whatever is outermost, takes off theirs; and ours leaves from beneath them without taking them along.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import wrapt
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Wrapper = Callable[[Callable[..., Any], Any, tuple[Any, ...], dict[str, Any]], Any]
    """Called as wrapper(wrapped, instance, args, kwargs) in place of the method."""


_lock = threading.RLock()
"""Held while methods change: two threads may instrument at once."""


class Patches:
    """The methods of one client that are wrapped."""

    def __init__(self) -> None:
        self._wrapped: dict[tuple[Any, str], Any] = {}
        self._applied = False

    @property
    def active(self) -> bool:
        """Whether calls are to be traced now: applied, and not inside OpenTelemetry's suppress_instrumentation."""
        return self._applied and is_instrumentation_enabled()

    def apply(self, wrappers: Iterable[tuple[Any, str, Wrapper]]) -> None:
        """Wrap each (class or module, function); one that is wrapped already stays as it is."""
        with _lock:
            for owner, name, wrapper in wrappers:
                if name not in vars(owner):
                    continue
                ours = self._wrapped.get((owner, name))
                if ours is None or vars(owner)[name] is ours.__wrapped__:
                    self._wrapped[owner, name] = _insert(owner, name, wrapper)
            self._applied = True

    def restore(self) -> None:
        """Put every original back.

        A method that somebody else wrapped after us, and not with wrapt, keeps both wrappers: theirs must not be lost,
        ours does nothing until apply() is called again.
        """
        with _lock:
            for (owner, name), ours in tuple(self._wrapped.items()):
                if _remove(owner, name, ours):
                    del self._wrapped[owner, name]
            self._applied = False


def _insert(owner: Any, name: str, wrapper: Wrapper) -> Any:
    """Put *wrapper* around the function itself, beneath all wrappers that are there, and return what wraps it."""
    *_, innermost = None, *_wrappers(owner, name)
    original = vars(owner)[name] if innermost is None else innermost.__wrapped__
    ours: Any = wrapt.FunctionWrapper(original, wrapper)
    _put(owner, name, innermost, ours)
    return ours


def _remove(owner: Any, name: str, ours: Any) -> bool:
    """Take *ours* out from among the wrappers; return whether it is gone."""
    outer = None
    for found in _wrappers(owner, name):
        if found is ours:
            _put(owner, name, outer, ours.__wrapped__)
            return True
        outer = found
    return vars(owner)[name] is ours.__wrapped__


def _put(owner: Any, name: str, outer: Any, inner: Any) -> None:
    """Let *inner* be what *outer* wraps; with none outside, what *owner* has."""
    if outer is None:
        setattr(owner, name, inner)
    else:
        outer.__wrapped__ = inner


def _wrappers(owner: Any, name: str) -> Iterator[Any]:
    """Yield what wrapt has put around the function, from outside."""
    found = vars(owner)[name]
    while True:
        if isinstance(found, wrapt.BoundFunctionWrapper):  # what OpenTelemetry's unwrap() leaves of an inner one
            found = found._self_parent  # noqa: SLF001 - which decides what is called
        if not isinstance(found, wrapt.FunctionWrapper):
            return
        yield found
        found = found.__wrapped__
