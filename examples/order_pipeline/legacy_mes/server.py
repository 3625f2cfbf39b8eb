"""The packaging terminal of the old MES: HTTP in, JSON lines out, and nothing but the standard library.

It stands for the systems that nobody will ever instrument.  It writes down what it does in its own hand; the ledger
follows that file (``otel-orders ledger --follow FILE``).
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import sys
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

MAX_BODY = 4096
ORDER_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


class Journal:
    """The file of JSON lines.  An order is written once, however often it is sent."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self._path = path
        self._lock = threading.Lock()
        self._packed = {json.loads(line)["order_id"] for line in path.read_text(encoding="utf-8").splitlines()}

    def pack(self, order_id: str) -> None:
        with self._lock:
            if order_id in self._packed:
                return
            line = {
                "event_type": "order.status_changed",
                "order_id": order_id,
                "from_status": "MANUFACTURING_COMPLETED",
                "to_status": "PACKAGING",
                "service": "legacy-mes",
                "occurred_at": datetime.now(UTC).isoformat(),
            }
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            self._packed.add(order_id)


class Terminal(BaseHTTPRequestHandler):
    """``POST /packaging`` with ``{"order_id": ...}``."""

    protocol_version = "HTTP/1.1"
    journal: ClassVar[Journal]

    def do_GET(self) -> None:
        self._answer(200 if self.path == "/healthz" else 404)

    def do_POST(self) -> None:
        order_id = self._order_id()
        if self.path != "/packaging":
            self._answer(404)
        elif order_id is None:
            self._answer(400)
        else:
            self.journal.pack(order_id)
            self._answer(204)

    def log_message(self, *_args: object) -> None:
        """The journal is the log."""

    def _order_id(self) -> str | None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MAX_BODY:
            self.close_connection = True  # the body stays unread
            return None
        try:
            order_id = json.loads(self.rfile.read(int(length)))["order_id"]
        except (ValueError, KeyError, TypeError):
            return None
        return order_id if isinstance(order_id, str) and ORDER_ID.fullmatch(order_id) else None

    def _answer(self, status: int) -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", "0")
        self.end_headers()


def main() -> None:
    parser = argparse.ArgumentParser(prog="legacy-mes")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--journal", type=Path, default=Path("legacy-mes.jsonl"))
    parser.add_argument("--address-file", type=Path)
    options = parser.parse_args()
    Terminal.journal = Journal(options.journal)
    with ThreadingHTTPServer(("127.0.0.1", options.port), Terminal) as server:
        server.daemon_threads = True
        address = f"http://127.0.0.1:{server.server_port}"
        print(address, flush=True)
        if options.address_file:
            options.address_file.write_text(address, encoding="utf-8")
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
        server.serve_forever()


if __name__ == "__main__":
    main()
