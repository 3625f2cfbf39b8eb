"""Worked examples: read them as documentation, start with order_pipeline."""
