"""Prefect servers: one for the length of a run, limits, orphaned runs, cancellation."""
