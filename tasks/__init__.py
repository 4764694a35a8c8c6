"""Prefect tasks, one for each kind of work: name, retries, time limit; the body is one call into s2sr_core."""
