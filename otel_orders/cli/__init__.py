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
    from otel_orders.cli import event_log, ledger, lifecycle, pseudonym, reconcile  # noqa: PLC0415

    app = typer.Typer(
        help="Shows where every order is, and why it is stuck.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    ledgers = typer.Typer(invoke_without_command=True, subcommand_metavar="[COMMAND]")
    ledgers.callback()(ledger.ledger)
    ledgers.command("reconcile")(reconcile.reconcile_command)
    ledgers.command("import")(event_log.import_command)
    app.add_typer(ledgers, name="ledger")
    app.command("dev")(ledger.dev)
    app.command("check")(lifecycle.check)
    app.command("resolve")(pseudonym.resolve)
    app(standalone_mode=True)
