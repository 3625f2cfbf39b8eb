"""Wrap functions of all four kinds in a scope, and find the order in their arguments.

A scope is a block around a call.  Around a generator it is bound for each step and released between them, so that the
order never leaks to the code that iterates.  Knows nothing of events.
"""

from __future__ import annotations

import functools
import inspect
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Protocol, TypeAlias, TypeVar, cast

from otel_orders.errors import ConfigurationError
from otel_orders.faults import count_failure

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

P = ParamSpec("P")
R = TypeVar("R")
_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
Resolver: TypeAlias = "str | Callable[..., object]"
"""How a decorator names a value: a parameter, a dotted path that starts with one, or a callable."""


class Scope(Protocol):
    """A block around a call; see transition.OrderScope."""

    def start(self) -> None:
        """Begin, unbound."""

    def bind(self) -> None:
        """Enter one step."""

    def unbind(self) -> None:
        """Leave one step."""

    def finish(self, error: BaseException | None) -> None:
        """End, because of *error* if there is one; called while bound."""

    def __enter__(self) -> Any: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None: ...


UNRESOLVED: Final = object()
"""What a resolver returns where it fails; the fault is counted then."""


def resolver(function: Callable[..., Any], what: str, spec: object) -> Callable[[tuple[Any, ...], dict[str, Any]], Any]:
    """Return a callable that finds *spec* in a call's (args, kwargs); it never raises, see UNRESOLVED.

    what: the decorator's own argument, for the message.  Raises ConfigurationError where *spec* cannot ever work.
    """
    find = _caller(spec) if callable(spec) else _path(function, what, spec)

    def found(args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
        try:
            return find(args, kwargs)
        except Exception as error:
            count_failure("resolver", error)
            return UNRESOLVED

    return found


def _caller(spec: Callable[..., object]) -> Any:
    return lambda args, kwargs: spec(*args, **kwargs)


def _path(function: Callable[..., Any], what: str, spec: object) -> Any:
    name = getattr(function, "__qualname__", repr(function))
    if not isinstance(spec, str) or not spec:
        raise ConfigurationError(f"{what} of {name}: expected a parameter, a dotted path or a callable, got {spec!r}")
    head, _, rest = spec.partition(".")
    parameters = _parameters(function)
    if head not in parameters:
        has = ", ".join(parameters) or "none"
        raise ConfigurationError(f"{what}={spec!r}: {name} has no parameter {head!r}; its parameters: {has}")
    argument = _argument(parameters[head], list(parameters).index(head))
    if not rest:
        return argument
    follow = attrgetter(rest)
    return lambda args, kwargs: follow(argument(args, kwargs))


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters that hold one argument each; none for what has no signature."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
    return {name: found for name, found in parameters.items() if found.kind not in _VARIABLE}


def _argument(parameter: inspect.Parameter, position: int) -> Any:
    """Return a callable that picks one argument, without the cost of binding the whole signature."""
    name, default = parameter.name, parameter.default

    def keyword(kwargs: dict[str, Any]) -> Any:
        return kwargs[name] if default is parameter.empty else kwargs.get(name, default)

    if parameter.kind is parameter.KEYWORD_ONLY:
        return lambda _args, kwargs: keyword(kwargs)
    return lambda args, kwargs: args[position] if position < len(args) else keyword(kwargs)


def wrapped(function: Callable[P, R], scope: Callable[[tuple[Any, ...], dict[str, Any]], Scope]) -> Callable[P, R]:
    """Return *function* with each of its calls inside the scope that *scope* makes from (args, kwargs)."""
    if isinstance(function, type) or not callable(function) or isinstance(function, staticmethod):
        raise ConfigurationError(
            f"cannot decorate {function!r}: put the decorator directly above def, below @staticmethod or @classmethod"
        )
    is_object = not (inspect.isroutine(function) or isinstance(function, functools.partial))
    called = cast("Any", function).__call__ if is_object else function
    wrap = next((wrap for matches, wrap in _KINDS if matches(called)), _wrap_function)
    return cast("Callable[P, R]", functools.wraps(function)(wrap(function, scope)))


def _wrap_function(function: Any, scope: Any) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        with scope(args, kwargs):
            return function(*args, **kwargs)

    return call


def _wrap_coroutine(function: Any, scope: Any) -> Any:
    async def call(*args: Any, **kwargs: Any) -> Any:
        with scope(args, kwargs):
            return await function(*args, **kwargs)

    return call


def _wrap_generator(function: Any, scope: Any) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        """Run the generator with the scope bound around each step.

        Every value and exception is handed on by hand: `yield from` would turn a thrown GeneratorExit into a close().
        A generator that returns when it is closed has not come to its end: the scope ends with the GeneratorExit.
        """
        generator, bound = function(*args, **kwargs), scope(args, kwargs)
        bound.start()
        step, value, closing = generator.send, None, None
        while True:
            bound.bind()
            try:
                item = step(value)
            except StopIteration as stop:
                bound.finish(closing)
                return stop.value
            except BaseException as error:
                bound.finish(error)
                raise
            finally:
                bound.unbind()
                value = closing = None  # an exception that holds its own frame would live until garbage collection
            try:
                step, value = generator.send, (yield item)
            except GeneratorExit as error:
                step, value, closing = generator.throw, error, error
            except BaseException as error:
                step, value = generator.throw, error

    return call


def _wrap_async_generator(function: Any, scope: Any) -> Any:
    async def call(*args: Any, **kwargs: Any) -> Any:
        """Run the generator as _wrap_generator() does."""
        generator, bound = function(*args, **kwargs), scope(args, kwargs)
        bound.start()
        step, value, closing = generator.asend, None, None
        while True:
            bound.bind()
            try:
                item = await step(value)
            except StopAsyncIteration:
                bound.finish(closing)
                return
            except BaseException as error:
                bound.finish(error)
                raise
            finally:
                bound.unbind()
                value = closing = None
            try:
                step, value = generator.asend, (yield item)
            except GeneratorExit as error:
                step, value, closing = generator.athrow, error, error
            except BaseException as error:
                step, value = generator.athrow, error

    return call


_KINDS: tuple[tuple[Any, Any], ...] = (
    (inspect.isasyncgenfunction, _wrap_async_generator),
    (inspect.iscoroutinefunction, _wrap_coroutine),
    (inspect.isgeneratorfunction, _wrap_generator),
)
