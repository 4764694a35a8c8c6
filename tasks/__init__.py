"""One Prefect task for each unit of work: name, retries, time limit; the body is one call into s2sr_core."""
