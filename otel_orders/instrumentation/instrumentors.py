"""Our AMQP instrumentation as `opentelemetry-instrument` looks for it: entry points of `opentelemetry_instrumentor`.

OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=otel_orders_pika,otel_orders_aio_pika leaves them out.  They trace with what the
environment says; configure() knows more (metrics, the lifecycle's queues) and may be called as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]

if TYPE_CHECKING:
    from collections.abc import Collection


class PikaInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Traces pika."""

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return the versions of pika that are traced."""
        return ("pika >= 1.3, < 2",)

    def _instrument(self, **_: Any) -> None:
        from otel_orders.instrumentation import pika  # noqa: PLC0415 - the client is loaded when it is instrumented

        pika.instrument()

    def _uninstrument(self, **_: Any) -> None:
        from otel_orders.instrumentation import pika  # noqa: PLC0415

        pika.uninstrument()


class AioPikaInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Traces aio-pika."""

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return the versions of aio-pika that are traced."""
        return ("aio_pika >= 9.1, < 11",)

    def _instrument(self, **_: Any) -> None:
        from otel_orders.instrumentation import aio_pika  # noqa: PLC0415

        aio_pika.instrument()

    def _uninstrument(self, **_: Any) -> None:
        from otel_orders.instrumentation import aio_pika  # noqa: PLC0415

        aio_pika.uninstrument()
