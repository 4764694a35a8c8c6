"""Prefect servers: the server of one run, its limits, runs whose process is dead, cancellation."""
