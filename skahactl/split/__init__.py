"""Which items belong to which replica, and reading and writing them."""
