"""Hand one event to every sink.  A sink that fails costs only its own projection, never the caller."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from otel_orders.faults import count_failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_orders.event import Attribute, Event
    from otel_orders.lifecycle import Lifecycle
    from otel_orders.privacy import Masker

__all__ = ["Recorder", "Sink", "activate", "active", "count_failure"]


class Sink(Protocol):
    """One projection of an event: a span, a metric, a log line."""

    name: str

    def emit(self, event: Event) -> None:
        """Project *event*.  Must not block; may raise."""
        ...


class Recorder:
    """Hands each event to all sinks, in order.

    projections: sinks whose output is for people to look at (spans, metrics).  records: sinks that write the event
    itself, for the ledger.  service, env: the names on the events made here.  lifecycle, masker: None where there is
    none configured.
    """

    def __init__(
        self,
        projections: Sequence[Sink] = (),
        records: Sequence[Sink] = (),
        *,
        service: str = "",
        env: str = "",
        lifecycle: Lifecycle | None = None,
        masker: Masker | None = None,
    ) -> None:
        self._projections = tuple(projections)
        self._all = (*projections, *records)
        self._masker = masker
        self.service = service
        self.env = env
        self.lifecycle = lifecycle

    def record(self, event: Event) -> None:
        """Emit *event* to every sink.  Never raises."""
        _emit(self._all, event)

    def project(self, event: Event) -> None:
        """Emit *event*, whose record the ledger gets on another way, to the projections only.  Never raises."""
        _emit(self._projections, event)

    def masked(self, attributes: dict[str, Attribute]) -> dict[str, Attribute]:
        """Return *attributes* without personal data; none at all where masking fails.  Never raises."""
        try:
            return attributes if self._masker is None else self._masker.mask_mapping(attributes)
        except Exception as error:
            count_failure("masking", error)
            return {}


def _emit(sinks: Sequence[Sink], event: Event) -> None:
    for sink in sinks:
        try:
            sink.emit(event)
        except Exception as error:  # the host application must never see a telemetry fault
            count_failure(sink.name, error)


class _Active:
    """The recorder of this process: one that drops everything until configure() was called."""

    recorder = Recorder()


def active() -> Recorder:
    """Return the recorder that configure() made; before it, one without sinks."""
    return _Active.recorder


def activate(recorder: Recorder | None) -> Recorder:
    """Make *recorder* (None: one without sinks) the process's, and return the one before."""
    before = _Active.recorder
    _Active.recorder = recorder or Recorder()
    return before
