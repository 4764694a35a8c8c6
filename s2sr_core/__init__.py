"""All that is true of a Sentinel-2 median composite without Prefect and Dask."""

from s2sr_core.proxies import LOOPBACK, exempt_from_proxies

__version__ = "0.1.0"

exempt_from_proxies(*LOOPBACK)
