"""configure() and shutdown(): the sinks, providers, instrumentation and heartbeats of one process.

Global OpenTelemetry providers that are there already are kept and added to; what is missing is made, with the standard
OTEL_ variables in force.  Everything that configure() did, shutdown() undoes.
"""

from __future__ import annotations

import atexit
import errno
import os
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from otel_orders import endings, log_context
from otel_orders.error_codes import error_codes as known_error_codes
from otel_orders.errors import ConfigurationError
from otel_orders.event import Heartbeat, new_event_id
from otel_orders.faults import count_failure, failures, logger
from otel_orders.json_lines import LineWriter
from otel_orders.lifecycle_model import Lifecycle
from otel_orders.privacy import Masker
from otel_orders.recorder import Recorder, activate
from otel_orders.settings import Settings, read_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from prometheus_client import CollectorRegistry
    from prometheus_client.registry import Collector

    from otel_orders.recorder import Sink

DEFAULT_LINES: Final = "stderr"
"""Where JSON lines go when nothing is configured."""
FLUSH_SECONDS: Final = 5.0
"""Longest time that flush() waits."""


class Runtime:
    """What configure() set up.

    settings and lifecycle are what is in force.  metrics_address: host and port of the /metrics page, None without one.
    """

    metrics_address: tuple[str, int] | None = None

    def __init__(self, settings: Settings, lifecycle: Lifecycle | None) -> None:
        self.settings = settings
        self.lifecycle = lifecycle
        self.masker = Masker(settings.mask_keys, settings.plain_keys)
        self._undo = ExitStack()
        self._flush: list[Callable[[], object]] = []
        self._after_fork: list[Callable[[], None]] = []
        self._ending = False

    def flush(self) -> None:
        """Send what is queued, waiting for it, but for at most 5 s.  Never raises."""
        endings.within(FLUSH_SECONDS, self._flush_all, "otel-orders-flush")

    def _flush_all(self) -> None:
        for flush in self._flush:
            try:
                flush()
            except Exception as error:
                count_failure("flush", error)

    def shutdown(self) -> None:
        """Send what is queued and undo configure(): at most about 5 s, even if nobody answers.  Twice is harmless."""
        if _Process.runtime is self:
            _Process.runtime = None
        try:
            self._undo.close()
        except Exception as error:
            count_failure("shutdown", error)

    def _end(self) -> None:
        """Shut down because the process ends."""
        self._ending = True
        self.shutdown()

    def after_fork(self) -> None:
        """In a child: go on without the threads, and the locks that they may hold, of the parent."""
        for renew in self._after_fork:
            try:
                renew()
            except Exception as error:
                count_failure("fork", error)

    def start(
        self,
        registry: CollectorRegistry | None,
        error_codes: Mapping[type[BaseException], str] | None,
        *,
        log_lines: bool,
        instrument: bool,
    ) -> None:
        """Put everything in place; shutdown() takes it away in the opposite order.

        Log lines come first, so that what is lost at the very end is still said there.
        """
        known_error_codes.register(error_codes or {})
        self._undo.callback(known_error_codes.forget)
        write = self._line_writer()
        self._undo.callback(log_context.install())
        if log_lines and write is not None:
            self._undo.callback(_log_through(write, self.settings, self.masker))
        projections = self._projections(registry or _default_registry())
        recorder = self._recorder(projections, self._records(write))
        self._undo.callback(activate, activate(recorder))
        if instrument:
            self._undo.callback(_instrument(self.settings, self.lifecycle, registry or _default_registry()))
        if self.settings.heartbeat:
            heartbeats = _Heartbeats(recorder, self.settings, self.lifecycle)
            heartbeats.start()
            self._after_fork.append(heartbeats.start)
            self._undo.callback(heartbeats.stop)
        atexit.register(self._end)
        self._undo.callback(atexit.unregister, self._end)
        endings.at_child_exit(self.flush)
        self._undo.callback(endings.before_sigterm(self._end))

    def _recorder(self, projections: list[Sink], records: list[Sink]) -> Recorder:
        return Recorder(
            projections,
            records,
            service=self.settings.service,
            env=self.settings.env,
            lifecycle=self.lifecycle,
            masker=self.masker,
        )

    def _projections(self, registry: CollectorRegistry) -> list[Sink]:
        from otel_orders import providers  # noqa: PLC0415 - the SDK is loaded when it is needed
        from otel_orders.instrumentation import http_metrics  # noqa: PLC0415
        from otel_orders.instrumentation.spans import end_dropped  # noqa: PLC0415
        from otel_orders.sinks.metrics import MetricSink  # noqa: PLC0415
        from otel_orders.sinks.traces import TraceSink  # noqa: PLC0415

        tracing = providers.trace(self.settings, self.masker)
        self._flush += end_dropped, tracing.flush
        self._undo.callback(lambda: tracing.end() if self._ending else tracing.undo())
        self._undo.callback(end_dropped)
        metrics = MetricSink(self.settings.service, None, self.lifecycle.sampling.ratio if self.lifecycle else 0.0)
        for collector in (*metrics.collectors, failures(), *http_metrics.collectors()):
            _register(registry, collector)
            self._undo.callback(registry.unregister, collector)
        if self.settings.metrics_port is not None:
            self._serve_metrics(registry, self.settings.metrics_port)
        return [TraceSink(), metrics]

    def _serve_metrics(self, registry: CollectorRegistry, port: int) -> None:
        from prometheus_client import start_http_server  # noqa: PLC0415 - http.server only where it is asked for

        host = self.settings.metrics_host
        try:
            server, thread = start_http_server(port, host, registry)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:  # another worker of the same service has it, most likely
                logger.warning(
                    "otel_orders: OTEL_EXPORTER_PROMETHEUS_PORT=%d is in use: this process shows no metrics there;"
                    " give each worker process a port of its own, or 0 for any free one",
                    port,
                )
                return
            raise ConfigurationError(
                f"OTEL_EXPORTER_PROMETHEUS_PORT={port}: cannot listen on {host}: {error.strerror}; expected an address"
                " of this machine and a port that may be used"
            ) from None
        self.metrics_address = (host, server.server_port)
        started_by = os.getpid()

        def stop() -> None:
            if os.getpid() == started_by:  # a forked child has not the thread, for which this would wait for ever
                server.shutdown()
                thread.join()
            server.server_close()

        self._undo.callback(stop)
        self._after_fork.append(server.server_close)

    def _line_writer(self) -> Callable[[bytes], None] | None:
        """Return what writes a JSON line: to stderr where nothing is configured, None where only OTLP is."""
        target = self.settings.json_lines or ("none" if self.settings.otlp_events else DEFAULT_LINES)
        if target == "none":
            return None
        try:
            writer = LineWriter(target)
        except OSError as error:
            if target not in ("stdout", "stderr"):
                raise ConfigurationError(
                    f"OTEL_ORDERS_JSON_LINES={target!r}: cannot be written: {error.strerror}"
                ) from None
            count_failure("json_lines", error)  # a process without its streams, such as a daemon, is no mistake
            return None
        self._after_fork.append(writer.after_fork)
        self._undo.callback(writer.close)
        return writer.write

    def _records(self, write: Callable[[bytes], None] | None) -> list[Sink]:
        from otel_orders.sinks.json_lines import JsonLineSink  # noqa: PLC0415

        sinks: list[Sink] = [] if write is None else [JsonLineSink(write)]
        return sinks if self.settings.otlp_events is None else [*sinks, self._otlp_sink(self.settings.otlp_events)]

    def _otlp_sink(self, protocol: str) -> Sink:
        from otel_orders import providers  # noqa: PLC0415

        sink = providers.event_sink(self.settings, protocol)
        self._flush.append(sink.flush)
        self._undo.callback(sink.shutdown)
        return sink


class _Process:
    runtime: Runtime | None = None
    lock = threading.Lock()
    fork_hook = False


def configure(
    service: str | None = None,
    *,
    lifecycle: Lifecycle | str | os.PathLike[str] | None = None,
    registry: CollectorRegistry | None = None,
    error_codes: Mapping[type[BaseException], str] | None = None,
    log_lines: bool = True,
    instrument: bool = True,
) -> Runtime:
    """Switch otel_orders on for this process; a second call returns the first one's Runtime.

    service: the name on every event; OTEL_SERVICE_NAME by default.  lifecycle: the file, or what it was read into;
    OTEL_ORDERS_LIFECYCLE by default.  registry: for the metrics, prometheus_client's own by default.  error_codes: the
    code of exceptions that have no error_code of their own.  log_lines: whether ordinary log lines go where the JSON
    event lines go.  instrument: whether pika, aio-pika and httpx are instrumented.

    Raises ConfigurationError, LifecycleError included, for what cannot work; nothing is switched on then.
    """
    with _Process.lock:
        if _Process.runtime is not None:
            return _Process.runtime
        settings = read_settings(service)
        runtime = Runtime(settings, _read_lifecycle(lifecycle, settings))
        if settings.disabled:
            return runtime
        try:
            runtime.start(registry, error_codes, log_lines=log_lines, instrument=instrument)
        except BaseException:
            runtime.shutdown()
            raise
        _Process.runtime = runtime
        _hook_fork()
        return runtime


def shutdown() -> None:
    """Send what is queued and undo configure()."""
    if _Process.runtime is not None:
        _Process.runtime.shutdown()


def _hook_fork() -> None:
    """Be told of forks, from the first configure() on: Python cannot take such a hook back."""
    if not _Process.fork_hook:
        _Process.fork_hook = True
        os.register_at_fork(after_in_child=_after_fork)


def _after_fork() -> None:
    _Process.lock = threading.Lock()
    if _Process.runtime is not None:
        _Process.runtime.after_fork()


def _read_lifecycle(given: Lifecycle | str | os.PathLike[str] | None, settings: Settings) -> Lifecycle | None:
    if isinstance(given, Lifecycle):
        return given
    if (path := given or settings.lifecycle) is None:
        return None
    from otel_orders.lifecycle import load_lifecycle  # noqa: PLC0415 - the YAML reader, only where there is a file

    return load_lifecycle(path)


def _default_registry() -> CollectorRegistry:
    from prometheus_client import REGISTRY  # noqa: PLC0415

    return REGISTRY


def _register(registry: CollectorRegistry, collector: Collector) -> None:
    try:
        registry.register(collector)
    except ValueError as error:
        raise ConfigurationError(f"registry: another metric has a name of ours: {error}") from None


def _log_through(write: Callable[[bytes], None], settings: Settings, masker: Masker) -> Callable[[], None]:
    """Send ordinary log lines through *write*: the root logger's and, if nobody configured it, structlog's."""
    import logging  # noqa: PLC0415

    import structlog  # noqa: PLC0415

    handler = log_context.JsonLineHandler(write, settings.service, settings.env, masker)
    logging.getLogger().addHandler(handler)
    ours = not structlog.is_configured()
    if ours:
        structlog.configure(log_context.structlog_processors(write, settings.service, settings.env, masker))

    def undo() -> None:
        logging.getLogger().removeHandler(handler)
        if ours:
            structlog.reset_defaults()

    return undo


def _instrument(settings: Settings, lifecycle: Lifecycle | None, registry: CollectorRegistry) -> Callable[[], None]:
    from otel_orders import instrumentation  # noqa: PLC0415

    queues = tuple(lifecycle.queues.values()) if lifecycle else ()
    instrumentation.instrument_all(
        young_for=int(settings.trace_young_for),
        long_queues=frozenset(queue.name for queue in queues if queue.long),
        internal_hosts=settings.internal_hosts,
        registry=registry,
        queues=queues,
    )
    return instrumentation.uninstrument_all


class _Heartbeats:
    """Says, from a thread of its own, that this instance is alive."""

    def __init__(self, recorder: Recorder, settings: Settings, lifecycle: Lifecycle | None) -> None:
        self._recorder = recorder
        self._settings = settings
        self._hash = lifecycle.hash if lifecycle else ""
        self._started_by = os.getpid()

    def start(self) -> None:
        """Start; again in a forked child, where the thread is missing."""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="otel-orders-heartbeat", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop."""
        self._stopped.set()
        self._thread.join(1.0)

    def _beat(self) -> None:
        stopped = self._stopped
        while True:
            self._recorder.record(self._heartbeat())
            if stopped.wait(self._settings.heartbeat.seconds):
                return

    def _heartbeat(self) -> Heartbeat:
        pid, instance = os.getpid(), self._settings.instance
        if pid != self._started_by:  # a forked child is an instance of its own
            instance = f"{instance.removesuffix(f':{self._started_by}')}:{pid}"
        return Heartbeat(
            event_id=new_event_id(),
            service=self._settings.service,
            env=self._settings.env,
            occurred_at=time.time_ns(),
            instance=instance,
            role=self._settings.role,
            lifecycle_hash=self._hash,
        )
