from __future__ import annotations

import asyncio
import functools
import inspect
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_orders import current_order, order_context, transition
from otel_orders.errors import ConfigurationError
from otel_orders.testing import captured_events
from tests.sinks.memory import Counted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterator

    from otel_orders.event import StatusEvent


class Command:
    class order:  # noqa: N801 - an attribute of a command
        id = "A-1"

    partner = "acme"


@pytest.fixture
def events() -> Iterator[list[Any]]:
    with captured_events() as found:
        yield found


def bound_order() -> tuple[str, str | None] | None:
    order = current_order()
    return None if order is None else (order.order_id, order.partner_id)


# How an order is named.


@pytest.mark.parametrize(
    ("spec", "args", "kwargs"),
    [
        ("order_id", ("A-1",), {}),
        ("order_id", (), {"order_id": "A-1"}),
        ("cmd.order.id", (None, Command()), {}),
        ("cmd.order.id", (), {"order_id": None, "cmd": Command()}),
        ("late", (None,), {"late": "A-1"}),
        ("given", (None,), {}),
        (lambda order_id, **_rest: order_id, ("A-1",), {}),
    ],
)
def test_an_order_is_found_by_parameter_path_or_callable(
    spec: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    @order_context(spec)
    def work(order_id: Any, cmd: Any = None, given: str = "A-1", *more: Any, late: Any = None) -> Any:  # noqa: ARG001
        return bound_order()

    assert work(*args, **kwargs) == ("A-1", None)


def test_a_method_can_name_its_own_object() -> None:
    class Service:
        shop = "S-1"

        @order_context("self.shop")
        def work(self) -> Any:
            return bound_order()

        @classmethod
        @order_context("order_id", partner_id="cls.__name__")
        def of_class(cls, order_id: str) -> Any:  # noqa: ARG003
            return bound_order()

        @staticmethod
        @order_context("order_id")
        def static(order_id: str) -> Any:  # noqa: ARG004
            return bound_order()

    assert Service().work() == ("S-1", None)
    assert Service.of_class("A-1") == ("A-1", "Service")
    assert Service().static("A-2") == ("A-2", None)


@pytest.mark.parametrize("decorator", [lambda **given: transition("SHIPPED", **given), order_context])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"order_id": "orderid"},
            r"order_id='orderid': .*work has no parameter 'orderid'; its parameters: order_id, cmd",
        ),
        ({"order_id": "order.id"}, "no parameter 'order'"),
        ({"order_id": "more"}, "no parameter 'more'"),
        ({"order_id": "rest.order_id"}, "no parameter 'rest'"),
        ({"order_id": "order_id", "partner_id": "partner"}, "partner_id='partner': .* no parameter 'partner'"),
        ({"order_id": ""}, "expected a parameter, a dotted path or a callable, got ''"),
        ({"order_id": 7}, "expected a parameter, a dotted path or a callable, got 7"),
    ],
)
def test_a_missing_parameter_is_an_error_at_decoration(decorator: Any, given: dict[str, Any], message: str) -> None:
    def work(order_id: str, cmd: object, *more: object, **rest: object) -> None: ...

    with pytest.raises(ConfigurationError, match=message):
        decorator(**given)(work)


def of_class(cls: object) -> object:
    return cls


@pytest.mark.parametrize("wrong", [Command, staticmethod(len), classmethod(of_class), 7])
def test_what_cannot_be_decorated_is_an_error_that_says_where_the_decorator_goes(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="put the decorator directly above def"):
        order_context(lambda *_args: "A-1")(wrong)


@pytest.mark.parametrize("kind", ["function", "partial", "object", "coroutine object"])
def test_other_callables_are_decorated_too(kind: str) -> None:
    class Work:
        def __call__(self, order_id: str) -> Any:  # noqa: ARG002
            return bound_order()

    class Later:
        async def __call__(self, order_id: str) -> Any:  # noqa: ARG002
            await asyncio.sleep(0)
            return bound_order()

    kinds: dict[str, Any] = {
        "function": lambda order_id: bound_order(),  # noqa: ARG005
        "partial": functools.partial(Work().__call__),
        "object": Work(),
        "coroutine object": Later(),
    }
    found: Any = order_context("order_id")(kinds[kind])("A-1")
    assert (asyncio.run(found) if inspect.iscoroutine(found) else found) == ("A-1", None)


@pytest.mark.parametrize("spec", ["cmd.order.number", lambda _cmd: 1 / 0])
def test_a_resolver_that_fails_is_counted_once_and_the_function_still_runs(spec: Any, events: list[Any]) -> None:
    counted = Counted()

    @transition("SHIPPED", order_id=spec)
    def work(cmd: object) -> str:  # noqa: ARG001
        return "done"

    assert work(Command()) == "done"
    assert events == []
    assert counted.faults() == {"resolver": 1}


def test_a_partner_that_is_not_found_does_not_cost_the_order(events: list[StatusEvent]) -> None:
    counted = Counted()

    @transition("SHIPPED", order_id="order_id", partner_id="cmd.nobody")
    def work(order_id: str, cmd: object) -> None: ...

    work("A-1", Command())
    assert [(event.order_id, event.partner_id) for event in events] == [("A-1", None)]
    assert counted.faults() == {"resolver": 1}


def test_a_call_with_wrong_arguments_fails_as_it_would_and_names_no_order(events: list[Any]) -> None:
    @transition("SHIPPED", order_id="order_id")
    def work(order_id: str) -> None: ...

    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        work()  # type: ignore[call-arg]
    assert events == []


# What a decorated function still is.


def test_a_decorated_function_keeps_its_name_its_signature_and_its_kind() -> None:
    def plain(order_id: str) -> None:
        """Work."""

    async def coroutine(order_id: str) -> None: ...

    def generator(order_id: str) -> Iterator[int]:  # noqa: ARG001
        yield 1

    async def async_generator(order_id: str) -> AsyncIterator[int]:  # noqa: ARG001
        yield 1

    kinds = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    for function in (plain, coroutine, generator, async_generator):
        decorated = order_context("order_id")(function)
        assert [kind(decorated) for kind in kinds] == [kind(function) for kind in kinds]
        assert inspect.signature(decorated) == inspect.signature(function)
        assert (decorated.__name__, decorated.__doc__) == (function.__name__, function.__doc__)


# Generators.

Step = tuple[str, Any]
STEPS = st.lists(
    st.one_of(
        st.just(("next", None)),
        st.tuples(st.just("send"), st.integers()),
        st.tuples(
            st.just("throw"), st.sampled_from([ValueError, KeyError, StopIteration, GeneratorExit, RuntimeError])
        ),
        st.just(("close", None)),
    ),
    max_size=8,
)


def stubborn(order_id: str) -> Generator[Any, Any, str]:
    """Do everything that a generator can do: answer, catch, refuse to close once, raise, return."""
    heard: list[Any] = [order_id]
    while len(heard) < 5:
        try:
            heard.append((yield tuple(heard)))
        except ValueError as error:
            heard.append(repr(error))
        except GeneratorExit:
            if len(heard) == 3:
                yield "not yet"
            if len(heard) == 2:
                return "closed quietly"
            raise
    return f"heard {heard}"


def outcome(generator: Any, step: Step) -> tuple[str, Any]:
    kind, value = step
    try:
        if kind == "throw":
            return "yielded", generator.throw(value("thrown"))
        return "yielded", {"next": lambda: next(generator), "close": generator.close}.get(
            kind, lambda: generator.send(value)
        )()
    except BaseException as error:
        return type(error).__name__, (error.args, repr(error.__cause__), repr(error.__context__))


@settings(deadline=None)  # a busy machine is no fault of the generator's
@given(STEPS)
@pytest.mark.parametrize("decorate", [order_context("order_id"), transition("SHIPPED", order_id="order_id")])
def test_a_decorated_generator_behaves_exactly_as_the_bare_one(decorate: Any, steps: list[Step]) -> None:
    with captured_events():
        bare, decorated = stubborn("A-1"), decorate(stubborn)("A-1")
        for step in steps:
            assert outcome(decorated, step) == outcome(bare, step)
            assert current_order() is None
        assert outcome(decorated, ("close", None)) == outcome(bare, ("close", None))


async def stubborn_async(order_id: str) -> Any:
    heard: list[Any] = [order_id]
    while len(heard) < 5:
        await asyncio.sleep(0)
        try:
            heard.append((yield tuple(heard)))
        except ValueError as error:
            heard.append(repr(error))
        except GeneratorExit:
            if len(heard) == 3:
                yield "not yet"
            if len(heard) == 2:
                return
            raise


async def async_outcome(generator: Any, step: Step) -> tuple[str, Any]:
    kind, value = step
    try:
        if kind == "throw":
            return "yielded", await generator.athrow(value("thrown"))
        if kind == "close":
            return "yielded", await generator.aclose()
        return "yielded", await generator.asend(value)
    except BaseException as error:
        return type(error).__name__, (error.args, repr(error.__cause__), repr(error.__context__))


@settings(deadline=None)  # a busy machine is no fault of the generator's
@given(STEPS)
@pytest.mark.parametrize("decorate", [order_context("order_id"), transition("SHIPPED", order_id="order_id")])
def test_a_decorated_async_generator_behaves_exactly_as_the_bare_one(decorate: Any, steps: list[Step]) -> None:
    async def compare() -> None:
        bare, decorated = stubborn_async("A-1"), decorate(stubborn_async)("A-1")
        for step in [*steps, ("close", None), ("close", None)]:
            assert await async_outcome(decorated, step) == await async_outcome(bare, step)
            assert current_order() is None

    with captured_events():
        asyncio.run(compare())


def test_the_order_is_bound_in_each_step_and_never_in_the_code_that_iterates(events: list[StatusEvent]) -> None:
    @transition("PACKAGING", order_id="order_id")
    def pack(order_id: str) -> Generator[Any, None, str]:  # noqa: ARG001
        yield bound_order()
        yield bound_order()
        return "packed"

    with order_context("B-2"):
        generator = pack("A-1")
        seen = []
        while True:
            try:
                seen.append(next(generator))
            except StopIteration as stop:
                returned = stop.value
                break
            assert bound_order() == ("B-2", None)
    assert seen == [("A-1", None), ("A-1", None)]
    assert returned == "packed"
    assert [(event.event_type, event.order_id) for event in events] == [("order.status_changed", "A-1")]


def test_two_interleaved_generators_keep_their_own_orders() -> None:
    @order_context("order_id")
    def work(order_id: str) -> Iterator[Any]:
        for _ in range(3):
            yield (order_id, bound_order())

    pairs = list(zip(work("A-1"), work("A-2"), strict=True))
    assert pairs == [(("A-1", ("A-1", None)), ("A-2", ("A-2", None)))] * 3


def closing(order_id: str) -> Iterator[int]:  # noqa: ARG001
    yield 1
    yield 2


def swallowing(order_id: str) -> Iterator[int]:  # noqa: ARG001
    try:
        yield 1
    except GeneratorExit:
        return


@pytest.mark.parametrize("function", [closing, swallowing])
def test_a_generator_that_is_closed_early_records_nothing(
    function: Callable[[str], Iterator[int]], events: list[Any]
) -> None:
    generator: Any = transition("SHIPPED", order_id="order_id")(function)("A-1")
    assert next(generator) == 1
    generator.close()
    assert events == []


def test_a_generator_that_is_never_started_records_nothing(events: list[Any]) -> None:
    transition("SHIPPED", order_id="order_id")(closing)("A-1")
    assert events == []


def test_an_async_generator_that_is_left_records_nothing(events: list[Any]) -> None:
    @transition("SHIPPED", order_id="order_id")
    async def work(order_id: str) -> AsyncIterator[Any]:  # noqa: ARG001
        yield bound_order()
        yield 2

    async def leave() -> None:
        generator: Any = work("A-1")
        async for item in generator:
            assert item == ("A-1", None)
            assert current_order() is None
            break
        await generator.aclose()

    asyncio.run(leave())
    assert events == []


def test_an_error_in_a_generator_is_recorded_and_reaches_the_consumer(events: list[Any]) -> None:
    @transition("SHIPPED", order_id="order_id")
    def work(order_id: str) -> Iterator[int]:  # noqa: ARG001
        yield 1
        raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        list(work("A-1"))
    assert [(event.event_type, event.error_code) for event in events] == [("order.transition_failed", "KeyError")]
