"""``otel-orders generate ...``: write what a lifecycle decides elsewhere, or say what of it is stale."""

from __future__ import annotations

import difflib
import os
import shutil
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from otel_orders.cli.ledger_store import LifecycleFile  # noqa: TC001
from otel_orders.errors import ConfigurationError, MissingExtraError
from otel_orders.generate import alerts as of_alerts
from otel_orders.generate import collector as of_collector
from otel_orders.generate import rules as of_rules
from otel_orders.generate import runbooks as of_runbooks
from otel_orders.generate.alertmanager import FILE as ALERTMANAGER
from otel_orders.generate.alertmanager import alertmanager as of_alertmanager
from otel_orders.lifecycle import load_lifecycle

if TYPE_CHECKING:
    from otel_orders.lifecycle import Lifecycle

Out = Annotated[Path, typer.Option(metavar="DIR", help="The folder to write into, such as alerts.")]
Check = Annotated[bool, typer.Option("--check", help="Write nothing; fail, and show how, if it is not what is there.")]


def _url(value: str) -> str:
    """Return *value*, or refuse what Alertmanager, browsers and templates would."""
    try:
        parts = urlsplit(value)
        right = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:  # of a port that is none, or half an IPv6 address
        right = False
    if not right or any(letter.isspace() or letter in "{}" for letter in value):
        raise typer.BadParameter(f"{value!r} is no address such as https://host/path")
    return value


Grafana = Annotated[str, typer.Option(metavar="URL", help="Where Grafana is, for links in alerts.", callback=_url)]
Runbooks = Annotated[
    str, typer.Option(metavar="URL", help="Where the runbooks are shown, for links to them.", callback=_url)
]
Webhook = Annotated[str, typer.Option(metavar="URL", help="What is told of partners' broken promises.", callback=_url)]
Switch = Annotated[
    str, typer.Option(metavar="URL", help="The dead man's switch that is told that alerts work.", callback=_url)
]
GRAFANA = "http://localhost:3000"
RUNBOOKS = "http://localhost/otel-orders/alerts/runbooks"
WEBHOOK = "http://localhost:8080/partner-delays"
SWITCH = "http://localhost:8080/dead-mans-switch"
_WRITTEN = Path(str(files("otel_orders.generate"))) / "written"
OURS = _WRITTEN if _WRITTEN.is_dir() else Path(__file__).parents[2] / "alerts"
"""Where the runbooks are that come with us: in the package as it is installed, or in the repository."""
MADE = {".md": of_runbooks.BEGIN, ".json": '"uid": "otel-orders-'}
"""What is in runbooks and dashboards that were made here; other files have one name for every lifecycle."""
STALE = 1
"""The exit status of --check where something is stale; what cannot be read or written is 2, as everywhere."""


def collector(
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder of the Collector's configs.")],
    lifecycle: LifecycleFile = "lifecycle.yaml",
    check: Check = False,
) -> None:
    """Write which traces the Collector keeps: sampling.yaml, for its tail sampling."""
    _put(out, _collector(load_lifecycle(lifecycle)), check=check)


def rules(out: Out, lifecycle: LifecycleFile = "lifecycle.yaml", check: Check = False) -> None:
    """Write Prometheus' recording rules: rules/recording.yaml."""
    _put(out, _rules(load_lifecycle(lifecycle)), check=check)


def alerts(
    out: Out,
    lifecycle: LifecycleFile = "lifecycle.yaml",
    check: Check = False,
    grafana: Grafana = GRAFANA,
    runbooks_at: Runbooks = RUNBOOKS,
) -> None:
    """Write Prometheus' alerts: rules/orders.yaml, queues.yaml, services.yaml, collector.yaml and ledger.yaml."""
    _put(out, of_alerts.alerting(load_lifecycle(lifecycle), grafana, runbooks_at), check=check)


def alertmanager(
    out: Out,
    lifecycle: LifecycleFile = "lifecycle.yaml",
    check: Check = False,
    partner_webhook: Webhook = WEBHOOK,
    watchdog_webhook: Switch = SWITCH,
) -> None:
    """Write who is told of which alert: alertmanager.yaml."""
    text = of_alertmanager(load_lifecycle(lifecycle), partner_webhook, watchdog_webhook)
    _put(out, {ALERTMANAGER: text}, check=check)


def runbooks(out: Out, lifecycle: LifecycleFile = "lifecycle.yaml", check: Check = False) -> None:
    """Write each alert's runbook, runbooks/*.md: its frame, with our text below it where there is none yet."""
    _put(out, _runbooks(load_lifecycle(lifecycle), out), check=check)


def dashboards(
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder that Grafana reads, such as dashboards.")],
    lifecycle: LifecycleFile = "lifecycle.yaml",
    check: Check = False,
    runbooks_at: Runbooks = RUNBOOKS,
) -> None:
    """Write Grafana's dashboards, and what provisions them and their data sources.  Needs the extra 'generate'."""
    _put(out, _dashboards(load_lifecycle(lifecycle), runbooks_at), check=check)


def everything(
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder of alerts, dashboards and collector.")],
    lifecycle: LifecycleFile = "lifecycle.yaml",
    *,
    check: Check = False,
    grafana: Grafana = GRAFANA,
    runbooks_at: Runbooks = RUNBOOKS,
    partner_webhook: Webhook = WEBHOOK,
    watchdog_webhook: Switch = SWITCH,
) -> None:
    """Write all of it: into DIR/alerts, DIR/dashboards and DIR/collector.  Needs the extra 'generate'."""
    read = load_lifecycle(lifecycle)
    below_alerts = (
        _rules(read)
        | of_alerts.alerting(read, grafana, runbooks_at)
        | {ALERTMANAGER: of_alertmanager(read, partner_webhook, watchdog_webhook)}
        | _runbooks(read, out / "alerts")
    )
    folders = {"alerts": below_alerts, "dashboards": _dashboards(read, runbooks_at), "collector": _collector(read)}
    _put(
        out,
        {f"{folder}/{name}": text for folder, files in folders.items() for name, text in files.items()},
        check=check,
    )


def _collector(lifecycle: Lifecycle) -> dict[str, str]:
    return {of_collector.FILE: of_collector.sampling(lifecycle)}


def _rules(lifecycle: Lifecycle) -> dict[str, str]:
    return {of_rules.FILE: of_rules.recording(lifecycle)}


def _dashboards(lifecycle: Lifecycle, runbooks: str) -> dict[str, str]:
    if find_spec("grafana_foundation_sdk") is None:
        raise MissingExtraError("making dashboards", "generate")
    from otel_orders.generate.dashboards import files as of_dashboards  # noqa: PLC0415

    return of_dashboards.files(lifecycle, runbooks)


def _runbooks(lifecycle: Lifecycle, out: Path) -> dict[str, str]:
    frames = of_runbooks.runbooks(lifecycle)
    return {name: of_runbooks.framed(frame, _there(out / name), _there(OURS / name)) for name, frame in frames.items()}


def _put(out: Path, texts: dict[str, str], *, check: bool) -> None:
    """Write *texts* below *out*, or end with STALE where one differs from what is there."""
    stale = []
    for name, text in texts.items():
        path = out / name
        there = _there(path)
        current = there is not None and _with_our_ends(there) == _with_our_ends(text)
        if check and not current:
            typer.echo("".join(_difference(there or "", text, str(path))), nl=False)
            stale.append(str(path))
            continue
        if not current:
            _write(path, text, out)
        typer.echo(f"{path}: {'up to date' if current else 'written'}")
    for path in _left_over({out / name for name in texts}):
        typer.echo(f"{path}: this lifecycle has no use for it; delete it")
    if stale:
        verb = "is" if len(stale) == 1 else "are"
        how = "run the command that made it, with its options, without --check"
        typer.echo(f"otel-orders: {', '.join(stale)} {verb} stale: {how}", err=True)
        raise typer.Exit(STALE)


def _with_our_ends(text: str) -> str:
    """Return *text* with the ends of lines that we write; those of a checkout on Windows say nothing else."""
    return text.replace("\r\n", "\n")


def _left_over(made: set[Path]) -> list[Path]:
    """Return what was made beside the files *made*, of the same kind, and is not among them any more."""
    kinds = {(path.parent, path.suffix) for path in made if path.suffix in MADE}
    beside = {path for folder, suffix in kinds if folder.is_dir() for path in folder.glob(f"*{suffix}")}
    return sorted(path for path in beside - made if MADE[path.suffix] in (_there(path) or ""))


def _there(path: Path) -> str | None:
    """Return what is there, to the letter: ends of lines are left as people write them."""
    try:
        return path.read_bytes().decode()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: {getattr(error, 'strerror', None) or 'it is not UTF-8'}") from None


def _write(path: Path, text: str, out: Path) -> None:
    """Write a file; *out* is made where its parent is there, since a longer path that is not may be mistyped.

    Prometheus may read it meanwhile, and a runbook has what people wrote: it is there as it was, or whole.
    """
    whole = path.resolve()  # where it is a link, what it leads to
    unfinished = whole.with_name(f"{whole.name}.{os.getpid()}.part")
    try:
        out.mkdir(exist_ok=True)
        whole.parent.mkdir(parents=True, exist_ok=True)
        try:
            unfinished.write_bytes(text.encode())
            if whole.exists():
                shutil.copymode(whole, unfinished)
            unfinished.replace(whole)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None


def _difference(there: str, wanted: str, path: str) -> list[str]:
    lines = (there.splitlines(keepends=True), wanted.splitlines(keepends=True))
    return [*difflib.unified_diff(*lines, fromfile=path, tofile="what the lifecycle says")]
