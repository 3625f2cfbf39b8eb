"""The shop: takes orders and models from customers, and hands them to pricing."""
