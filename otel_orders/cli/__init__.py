"""The command line: ``otel-orders ...``.

One file a command group; what an extra brings is imported when it is used.
"""

from __future__ import annotations

import os
import sys

from otel_orders.errors import MissingExtraError, OtelOrdersError

WRONG_USE = 2


def main() -> None:
    """Run the command line; an error of ours is one line on stderr and exit status 2."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what it would log, we say
    try:
        _run()
    except OtelOrdersError as error:
        sys.stderr.write(f"otel-orders: {error}\n")
        sys.exit(WRONG_USE)


def _run() -> None:
    try:
        import typer  # noqa: PLC0415
    except ModuleNotFoundError:
        raise MissingExtraError("otel-orders", "ledger") from None
    from otel_orders.cli import (  # noqa: PLC0415
        copy,
        erase,
        event_log,
        generate,
        hold,
        ledger,
        ledger_audit,
        ledger_backup,
        ledger_check,
        ledger_export,
        lifecycle,
        pseudonym,
        reconcile,
        report,
    )

    app = typer.Typer(
        help="Shows where every order is, and why it is stuck.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    ledgers = typer.Typer(invoke_without_command=True, subcommand_metavar="[COMMAND]")
    ledgers.callback()(ledger.ledger)
    ledgers.command("copy")(copy.copy_command)
    ledgers.command("check")(ledger_check.check)
    ledgers.command("audit")(ledger_audit.audit)
    ledgers.command("backup")(ledger_backup.backup)
    ledgers.command("restore")(ledger_backup.restore)
    ledgers.command("export")(ledger_export.export)
    ledgers.command("reconcile")(reconcile.reconcile_command)
    ledgers.command("import")(event_log.import_command)
    app.add_typer(ledgers, name="ledger")
    generators = typer.Typer(help="Write what a lifecycle decides elsewhere.", no_args_is_help=True)
    generators.command("all")(generate.everything)
    generators.command("alerts")(generate.alerts)
    generators.command("alertmanager")(generate.alertmanager)
    generators.command("collector")(generate.collector)
    generators.command("dashboards")(generate.dashboards)
    generators.command("rules")(generate.rules)
    generators.command("runbooks")(generate.runbooks)
    app.add_typer(generators, name="generate")
    app.command("dev")(ledger.dev)
    app.command("check")(lifecycle.check)
    app.command("resolve")(pseudonym.resolve)
    app.command("hold")(hold.hold)
    app.command("release")(hold.release)
    app.command("erase")(erase.erase)
    app.command("report")(report.report)
    app(standalone_mode=True)
