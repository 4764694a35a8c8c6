"""Ranks that an MPI launcher starts: which one this is, the world of them, the Dask worker of each."""
