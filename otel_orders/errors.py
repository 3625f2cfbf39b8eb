"""Every exception that otel_orders raises.

    OtelOrdersError
    ├── ConfigurationError          a setting, a decorator or a call that cannot work; raised early, at import or start
    │   ├── LifecycleError          a mistake in lifecycle.yaml, with file, line, field and what was expected
    │   └── MissingExtraError       a command needs an extra that is not installed; names it
    ├── OperationError              what an operator asked for cannot be done
    ├── EventError                  an event record that cannot be read or kept; costs only itself
    ├── RefusedError                events that the receiver got and did not keep; counted, never raised
    └── StoreError                  the ledger's store
        ├── StoreVersionError       a newer version of otel_orders wrote it
        ├── UnreadableOrderError    one order's row has rotted on its disk
        ├── StoreLifecycleError     its orders are folded under another lifecycle than this ledger's
        └── StoreUnavailableError   it does not answer, or its disk is full; the sender should try again
            └── StoreConflictError  another replica came first: the same again will do

None of them leaves the library while an order is being handled: a fault inside the toolkit is counted, not raised.
"""

from __future__ import annotations


class OtelOrdersError(Exception):
    """Base of all errors of otel_orders."""


class ConfigurationError(OtelOrdersError):
    """A setting, a decorator or a call that cannot work.  The message says what to change."""


class LifecycleError(ConfigurationError):
    """A mistake in a lifecycle file.

    path: the file; line: 1-based, None where the file as a whole is meant; field: dotted, such as
    ``statuses.SUBMITTED.owner``; expected: what would have been right.
    """

    def __init__(self, path: str, line: int | None, field: str, expected: str) -> None:
        where = path if line is None else f"{path}:{line}"
        super().__init__(f"{where}: {field}: {expected}" if field else f"{where}: {expected}")
        self.path = path
        self.line = line
        self.field = field
        self.expected = expected


class MissingExtraError(ConfigurationError):
    """A command needs an extra that is not installed."""

    def __init__(self, command: str, extra: str) -> None:
        super().__init__(f"{command} needs the extra '{extra}': pip install 'otel-orders[{extra}]'")
        self.extra = extra


class OperationError(OtelOrdersError):
    """What an operator asked for cannot be done.  The message says why.  known: whether there is such an order."""

    def __init__(self, why: str, *, known: bool = True) -> None:
        super().__init__(why)
        self.known = known


class EventError(OtelOrdersError):
    """An event record that cannot be read or kept.

    reason: one of a fixed set of words, fit for a metric label.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


class RefusedError(OtelOrdersError):
    """Events that the receiver got and did not keep."""


class StoreError(OtelOrdersError):
    """The ledger's store failed."""


class StoreVersionError(StoreError):
    """The store was written by a newer otel_orders."""


class UnreadableOrderError(StoreError):
    """The row of one order has rotted on its disk, so that nobody can read it."""

    def __init__(self) -> None:
        super().__init__(
            "this order's row cannot be read; erase the order, or restore a backup; `otel-orders ledger check` names"
            " all such orders"
        )


class StoreUnavailableError(StoreError):
    """The store does not answer, or its disk is full.  Nothing of the batch was kept; send it again.

    reason: one of ``ledger.outage.REASONS``, fit for a metric label.
    """

    reason = "unavailable"

    def __init__(self, message: str, reason: str | None = None) -> None:
        super().__init__(message)
        if reason is not None:
            self.reason = reason


class StoreConflictError(StoreUnavailableError):
    """Another replica wrote the same rows first.  Nothing was kept, and the same transaction again will do."""

    reason = "conflict"


class StoreLifecycleError(StoreError):
    """The store's orders are folded under another lifecycle, so this ledger cannot say what they mean any more."""
