"""What Grafana reads at its start: it parses, belongs together, and holds no secret."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.collector.test_compose import SERVICES
from tests.dashboards.boards import BOARDS, DASHBOARDS, texts, variables

FOLDER = DASHBOARDS / "provisioning"
DATA_SOURCES: list[dict[str, Any]] = yaml.safe_load((FOLDER / "datasources/otel-orders.yaml").read_text())[
    "datasources"
]
UIDS = {source["uid"]: source["type"] for source in DATA_SOURCES}
(PROVIDER,) = yaml.safe_load((FOLDER / "dashboards/otel-orders.yaml").read_text())["providers"]
GRAFANA = SERVICES["grafana"]


def referred(value: object) -> set[str]:
    """Every uid of a data source that is named somewhere in *value*."""
    if isinstance(value, dict):
        own = {uid for key, uid in value.items() if key == "datasourceUid"}
        return own.union(*map(referred, value.values()))
    return set().union(*map(referred, value)) if isinstance(value, list) else set()


def test_every_kind_of_data_source_is_there_under_a_name_and_uid_of_its_own() -> None:
    assert {"prometheus", "tempo", "jaeger", "loki", "yesoreyeram-infinity-datasource"} == set(UIDS.values())
    assert len(UIDS) == len(DATA_SOURCES) == len({source["name"] for source in DATA_SOURCES})


def test_data_sources_lead_to_each_other() -> None:
    settings = {source["type"]: source["jsonData"] for source in DATA_SOURCES}
    assert referred(DATA_SOURCES) == {"otel-orders-tempo", "otel-orders-loki"} <= set(UIDS)
    for kind in ("tempo", "jaeger"):
        assert settings[kind]["tracesToLogsV2"]["datasourceUid"] == "otel-orders-loki"
    (exemplars,) = settings["prometheus"]["exemplarTraceIdDestinations"]
    assert (exemplars["name"], exemplars["datasourceUid"]) == ("trace_id", "otel-orders-tempo")
    derived = {field["matcherRegex"]: field for field in settings["loki"]["derivedFields"]}
    assert derived["trace_id"]["datasourceUid"] == "otel-orders-tempo"
    assert derived["order_id"]["url"].startswith(f"/d/{BOARDS['order']['uid']}?var-order_id=")


@pytest.mark.parametrize("name", BOARDS)
def test_each_dashboard_begins_with_a_data_source_that_exists(name: str) -> None:
    chosen = [one for one in variables(BOARDS[name]).values() if one["type"] == "datasource"]
    assert chosen
    assert {one["current"]["value"]: one["query"] for one in chosen}.items() <= UIDS.items()


@pytest.mark.parametrize("source", DATA_SOURCES, ids=lambda source: source["uid"])
def test_addresses_and_tokens_come_from_the_environment_alone(source: dict[str, Any]) -> None:
    assert re.fullmatch(r"\$ORDERS_[A-Z_]+", source["url"])
    for secret in source.get("secureJsonData", {}).values():
        assert re.fullmatch(r"\$ORDERS_TENANTS|Bearer \$OTEL_ORDERS_LEDGER_TOKEN", secret)


def test_a_single_dollar_names_a_variable_that_compose_sets() -> None:
    """Grafana would put nothing in the place of a variable of its own."""
    written = "\n".join(texts(DATA_SOURCES)).replace("$$", "")
    asked = set(re.findall(r"\$\{?([A-Za-z_]+)", written))
    assert asked == {name for name in GRAFANA["environment"] if "ORDERS_" in name}


def test_compose_gives_each_address_a_default_that_is_a_service_of_its_own() -> None:
    defaults = [value.partition(":-")[2].rstrip("}") for value in GRAFANA["environment"].values() if "://" in value]
    hosts = {default.removeprefix("http://").partition(":")[0] for default in defaults}
    assert hosts == {"prometheus", "tempo", "loki", "ledger", "jaeger-problems", "jaeger-ordinary"}
    assert hosts <= set(GRAFANA["depends_on"]) <= SERVICES.keys()


def test_compose_mounts_dashboards_where_they_are_looked_for() -> None:
    assert f"../dashboards:{PROVIDER['options']['path']}:ro" in GRAFANA["volumes"]
    assert "../dashboards/provisioning:/etc/grafana/provisioning:ro" in GRAFANA["volumes"]


def test_compose_evaluates_the_rules_that_dashboards_ask() -> None:
    config = yaml.safe_load((DASHBOARDS.parent / "collector/backends/prometheus.yaml").read_text())
    (inside,) = config["rule_files"]
    assert f"../alerts/rules:{inside.removesuffix('/*.yaml')}:ro" in SERVICES["prometheus"]["volumes"]
