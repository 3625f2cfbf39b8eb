"""The MES: makes the pieces, has them packed and ships them."""
