"""Tests of the sinks, and where telemetry can be sent in tests: memory.py and receiver.py."""
