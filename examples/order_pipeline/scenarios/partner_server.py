"""A partner's own server, outside of our company: takes notices, and sees of us what a stranger sees.

It is reached as ``localhost``, where our services call each other by address, so that it is another host to them.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "localhost"


class Notice(NamedTuple):
    """One request.  headers: by lower-case name."""

    headers: dict[str, str]
    body: bytes


class PartnerServer:
    """What the server was sent.  refusals: statuses to answer the next requests with; then 204."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.notices: list[Notice] = []
        self.refusals: list[int] = []


@contextmanager
def partner_server() -> Iterator[PartnerServer]:
    """Run the server in the block."""

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = partner.refusals.pop(0) if partner.refusals else 204
            partner.notices.append(Notice({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            """Stay silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Webhook) as server:
        server.daemon_threads = True
        partner = PartnerServer(f"http://{HOST}:{server.server_port}/notices")
        thread = threading.Thread(target=server.serve_forever, args=[0.05])
        thread.start()
        try:
            yield partner
        finally:
            server.shutdown()
            thread.join()
