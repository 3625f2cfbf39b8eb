"""Wrap methods of client classes, and put back the very same originals.  Knows no client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import wrapt
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Wrapper = Callable[[Callable[..., Any], Any, tuple[Any, ...], dict[str, Any]], Any]
    """Called as wrapper(wrapped, instance, args, kwargs) in place of the method."""


class Patches:
    """The methods of one client that are wrapped."""

    def __init__(self) -> None:
        self._wrapped: dict[tuple[type, str], tuple[Any, Any]] = {}
        self._applied = False

    @property
    def active(self) -> bool:
        """Whether calls are to be traced now: applied, and not inside OpenTelemetry's suppress_instrumentation."""
        return self._applied and is_instrumentation_enabled()

    def apply(self, wrappers: Iterable[tuple[type, str, Wrapper]]) -> None:
        """Wrap each (class, method); one that is wrapped already stays as it is."""
        for owner, name, wrapper in wrappers:
            if name in vars(owner) and (owner, name) not in self._wrapped:
                original = vars(owner)[name]
                self._wrapped[owner, name] = original, wrapt.wrap_function_wrapper(owner, name, wrapper)
        self._applied = True

    def restore(self) -> None:
        """Put every original back.

        A method that somebody else wrapped after us keeps both wrappers: theirs must not be lost, ours does nothing
        until apply() is called again.
        """
        for (owner, name), (original, wrapper) in tuple(self._wrapped.items()):
            if _wraps(vars(owner)[name], wrapper):
                setattr(owner, name, original)
                del self._wrapped[owner, name]
        self._applied = False


def _wraps(found: Any, wrapper: Any) -> bool:
    """Return whether *found* is *wrapper*, or what OpenTelemetry's unwrap() makes of it when it takes off another."""
    return found is wrapper or getattr(found, "_self_wrapper", None) is wrapper._self_wrapper  # noqa: SLF001 - wrapt's
