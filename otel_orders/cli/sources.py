"""Options that commands share which read what other systems wrote: the store, how times are written, status names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
import yaml

from otel_orders.errors import ConfigurationError
from otel_orders.ledger.moments import NO_ZONE, Moments, zone

Store = Annotated[str, typer.Option(metavar="URL", help="The ledger's store; the ledger may go on running.")]
LifecycleFile = Annotated[str, typer.Option("--lifecycle", metavar="FILE", help="The lifecycle file.")]
Env = Annotated[str, typer.Option(envvar="OTEL_ORDERS_ENV", help="The environment of the store.")]
Zone = Annotated[
    str | None, typer.Option(metavar="NAME", help="The zone of times that name none, such as Europe/Berlin.")
]
TimeFormat = Annotated[
    str | None, typer.Option(metavar="FORMAT", help="How times are written, as strptime() has it. [default: ISO 8601]")
]
Delimiter = Annotated[str | None, typer.Option(help="Between columns of CSV. [default: as the first line has it]")]
MapFile = Annotated[
    Path | None,
    typer.Option(
        "--map", metavar="FILE", help="YAML: `statuses:` with their names there and here, ~ to leave one out."
    ),
]


REMEDIES = {NO_ZONE: ": times without an offset from UTC; say where they are of with --zone, such as Europe/Berlin"}


def reason_and_remedy(reason: str) -> str:
    """Return why rows are refused, and what to do where an option helps."""
    return reason + REMEDIES.get(reason, "")


class StatusNames(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The mapping file."""

    statuses: dict[str, str | None] = {}


def moments(zone_name: str | None, time_format: str | None) -> Moments:
    """Return how times are written.  Raises ConfigurationError where there is no such zone."""
    return Moments(zone(zone_name), time_format)


def statuses(path: Path | None) -> dict[str, str | None]:
    """Return the status names of the mapping file *path*.  Raises ConfigurationError where it is none."""
    if path is None:
        return {}
    try:
        found: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        return msgspec.convert(found, StatusNames).statuses
    except OSError as error:
        raise ConfigurationError(f"--map {path}: {error.strerror}") from None
    except (yaml.YAMLError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"--map {path}: {error}".replace("\n", " ")) from None
