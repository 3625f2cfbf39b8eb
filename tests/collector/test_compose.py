"""The compose file and the settings of its stores, as far as they can be checked without starting a container."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.collector.processes import COLLECTOR, settings

if TYPE_CHECKING:
    from pathlib import Path

COMPOSE: dict[str, Any] = yaml.safe_load((COLLECTOR / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
INSIDE = "/etc/otelcol-orders"
"""Where the gateway's container has this folder."""


def backend(name: str) -> Any:
    return yaml.safe_load((COLLECTOR / "backends" / name).read_text())


def test_the_gateway_runs_on_the_contrib_image_of_our_own_version() -> None:
    version = yaml.safe_load((COLLECTOR / "builder.yaml").read_text())["dist"]["version"]
    assert SERVICES["gateway"]["image"] == f"otel/opentelemetry-collector-contrib:{version}"


def test_the_gateways_command_and_environment_are_valid_on_our_build(binary: Path, tmp_path: Path) -> None:
    gateway = SERVICES["gateway"]
    arguments = [argument.replace(INSIDE, str(COLLECTOR)) for argument in gateway["command"]]
    given = {name: value for name, value in settings(tmp_path).items() if not name.startswith("OTELCOL_")}
    state = {"OTELCOL_STATE": str(tmp_path)}
    validation = subprocess.run(
        [binary, "validate", *arguments],
        env=given | gateway["environment"] | state,
        capture_output=True,
        text=True,
        check=False,
    )
    assert validation.returncode == 0, validation.stderr
    assert f"./:{INSIDE}:ro" in gateway["volumes"]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_mounts_what_exists_is_pinned_and_depends_on_services(service: str) -> None:
    made = SERVICES[service]
    sources = [volume.split(":")[0] for volume in made.get("volumes", ())]
    files, volumes = (
        [one for one in sources if one.startswith(".")],
        {one for one in sources if not one.startswith(".")},
    )
    assert [one for one in files if not (COLLECTOR / one).exists()] == []
    assert volumes <= COMPOSE["volumes"].keys()
    assert "build" in made or made["image"].rpartition(":")[2][:1] in set("0123456789v")
    assert set(made.get("depends_on", ())) <= SERVICES.keys()
    assert [port for port in made.get("ports", ()) if not port.startswith("127.0.0.1:")] == []


def test_the_gateway_sends_to_services_of_the_file() -> None:
    urls = [value for value in SERVICES["gateway"]["environment"].values() if value.startswith("http://")]
    assert {url.removeprefix("http://").partition(":")[0] for url in urls} <= SERVICES.keys()


@pytest.mark.parametrize(
    ("tenants", "path", "problems", "ordinary"),
    [
        ("tempo_tenants.yaml", ("compaction", "block_retention"), "720h", "168h"),
        ("loki_tenants.yaml", ("retention_period",), "720h", "336h"),
    ],
)
def test_each_tenant_is_kept_for_its_own_time(
    tenants: str, path: tuple[str, ...], problems: str, ordinary: str
) -> None:
    kept = {}
    for tenant, limits in backend(tenants)["overrides"].items():
        for key in path:
            limits = limits[key]  # noqa: PLW2901 - a walk down
        kept[tenant] = limits
    assert kept == {"problems": problems, "ordinary": ordinary}


def test_each_jaeger_has_a_time_to_live_of_its_own_and_a_folder() -> None:
    badger = backend("jaeger.yaml")["extensions"]["jaeger_storage"]["backends"]["traces"]["badger"]
    assert (badger["ttl"]["spans"], badger["ephemeral"]) == ("${env:JAEGER_TTL}", False)
    instances = [SERVICES["jaeger-problems"], SERVICES["jaeger-ordinary"]]
    assert [one["environment"]["JAEGER_TTL"] for one in instances] == ["720h", "168h"]
    assert len({volume for one in instances for volume in one["volumes"] if volume.endswith(":/badger")}) == len(
        instances
    )


def test_no_label_of_loki_is_an_order() -> None:
    attributes = backend("loki.yaml")["limits_config"]["otlp_config"]["resource_attributes"]
    labels = [name for rule in attributes["attributes_config"] for name in rule["attributes"]]
    assert attributes["ignore_defaults"] is True
    assert labels == ["service.name", "service.namespace", "deployment.environment.name"]
