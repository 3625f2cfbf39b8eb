"""The old packaging terminal: it cannot speak OpenTelemetry, it only writes JSON lines."""
