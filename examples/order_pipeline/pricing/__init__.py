"""Pricing: measures the model of an order and says what it costs."""
