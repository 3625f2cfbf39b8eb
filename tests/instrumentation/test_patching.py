"""Wrapping methods, and putting back the very same originals."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import wrapt
from aio_pika import Exchange
from opentelemetry.instrumentation.utils import suppress_instrumentation, unwrap
from pika.adapters.blocking_connection import BlockingChannel

from otel_orders import instrumentation
from otel_orders.instrumentation.patching import Patches

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.instrumentation.conftest import Faults


def client() -> Any:
    class Client:
        def send(self, number: int) -> int:
            return number

    return Client


def plus(number: int) -> Any:
    return lambda wrapped, _instance, args, kwargs: wrapped(*args, **kwargs) + number


def test_a_method_is_wrapped_once_and_restored_to_the_very_same_object() -> None:
    owner, patches = client(), Patches()
    original = vars(owner)["send"]
    patches.apply([(owner, "send", plus(1))])
    patches.apply([(owner, "send", plus(1))])
    assert owner().send(1) == 2
    assert patches.active
    patches.restore()
    patches.restore()
    assert vars(owner)["send"] is original
    assert not patches.active


def test_a_method_that_is_not_the_classs_own_is_left_alone() -> None:
    owner = client()
    heir = type("Heir", (owner,), {})
    Patches().apply([(heir, "send", plus(1)), (heir, "missing", plus(1))])
    assert "send" not in vars(heir)


def test_a_wrapper_that_came_after_ours_survives_and_ours_is_not_applied_again_below_it() -> None:
    owner, patches = client(), Patches()
    patches.apply([(owner, "send", plus(1))])
    wrapt.wrap_function_wrapper(owner, "send", plus(10))
    theirs = vars(owner)["send"]
    patches.restore()
    assert vars(owner)["send"] is theirs
    assert not patches.active
    patches.apply([(owner, "send", plus(1))])
    assert owner().send(0) == 11


def test_ours_leaves_from_beneath_a_wrapper_that_came_after_it() -> None:
    owner, patches = client(), Patches()
    original = vars(owner)["send"]
    patches.apply([(owner, "send", plus(1))])
    wrapt.wrap_function_wrapper(owner, "send", plus(10))
    patches.restore()
    assert owner().send(0) == 10
    unwrap(owner, "send")
    assert vars(owner)["send"] is original


@pytest.mark.parametrize("ours_first", [True, False])
def test_who_takes_off_what_is_outermost_takes_off_no_wrapper_of_ours(*, ours_first: bool) -> None:
    owner, patches = client(), Patches()
    original = vars(owner)["send"]
    steps: list[Callable[[], object]] = [
        lambda: patches.apply([(owner, "send", plus(1))]),
        lambda: wrapt.wrap_function_wrapper(owner, "send", plus(10)),
    ]
    for step in steps if ours_first else steps[::-1]:
        step()
    assert owner().send(0) == 11
    unwrap(owner, "send")
    assert owner().send(0) == 1
    patches.restore()
    assert vars(owner)["send"] is original


def test_a_wrapper_that_wrapt_did_not_make_survives_and_ours_beneath_it_rests() -> None:
    owner, patches = client(), Patches()
    patches.apply([(owner, "send", plus(1))])
    beneath = owner.send
    owner.send = lambda self, number: beneath(self, number) * 10
    patches.restore()
    assert not patches.active
    patches.apply([(owner, "send", plus(1))])
    assert owner().send(0) == 10


def test_a_method_that_somebody_else_put_back_is_wrapped_anew() -> None:
    owner, patches = client(), Patches()
    original = vars(owner)["send"]
    patches.apply([(owner, "send", plus(1))])
    owner.send = original
    patches.apply([(owner, "send", plus(1))])
    assert owner().send(0) == 1
    owner.send = original
    patches.restore()
    assert vars(owner)["send"] is original


def test_suppressed_instrumentation_is_not_active() -> None:
    patches = Patches()
    patches.apply([])
    with suppress_instrumentation():
        assert not patches.active
    assert patches.active


def test_all_installed_clients_are_instrumented_and_restored_together() -> None:
    methods = [
        (BlockingChannel, "basic_publish"),
        (Exchange, "publish"),
        (httpx.HTTPTransport, "handle_request"),
    ]
    originals = [vars(owner)[name] for owner, name in methods]
    instrumentation.instrument_all(young_for=7, long_queues=frozenset({"q"}), internal_hosts=("crm",))
    instrumentation.instrument_all(young_for=8, long_queues=frozenset({"q"}), internal_hosts=("mes",))
    assert all(vars(owner)[name] is not original for (owner, name), original in zip(methods, originals, strict=True))
    instrumentation.uninstrument_all()
    assert all(vars(owner)[name] is original for (owner, name), original in zip(methods, originals, strict=True))


def test_a_client_that_cannot_be_instrumented_is_counted_and_harms_nobody(
    monkeypatch: pytest.MonkeyPatch, faults: Faults
) -> None:
    monkeypatch.setattr(instrumentation, "_CLIENTS", ("tabnanny", "httpx"))
    original = vars(httpx.HTTPTransport)["handle_request"]
    instrumentation.instrument_all()
    assert vars(httpx.HTTPTransport)["handle_request"] is not original
    instrumentation.uninstrument_all()
    assert vars(httpx.HTTPTransport)["handle_request"] is original
    faults.expected = {"tabnanny"}


def test_threads_that_instrument_at_once_wrap_once() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(100):
            owner, patches, together = client(), Patches(), threading.Barrier(4)
            original = vars(owner)["send"]

            def instrument(owner: Any = owner, patches: Patches = patches, together: Any = together) -> None:
                together.wait()
                patches.apply([(owner, "send", plus(1))])

            threads = [threading.Thread(target=instrument) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert owner().send(0) == 1
            patches.restore()
            assert vars(owner)["send"] is original
    finally:
        sys.setswitchinterval(interval)
