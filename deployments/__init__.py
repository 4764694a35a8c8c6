"""Where a run computes, and what it needs there: clusters, MPI ranks, Prefect servers, processes, the service."""
