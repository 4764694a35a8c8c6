"""Where a run computes, and what it needs there: clusters, MPI ranks, Prefect servers, processes, the service."""

import s2sr_core as s2sr_core  # which exempts this machine from proxies, before Prefect is imported
