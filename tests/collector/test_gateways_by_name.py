"""Gateways that a balancer knows by a name: asked of a real name server, and again when its answer changes."""

from __future__ import annotations

import random
import subprocess
import threading
from contextlib import contextmanager
from socketserver import BaseRequestHandler, UDPServer
from typing import TYPE_CHECKING

import httpx

from tests.collector.gate import post
from tests.collector.orders import Order, request
from tests.collector.processes import BALANCER, GATEWAY, Collector, collecting
from tests.conftest import unavailable
from tests.sinks.receiver import receiver, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "gateways.example"
ADDRESS = b"\0\1"
"""The type of a question for addresses of IPv4 (RFC 1035, section 3.2.2)."""
ORDERS = [Order(number) for number in range(1, 200) if number % 20]


class NameServer:
    """Answers every question for addresses with those that it has now."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.addresses: list[str] = []

    def answer(self, query: bytes) -> bytes:
        """Return the answer to *query* (RFC 1035, section 4.1)."""
        end = query.index(b"\0", 12) + 5
        found = self.addresses if query[end - 4 : end - 2] == ADDRESS else []
        records = (b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4" + bytes(map(int, address.split("."))) for address in found)
        return query[:2] + b"\x81\x80\0\1" + bytes([0, len(found)]) + b"\0\0\0\0" + query[12:end] + b"".join(records)


@contextmanager
def name_server() -> Iterator[NameServer]:
    """Run a name server on an address of its own of the loopback network; its port cannot be chosen."""
    found = NameServer(f"127.{random.randint(2, 254)}.{random.randint(1, 254)}.53")

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            query, socket = self.request
            socket.sendto(found.answer(query), self.client_address)

    try:
        server = UDPServer((found.host, 53), Handler)
    except PermissionError:
        unavailable("port 53 cannot be served: it takes root")
    with server:
        thread = threading.Thread(target=server.serve_forever, args=[0.05])
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()


def asking(server: NameServer, binary: Path, folder: Path) -> Path:
    """Return a program that is *binary*, in a place where *server* is the one that is asked for names."""
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        unavailable("no name server can be set for one process: it takes root")
    resolv, script = folder / "resolv.conf", folder / "otelcol"
    resolv.write_text(f"nameserver {server.host}\n")
    inside = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
    script.write_text(f"#!/bin/sh\nexec unshare --mount sh -c '{inside}' {resolv} {binary} \"$@\"\n")
    script.chmod(0o755)
    return script


def taken(gateway: Collector) -> float:
    name = "otelcol_receiver_accepted_spans"
    return gateway.metric(name) + gateway.metric(f"{name}_total")


def test_gateways_are_those_of_a_name_and_one_that_joins_gets_its_share(binary: Path, tmp_path: Path) -> None:
    half = len(ORDERS) // 2
    with (
        name_server() as names,
        receiver() as store,
        collecting(binary, GATEWAY, tmp_path / "one", OTELCOL_TRACES=store.url) as one,
    ):
        port = one.grpc.partition(":")[2]
        second = {"OTELCOL_TRACES": store.url, "OTELCOL_GRPC": f"127.0.0.2:{port}"}
        named = {"OTELCOL_GATEWAYS_NAME": NAME, "OTELCOL_GATEWAYS_PORT": port, "OTELCOL_GATEWAYS_INTERVAL": "500ms"}
        names.addresses = ["127.0.0.1"]
        with (
            collecting(binary, GATEWAY, tmp_path / "two", **second) as two,
            collecting(
                asking(names, binary, tmp_path), (*BALANCER, "balancer_dns"), tmp_path / "balancer", **named
            ) as balancer,
            httpx.Client(base_url=balancer.url, trust_env=False, timeout=30) as client,
        ):
            post(client, "/v1/traces", request(span for order in ORDERS[:half] for span in order.spans()))
            wait_for(lambda: taken(one) == 9 * half, seconds=60)
            assert taken(two) == 0
            names.addresses = ["127.0.0.1", "127.0.0.2"]
            wait_for(lambda: balancer.metric("otelcol_loadbalancer_num_backends") == 2, seconds=60)
            post(client, "/v1/traces", request(span for order in ORDERS[half:] for span in order.spans()))
            wait_for(lambda: taken(one) + taken(two) == 9 * len(ORDERS), seconds=60)
            assert taken(two) > 0
            expected = {span for order in ORDERS for span in order.ordinary_spans}
            wait_for(lambda: {span.span_id for span in store.spans} == expected, seconds=60)
