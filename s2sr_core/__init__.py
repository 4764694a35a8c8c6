"""All that is true of a Sentinel-2 median composite without Prefect and Dask."""

__version__ = "0.1.0"
