"""Ask RabbitMQ's management API, from a thread of its own, what the lifecycle's queues hold.

A probe takes a bounded time, whatever the other side does, and looks at numbers only: no message is ever peeked at.
While the broker is away it is asked more and more rarely.  What was seen is kept in the store, for all replicas.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
import time
from contextlib import closing, suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit

import msgspec

from otel_orders import names
from otel_orders.errors import ConfigurationError
from otel_orders.ledger import queues
from otel_orders.ledger.passing import DELIVERED
from otel_orders.ledger.words import span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import httpx

    from otel_orders.ledger.store import Store

logger = logging.getLogger("otel_orders.ledger")

USER: Final = "OTEL_ORDERS_RABBITMQ_USER"
PASSWORD: Final = "OTEL_ORDERS_RABBITMQ_PASSWORD"  # noqa: S105 - the variable's name

PROBE_WITHIN: Final = 10.0
"""Seconds that a probe of all queues takes at most."""
AT_ONCE: Final = 4
"""Queues that are asked about at the same time."""
EVERY: Final = 15.0
"""Seconds between two probes."""
RAREST: Final = 300.0
"""Seconds between two probes at most, while the broker is away."""
MAX_ANSWER: Final = 1_000_000
"""Longest answer about one queue that is read, in bytes."""


class ProbeError(Exception):
    """The management API did not tell what it was asked.  The message holds no password."""


class Management(msgspec.Struct, frozen=True):
    """Where RabbitMQ's management API is, and who asks.  ca: a file of certificates to trust instead of the usual."""

    url: str
    user: str
    password: str
    vhost: str = "/"
    ca: str | None = None
    every: float = EVERY

    def __repr__(self) -> str:
        return f"Management({self.url})"

    __str__ = __repr__


def management(
    url: str, environ: Mapping[str, str], *, vhost: str = "/", ca: str | None = None, every: float = EVERY
) -> Management:
    """Return where to probe, with the credentials that *environ* holds.  Raises ConfigurationError."""
    try:
        at = urlsplit(url)
        usable = at.scheme in ("http", "https") and bool(at.hostname) and (at.port is None or at.port > 0)
    except ValueError:
        usable = False
    if not usable or at.query or at.fragment:
        raise ConfigurationError("--rabbitmq: expected http://HOST:15672 or https://HOST:15671")
    if at.username is not None or at.password is not None:
        raise ConfigurationError(f"--rabbitmq: expected no user in the URL; set {USER} and {PASSWORD}")
    user, password = environ.get(USER, "").strip(), environ.get(PASSWORD, "").strip("\r\n")
    if not user or not password:
        raise ConfigurationError(f"--rabbitmq needs {USER} and {PASSWORD} in the environment")
    _trust(ca)
    return Management(url.rstrip("/"), user, password, vhost, ca, every)


def _trust(ca: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise ConfigurationError(f"--rabbitmq-ca {ca}: {error.strerror or 'no certificates'}") from None


class Probe:
    """Probes *watched* queues again and again until closed.  Raises ConfigurationError where it cannot."""

    def __init__(self, asked: Management, watched: Sequence[str], store: Store) -> None:
        self._asked = asked
        self._trusted = _trust(asked.ca)
        self._watched = tuple(watched)
        self._store = store
        self._failures = 0
        self.succeeded_at: float | None = None
        """When a probe last told all that it was asked, unix seconds; None for never."""
        self._loop = asyncio.new_event_loop()
        self._probing = self._loop.create_task(self._go_on())
        self._thread = threading.Thread(target=self._run, name="otel-orders-probe", daemon=True)
        self._thread.start()

    @property
    def up(self) -> bool:
        """Whether the last probe told all that it was asked."""
        return self.succeeded_at is not None and not self._failures

    @property
    def pause(self) -> float:
        """Seconds until the next probe."""
        return max(self._asked.every, min(self._asked.every * 2.0**self._failures, RAREST))

    def close(self) -> None:
        """Stop, also in the middle of a probe."""
        with suppress(RuntimeError):  # it was closed before
            self._loop.call_soon_threadsafe(self._probing.cancel)
        self._thread.join()

    def _run(self) -> None:
        with closing(self._loop), suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._probing)

    async def _go_on(self) -> None:
        while True:
            try:
                await self._look()
            except Exception as error:
                self._failures = min(self._failures + 1, 30)
                if self._failures == 1:  # said once in a row of failures
                    logger.warning("otel_orders: no probe of %s, trying on: %s", self._asked.url, error)
            await asyncio.sleep(self.pause)

    async def _look(self) -> None:
        now = time.time_ns()
        answers, trouble = await self._ask()
        self._keep(answers, now)
        if trouble is not None:
            raise trouble
        if self._failures:
            logger.warning("otel_orders: %s answers again", self._asked.url)
        self._failures, self.succeeded_at = 0, time.time()

    def _keep(self, answers: Mapping[str, dict[str, Any] | None], now: int) -> None:
        """Keep what was seen at *now* (unix ns); forget the messages that cannot be in their queues any more."""
        if not answers:
            return
        before = queues.decode(self._store.items(queues.FACTS).values(), now)
        moments = self._store.moments()
        until = now + int(max(3 * self._asked.every, 2 * PROBE_WITHIN) * 1e9)
        with self._store.transaction() as tx:
            for queue, answer in answers.items():
                fact = queues.seen(queue, answer, now, until, before.get(queue))
                tx.put(queues.FACTS + queue, queues.encode(fact))
                gone = queues.gone_before(fact, before.get(queue), moments.get((DELIVERED, queue)))
                if gone is not None and (count := tx.forget_messages(queue, gone)):
                    tx.add({(names.MESSAGES_GONE, queue): count})

    async def _ask(self) -> tuple[dict[str, dict[str, Any] | None], ProbeError | None]:
        """Return what is told of each queue, None of one that is not there; and why something is not told."""
        answers: dict[str, dict[str, Any] | None] = {}
        few = asyncio.Semaphore(AT_ONCE)
        trouble: list[ProbeError] = []

        async def ask(client: httpx.AsyncClient, queue: str) -> None:
            try:
                async with few:
                    answers[queue] = await self._about(client, queue)
            except ProbeError as error:
                trouble.append(error)

        try:
            async with asyncio.timeout(PROBE_WITHIN), self._client() as client:
                await asyncio.gather(*(ask(client, queue) for queue in self._watched))
                if None in answers.values():
                    await self._check_vhost(client)
        except ProbeError as error:
            return {}, error
        except TimeoutError:
            trouble.append(ProbeError(f"it did not answer within {span(PROBE_WITHIN)}"))
        return answers, trouble[0] if trouble else None

    def _client(self) -> httpx.AsyncClient:
        import httpx  # noqa: PLC0415 - a quarter of a ledger's start, and most do not probe

        # Neither proxies nor .netrc of the environment, and no redirect: the password is for this host alone.
        user = (self._asked.user, self._asked.password)
        return httpx.AsyncClient(auth=user, verify=self._trusted, trust_env=False, timeout=PROBE_WITHIN)

    async def _about(self, client: httpx.AsyncClient, queue: str) -> dict[str, Any] | None:
        return await self._object(client, "queues", queue, queues.COLUMNS)

    async def _check_vhost(self, client: httpx.AsyncClient) -> None:
        """Raise ProbeError where there is no such virtual host, and so no queue; all have this exchange."""
        found = await self._object(client, "exchanges", "amq.direct", ("name",))
        if found is None or found.get("name") != "amq.direct":
            raise ProbeError(
                f"it has no virtual host {self._asked.vhost!r} (--rabbitmq-vhost), or is no RabbitMQ management API"
            )

    async def _object(
        self, client: httpx.AsyncClient, kind: str, name: str, columns: Sequence[str]
    ) -> dict[str, Any] | None:
        """Return what is told of one object, None where it is not there.  Raises ProbeError."""
        import httpx  # noqa: PLC0415

        where = "/".join(quote(part, safe="") for part in (self._asked.vhost, name))
        url = f"{self._asked.url}/api/{kind}/{where}"
        try:
            async with client.stream("GET", url, params={"columns": ",".join(columns)}) as answer:
                if answer.status_code == HTTPStatus.NOT_FOUND:
                    return None
                if not answer.is_success:
                    raise ProbeError(f"{answer.status_code} {answer.reason_phrase} for {kind[:-1]} {name}")
                return _decoded(await _body(answer), name)
        except httpx.HTTPError as error:
            raise ProbeError(f"{type(error).__name__}: {error}") from None


async def _body(answer: httpx.Response) -> bytes:
    body = b""
    async for chunk in answer.aiter_bytes():
        body += chunk
        if len(body) > MAX_ANSWER:
            raise ProbeError(f"an answer has over {MAX_ANSWER} bytes")
    return body


def _decoded(body: bytes, name: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ProbeError(f"what it says about {name} is no JSON object") from None
