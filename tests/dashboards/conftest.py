"""Programs that judge dashboards, as they judge alerts."""

from tests.alerts.conftest import prometheus_program, promtool, replay

__all__ = ["prometheus_program", "promtool", "replay"]
