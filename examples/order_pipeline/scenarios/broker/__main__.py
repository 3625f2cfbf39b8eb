"""Run a private RabbitMQ in the foreground, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import signal
import sys
from contextlib import suppress

from examples.order_pipeline.scenarios.broker import BrokerUnavailable, broker


def main() -> int:
    """Print where it is, as lines that a shell understands, then wait."""
    try:
        with suppress(KeyboardInterrupt), broker(private=True) as own:
            print(f"AMQP_URL={own.amqp_url}")
            print(f"MANAGEMENT_URL={own.management_url}")
            print(f"PROMETHEUS_URL={own.prometheus_url}", flush=True)
            signal.pause()
    except BrokerUnavailable as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
