"""``python -m otel_orders.cli``: the same as the command otel-orders."""

from otel_orders.cli import main

main()
