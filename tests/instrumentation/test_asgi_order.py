"""Which order a request is about, who is believed, and what the world is told of it; behind a real server."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Mount, Route

from otel_orders.context import Order, bound, current_order
from otel_orders.errors import ConfigurationError
from otel_orders.instrumentation.asgi import OrderMiddleware, about_order
from otel_orders.instrumentation.audience import by_header
from otel_orders.instrumentation.order_source import OrderSource
from otel_orders.privacy import pseudonym

if TYPE_CHECKING:
    from tests.instrumentation.conftest import Spans

Serve = Callable[[Any], str]
KEY = "0123456789abcdef"
SAYING = {"baggage": "order_id=B-1,partner_id=acme", "x-order-id": "H-1"}
OUTSIDE = {"x-forwarded-for": "203.0.113.9"}


def get(url: str, headers: dict[str, str]) -> httpx.Response:
    with httpx.Client(trust_env=False) as client:
        return client.get(url, headers=headers)


async def say(_: Any) -> JSONResponse:
    order = current_order()
    return JSONResponse(order and [order.order_id, order.partner_id])


async def missing(_: Any) -> PlainTextResponse:
    return PlainTextResponse("", status_code=404)


@pytest.mark.parametrize(
    ("source", "order"),
    [
        ("baggage", ["B-1", "acme"]),
        ("header:X-Order-Id", ["H-1", None]),
        ("header:x-missing", None),
        ("path:order_id", ["P-1", None]),
        ("path:other", None),
        (("baggage", "header:x-order-id"), ["H-1", None]),
        (("header:x-missing", "baggage"), ["B-1", "acme"]),
        (("path:order_id", "header:x-order-id", "baggage"), ["P-1", None]),
    ],
)
@pytest.mark.parametrize("below", ["", "/api"])
@pytest.mark.parametrize("outside", [False, True])
def test_the_order_is_taken_from_where_it_is_configured_and_only_if_trusted(  # noqa: PLR0917 - fixtures
    serve: Serve, spans: Spans, source: Any, order: list[str | None] | None, below: str, outside: bool
) -> None:
    inner = Route("/orders/{order_id}", say)
    app = Starlette(routes=[Mount(below, routes=[inner])] if below else [inner])
    app.add_middleware(OrderMiddleware, order_id=source)
    expected = None if outside else order
    answer = get(f"{serve(app)}{below}/orders/P-1", SAYING | (OUTSIDE if outside else {}))
    assert answer.json() == expected
    confirmed = ["P-1"] if outside and "path:order_id" in source else None  # by the answer's 200
    said = spans.one("GET").attributes or {}
    assert said.get("order_id") == (expected or confirmed or [None])[0]
    assert said["audience"] == ("external" if outside else "internal")


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("threaded", [False, True])
def test_the_application_names_the_order_that_it_has_just_created(
    serve: Serve, spans: Spans, monkeypatch: pytest.MonkeyPatch, outside: bool, threaded: bool
) -> None:
    async def create(_: Any) -> PlainTextResponse:
        about_order("N-1", "acme")
        return PlainTextResponse("", status_code=201)

    def create_in_a_thread(_: Any) -> PlainTextResponse:
        about_order("N-1", "acme")
        return PlainTextResponse("", status_code=201)

    monkeypatch.setenv("OTEL_ORDERS_PSEUDONYM_KEY", KEY)
    app = Starlette(routes=[Route("/orders", create_in_a_thread if threaded else create)])
    answer = get(f"{serve(OrderMiddleware(app, order_ref=True))}/orders", OUTSIDE if outside else {})
    assert answer.headers.get("x-order-ref") == (pseudonym("N-1", KEY.encode()) if outside else None)
    attributes = spans.one("GET").attributes or {}
    assert (attributes["order_id"], attributes["partner_id"]) == ("N-1", "acme")


@pytest.mark.parametrize("order_id", [4711, UUID(int=7)])
def test_an_order_is_named_by_whatever_its_text_is(serve: Serve, spans: Spans, order_id: object) -> None:
    async def create(_: Any) -> PlainTextResponse:
        about_order(order_id)
        return PlainTextResponse("")

    assert get(serve(OrderMiddleware(Starlette(routes=[Route("/", create)]))), {}).status_code == 200
    assert (spans.one("GET").attributes or {})["order_id"] == str(order_id)


def test_an_order_outside_of_requests_or_with_no_usable_id_is_not_named() -> None:
    about_order("N-1")
    about_order("")
    assert current_order() is None


def test_an_order_that_an_untrusted_caller_made_up_stays_off_the_span(serve: Serve, spans: Spans) -> None:
    app = Starlette(routes=[Route("/orders/{order_id}", missing)])
    get(f"{serve(OrderMiddleware(app, order_id='path:order_id'))}/orders/made-up", OUTSIDE)
    assert "order_id" not in (spans.one("GET").attributes or {})


def test_an_order_in_the_path_is_there_in_threads_and_for_who_stands_before_us(serve: Serve, spans: Spans) -> None:
    routes: list[Any] = []
    app = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False})
    app.add_middleware(OrderMiddleware, order_id="path:order_id")

    @app.get("/orders/{order_id}")
    def in_a_thread(order_id: str) -> bool:
        return current_order() == Order(order_id)

    async def before(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)
        routes.append(scope.get("path_params"))

    assert get(f"{serve(before)}/orders/P-1", {}).json() is True
    assert spans.one("GET /orders/{order_id}")
    assert {"order_id": "P-1"} in routes


def test_one_request_does_not_leave_its_order_to_the_next(serve: Serve, spans: Spans) -> None:
    app = Starlette(routes=[Route("/orders/{order_id}", say), Route("/", say)])
    url = serve(OrderMiddleware(app, order_id="path:order_id"))
    with httpx.Client(trust_env=False) as client:
        assert [client.get(f"{url}{path}").json() for path in ("/orders/P-1", "/", "/orders/P-2")] == [
            ["P-1", None],
            None,
            ["P-2", None],
        ]
    assert len(spans.of("GET", 3)) == 3


@pytest.mark.parametrize("order_id", ["4" * 129, "a%0Ab", "%00"])
@pytest.mark.usefixtures("spans")
def test_an_order_id_that_makes_no_sense_is_none(serve: Serve, order_id: str) -> None:
    app = OrderMiddleware(Starlette(routes=[Route("/orders/{order_id}", say)]), order_id="path:order_id")
    assert get(f"{serve(app)}/orders/{order_id}", {}).json() is None


@pytest.mark.parametrize(
    "written", [("cookie:order",), ("path:",), ("header",), ("baggage:x",), ("",), ("path:a", "path:b")]
)
def test_a_source_that_is_none_is_refused_and_the_error_says_what_to_write(written: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError, match="expected baggage, header:NAME, and at most one path:PARAMETER"):
        OrderSource.parse(*written)


@pytest.mark.usefixtures("spans")
def test_a_header_that_says_internal_makes_nobody_trusted(serve: Serve) -> None:
    app = Starlette(routes=[Route("/", say)])
    url = serve(OrderMiddleware(app, audience=by_header("x-from-edge", "1")))
    assert get(url, SAYING | OUTSIDE).json() is None
    assert get(url, SAYING | {"x-from-edge": "1"}).json() is None
    assert get(url, SAYING).json() == ["B-1", "acme"]


@pytest.mark.usefixtures("spans")
def test_a_caller_from_outside_may_be_allowed(serve: Serve) -> None:
    url = serve(OrderMiddleware(Starlette(routes=[Route("/", say)]), trusted=lambda _: True))
    assert get(url, SAYING | OUTSIDE).json() == ["B-1", "acme"]


@pytest.mark.parametrize(
    ("path", "headers", "order_ref", "sent"),
    [
        ("/orders/P-1", OUTSIDE, True, True),
        ("/orders/P-1", {}, True, False),  # our own services know the order by its id
        ("/orders/P-1", OUTSIDE, False, False),
        ("/missing/P-1", OUTSIDE, True, False),  # no answer about it: nobody may try out ids
        ("/", OUTSIDE, True, False),
    ],
)
@pytest.mark.usefixtures("spans")
def test_the_world_gets_a_pseudonym_where_that_is_switched_on(  # noqa: PLR0917 - fixtures
    serve: Serve, monkeypatch: pytest.MonkeyPatch, path: str, headers: dict[str, str], order_ref: bool, sent: bool
) -> None:
    monkeypatch.setenv("OTEL_ORDERS_PSEUDONYM_KEY", KEY)
    routes = [Route("/orders/{order_id}", say), Route("/missing/{order_id}", missing), Route("/", say)]
    app = OrderMiddleware(Starlette(routes=routes), order_id="path:order_id", order_ref=order_ref)
    answer = get(serve(app) + path, headers)
    assert answer.headers.get("x-order-ref") == (pseudonym("P-1", KEY.encode()) if sent else None)
    assert "P-1" not in str(answer.headers)


@pytest.mark.usefixtures("spans")
def test_an_order_that_the_application_binds_has_a_pseudonym_too(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    async def inside(scope: Any, receive: Any, send: Any) -> None:
        with bound(Order("A-1")):
            await PlainTextResponse("")(scope, receive, send)

    monkeypatch.setenv("OTEL_ORDERS_PSEUDONYM_KEY", KEY)
    url = serve(OrderMiddleware(Starlette(routes=[Mount("/", inside)]), order_ref=True))
    assert get(url, OUTSIDE).headers["x-order-ref"] == pseudonym("A-1", KEY.encode())


def test_a_pseudonym_without_a_key_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigurationError, match="set OTEL_ORDERS_PSEUDONYM_KEY"):
        OrderMiddleware(PlainTextResponse(""), order_ref=True)
