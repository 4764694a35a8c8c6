"""Benchmarks of the engines, of other programs on the same products, and of the plan; not part of the package."""
