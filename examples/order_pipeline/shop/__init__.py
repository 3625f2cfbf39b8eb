"""The shop: takes orders and models from customers, and hands them to pricing."""

PUBLIC_HOST = "shop.example"
"""The name by which customers come.  Our own services ask for the same paths by another name."""
