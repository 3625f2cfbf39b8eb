"""Who gets in: nobody without a token where tokens are asked for, and without a certificate where those are."""

from __future__ import annotations

import ssl
import subprocess
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from tests.collector.certificates import Authority, Issued
from tests.collector.far_end import FarEnd, far_end
from tests.collector.gate import post
from tests.collector.orders import request
from tests.collector.planted import span
from tests.collector.processes import AGENT, BALANCER, GATEWAY, collecting, command, settings
from tests.integration.processes import running
from tests.ledger import senders
from tests.sinks.receiver import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.collector.processes import Collector

TOKENS = ("current-token-1", "former-token-2")
PROTOBUF = {"content-type": "application/x-protobuf"}
SPAN = request([span("x", 1)])


class Certificates(NamedTuple):
    """ca: the authority's own.  stranger: issued by somebody else."""

    ca: Path
    server: Issued
    client: Issued
    stranger: Issued


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    ours, theirs = Authority(folder, "ours"), Authority(folder, "theirs")
    return Certificates(ours.cert, ours.issue("server"), ours.issue("client"), theirs.issue("stranger"))


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("tokens") / "tokens"
    found.write_text(f"{TOKENS[0]}  of the shop\n\n{TOKENS[1]}\tuntil Friday\n")
    return found


def over_http(gateway: Collector, authorization: str | None) -> int:
    headers = PROTOBUF | ({} if authorization is None else {"authorization": authorization})
    answer = httpx.post(f"{gateway.url}/v1/traces", content=SPAN.SerializeToString(), headers=headers, trust_env=False)
    return answer.status_code


def over_grpc(target: str, credentials: Any = None, authorization: str | None = None) -> grpc.StatusCode:
    """Send a span and return how that ended."""
    metadata = [] if authorization is None else [("authorization", authorization)]
    with grpc.secure_channel(target, credentials) if credentials else grpc.insecure_channel(target) as channel:
        export = channel.unary_unary(
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            request_serializer=lambda sent: sent.SerializeToString(),
            response_deserializer=ExportTraceServiceResponse.FromString,
        )
        try:
            export(SPAN, metadata=metadata, timeout=10)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


@pytest.fixture(scope="module")
def guarded(binary: Path, tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    folder = tmp_path_factory.mktemp("guarded")
    with collecting(binary, (*GATEWAY, "tokens"), folder, OTELCOL_TOKENS=str(tokens)) as gateway:
        yield gateway


WRONG = (
    None,
    "",
    "Bearer",
    "Bearer wrong",
    f"Basic {TOKENS[0]}",
    TOKENS[0],
    f"Bearer {TOKENS[0]}x",
    "Bearer of",
)


@pytest.mark.parametrize("authorization", WRONG)
def test_nobody_gets_in_without_a_token(guarded: Collector, authorization: str | None) -> None:
    assert over_http(guarded, authorization) == httpx.codes.UNAUTHORIZED
    assert over_grpc(guarded.grpc, authorization=authorization) is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("token", TOKENS)
def test_each_token_of_the_file_opens(guarded: Collector, token: str) -> None:
    assert over_http(guarded, f"Bearer {token}") == httpx.codes.OK
    assert over_grpc(guarded.grpc, authorization=f"Bearer {token}") is grpc.StatusCode.OK


@pytest.mark.parametrize("content", [None, "", " \n \n"])
def test_without_any_token_in_the_file_the_gateway_does_not_start(
    binary: Path, tmp_path: Path, content: str | None
) -> None:
    tokens = tmp_path / "tokens"
    if content is not None:
        tokens.write_text(content)
    environ = settings(tmp_path) | {"OTELCOL_TOKENS": str(tokens)}
    started = subprocess.run(
        command(binary, (*GATEWAY, "tokens")), env=environ, capture_output=True, text=True, timeout=30, check=False
    )
    assert started.returncode != 0
    assert "bearertokenauth" in started.stderr


@pytest.fixture(scope="module")
def sealed(
    binary: Path, tokens: Path, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Collector, Any]]:
    """A gateway that asks for a certificate and a token, and where its traces go."""
    environ = {
        "OTELCOL_TLS_CERT": str(certificates.server.cert),
        "OTELCOL_TLS_KEY": str(certificates.server.key),
        "OTELCOL_TLS_CLIENT_CA": str(certificates.ca),
        "OTELCOL_TOKENS": str(tokens),
    }
    configs = (*GATEWAY, "tls", "mtls", "tokens")
    with far_end() as store:
        folder = tmp_path_factory.mktemp("sealed")
        with collecting(binary, configs, folder, **environ, OTELCOL_TRACES=store.url) as gateway:
            yield gateway, store


def who(certificates: Certificates, caller: str) -> Issued | None:
    return {"nobody": None, "stranger": certificates.stranger, "client": certificates.client}[caller]


@pytest.mark.parametrize("caller", ["nobody", "stranger", "client"])
def test_with_mtls_only_a_certificate_of_our_authority_gets_in(
    sealed: tuple[Collector, Any], certificates: Certificates, caller: str
) -> None:
    gateway, issued = sealed[0], who(certificates, caller)
    tls = ssl.create_default_context(cafile=str(certificates.ca))
    if issued is not None:
        tls.load_cert_chain(issued.cert, issued.key)
    pair = (issued.key.read_bytes(), issued.cert.read_bytes()) if issued else (None, None)
    credentials = grpc.ssl_channel_credentials(certificates.ca.read_bytes(), *pair)
    authorization = f"Bearer {TOKENS[0]}"
    called = over_grpc(gateway.grpc, credentials, authorization)
    with httpx.Client(verify=tls, trust_env=False, headers=PROTOBUF | {"authorization": authorization}) as client:
        url = gateway.url.replace("http:", "https:") + "/v1/traces"
        if caller == "client":
            assert client.post(url, content=SPAN.SerializeToString()).is_success
            assert called is grpc.StatusCode.OK
        else:
            with pytest.raises(httpx.TransportError):
                client.post(url, content=SPAN.SerializeToString())
            assert called is grpc.StatusCode.UNAVAILABLE


def test_with_tls_nothing_is_taken_in_clear(sealed: tuple[Collector, Any]) -> None:
    with suppress(httpx.TransportError):  # Go answers 400 and hangs up, whichever is seen first
        assert over_http(sealed[0], f"Bearer {TOKENS[0]}") == httpx.codes.BAD_REQUEST
    assert over_grpc(sealed[0].grpc, authorization=f"Bearer {TOKENS[0]}") is grpc.StatusCode.UNAVAILABLE


def test_an_agent_with_certificate_and_token_reaches_its_gateway_and_one_with_a_wrong_token_does_not(
    sealed: tuple[Collector, Any], certificates: Certificates, binary: Path, tmp_path: Path
) -> None:
    gateway, store = sealed
    environ = {
        "OTELCOL_GATEWAY": gateway.url.replace("http:", "https:"),
        "OTELCOL_GATEWAY_CA": str(certificates.ca),
        "OTELCOL_CLIENT_CERT": str(certificates.client.cert),
        "OTELCOL_CLIENT_KEY": str(certificates.client.key),
    }
    configs = (*AGENT, "gateway_mtls", "gateway_token")
    for number, token in ((77, "wrong"), (78, TOKENS[0])):
        with collecting(binary, configs, tmp_path / token, **environ, OTELCOL_GATEWAY_TOKEN=token) as agent:
            with httpx.Client(base_url=agent.url, trust_env=False) as client:
                post(client, "/v1/traces", request([span("x", number)]))
            wait_for(partial(arrived if number == 78 else refused, agent, store))
    assert numbers(store) & {77, 78} == {78}


def test_a_balancer_with_certificate_and_token_reaches_its_gateways(
    sealed: tuple[Collector, Any], certificates: Certificates, binary: Path, tmp_path: Path
) -> None:
    gateway, store = sealed
    environ = {
        "OTELCOL_GATEWAYS": f"[{gateway.grpc}]",
        "OTELCOL_GATEWAY_CA": str(certificates.ca),
        "OTELCOL_CLIENT_CERT": str(certificates.client.cert),
        "OTELCOL_CLIENT_KEY": str(certificates.client.key),
        "OTELCOL_GATEWAY_TOKEN": TOKENS[1],
    }
    configs = (*BALANCER, "balancer_mtls", "balancer_token")
    with (
        collecting(binary, configs, tmp_path, **environ) as balancer,
        httpx.Client(base_url=balancer.url, trust_env=False) as client,
    ):
        post(client, "/v1/traces", request([span("x", 79)]))
        wait_for(lambda: 79 in numbers(store))


def refused(agent: Collector, _: FarEnd) -> bool:
    return "HTTP Status Code 401" in agent.log


def arrived(_: Collector, store: FarEnd) -> bool:
    return 78 in numbers(store)


def numbers(store: FarEnd) -> set[int]:
    return {int.from_bytes(one.span_id, "big") for one in store.spans()}


def test_the_ledgers_token_is_sent_with_event_records(binary: Path, tmp_path: Path) -> None:
    token = "the-ledgers-own-token"  # noqa: S105 - made for this test
    with running(tmp_path, environ={"OTEL_ORDERS_LEDGER_TOKEN": token}) as ledger:
        environ = {"OTELCOL_LEDGER": ledger.url, "OTELCOL_LEDGER_TOKEN": token}
        with collecting(binary, (*AGENT, "ledger_token"), tmp_path / "agent", **environ) as agent:
            with httpx.Client(base_url=agent.url, trust_env=False) as client:
                post(client, "/v1/logs", senders.logs([senders.changed("A-1")]))
            headers = {"authorization": f"Bearer {token}"}
            wait_for(lambda: httpx.get(f"{ledger.url}/orders/A-1", headers=headers, trust_env=False).is_success)


def test_a_config_that_is_printed_shows_no_secret(binary: Path, tmp_path: Path) -> None:
    secret = "a-secret-of-32-bytes-0123456789abcdef"  # noqa: S105 - made for this test
    layers = (*GATEWAY, "elasticsearch", "ledger_token", "pseudonyms")
    hidden = dict.fromkeys(("OTELCOL_ELASTICSEARCH_API_KEY", "OTELCOL_LEDGER_TOKEN", "OTELCOL_PSEUDONYM_KEY"), secret)
    environ = settings(tmp_path) | hidden | {"OTELCOL_ELASTICSEARCH": "http://127.0.0.1:9"}
    printed = subprocess.run(
        [*command(binary, layers, "print-config")], env=environ, capture_output=True, text=True, check=True
    )
    assert "hmac_key" in printed.stdout
    assert secret not in printed.stdout + printed.stderr
