"""All services of the pipeline, wired to each other and to one broker.  Knows no orders and no ledger."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from examples.order_pipeline.scenarios import partner_server
from examples.order_pipeline.shop import PUBLIC_HOST

if TYPE_CHECKING:
    from examples.order_pipeline.scenarios.processes import Service, Services

PACKAGE = "examples.order_pipeline"
LIFECYCLE = Path(__file__).with_name("demo-lifecycle.yaml")
"""The lifecycle of the pipeline with durations of seconds."""
QUOTAS = {"acme": 50, "globex": 50}


class Pipeline:
    """The running services: their addresses, and the partners' keys, which are new for each run.

    webhook: the URL at which the partners want to be told.  environment: more settings for each service.  The pricing
    workers are started later, so that a scenario can do something to the messages that wait for them.
    """

    def __init__(
        self,
        services: Services,
        folder: Path,
        amqp_url: str,
        webhook: str | None = None,
        quotas: dict[str, int] = QUOTAS,
        **environment: str,
    ) -> None:
        self._services = services
        self._quotas = quotas
        self._folder = folder
        self.amqp_url = amqp_url
        self._environment = {"AMQP_URL": amqp_url, **environment}
        self.journal = folder / "legacy-mes.jsonl"
        self.keys = {partner_id: secrets.token_urlsafe(24) for partner_id in quotas}
        self.pseudonym_key = secrets.token_urlsafe(24)
        self._webhook = webhook
        self._apis: dict[str, tuple[str, tuple[str | Path, ...], dict[str, str]]] = {}
        self.addresses = self._start()

    def start_pricing_workers(self, count: int) -> list[Service]:
        """Start *count* workers, which share one database."""
        module, arguments = f"{PACKAGE}.pricing.worker", ("--database", self._folder / "pricing.db")
        # A worker serves nothing but its metrics: on a port of the toolkit's, any free one.
        settings = {"SHOP_URL": self.addresses["shop-api"], "OTEL_EXPORTER_PROMETHEUS_PORT": "0"}
        names = [f"pricing-worker-{number}" for number in range(1, count + 1)]
        return [self._start_one(name, module, *arguments, **settings) for name in names]

    def restart(self, name: str, **environment: str) -> None:
        """Start the API of that name again, after it ended, with more *environment*."""
        module, arguments, settings = self._apis[name]
        self.addresses[name] = self._start_api(name, module, *arguments, **settings | environment).address()

    def client(self, name: str) -> httpx.Client:
        """Return a client for the service of that name."""
        return httpx.Client(base_url=self.addresses[name], timeout=30, trust_env=False)

    def customer(self) -> httpx.Client:
        """Return a client for the shop as a customer has one, who comes by its public name."""
        return httpx.Client(
            base_url=self.addresses["shop-api"], headers={"Host": PUBLIC_HOST}, timeout=30, trust_env=False
        )

    def _start(self) -> dict[str, str]:
        """Start those that need nobody first, all at once, then those that must know where the others are."""
        terminal = self._start_api("legacy-mes", f"{PACKAGE}.legacy_mes.server", "--journal", self.journal)
        shop = self._start_api("shop-api", f"{PACKAGE}.shop.app")
        crm = self._start_api("crm-api", f"{PACKAGE}.crm.app")
        mes = self._start_api("mes-api", f"{PACKAGE}.mes.app", LEGACY_MES_URL=terminal.address())
        b2b = self._start_api(
            "b2b-api",
            f"{PACKAGE}.b2b.app",
            SHOP_URL=shop.address(),
            B2B_PARTNERS=self._partners(),
            OTEL_ORDERS_PSEUDONYM_HOSTS=partner_server.HOST,
            OTEL_ORDERS_PSEUDONYM_KEY=self.pseudonym_key,
        )
        return {service.name: service.address() for service in (shop, b2b, crm, mes, terminal)}

    def _start_api(self, name: str, module: str, *arguments: str | Path, **environment: str) -> Service:
        self._apis.setdefault(name, (module, arguments, environment))
        files = arguments or ("--database", self._folder / f"{name}.db")
        return self._start_one(name, module, *files, **environment)

    def _start_one(self, name: str, module: str, *arguments: str | Path, **environment: str) -> Service:
        address = ("--address-file", self._folder / f"{name}.address")
        return self._services.start(name, module, *arguments, *address, **self._environment, **environment)

    def _partners(self) -> str:
        contracts = [
            {
                "partner_id": partner_id,
                "daily_quota": quota,
                "key": self.keys[partner_id],
                "webhook": self._webhook,
            }
            for partner_id, quota in self._quotas.items()
        ]
        return json.dumps(contracts)
