"""Grafana's dashboards, made of a lifecycle.  Needs the extra `generate`: import it where it is used."""
