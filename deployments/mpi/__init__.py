"""Ranks that an MPI launcher starts: which one this process is, the world of them, and the Dask worker of each."""
