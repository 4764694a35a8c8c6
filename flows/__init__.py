"""The recipe: select gridcells, find products, download and prepare them, composite cells, publish."""

import s2sr_core as s2sr_core  # which exempts this machine from proxies, before Prefect is imported
