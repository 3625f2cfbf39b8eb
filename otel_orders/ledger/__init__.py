"""The ledger: reads every event, keeps where each order is, and counts in business terms.

``model`` folds events into an order, ``store`` keeps it, ``ingest`` reads what senders send, ``metrics`` shows it.
"""
