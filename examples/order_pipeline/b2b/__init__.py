"""The B2B entry: partners send batches of orders with an API key."""
