"""Where a run computes: clusters now; work pools, schedules and site files with the service."""
