"""The ledger over HTTP: what senders send to, what Prometheus scrapes, what support asks."""
