"""Which products count, and why the others do not."""
