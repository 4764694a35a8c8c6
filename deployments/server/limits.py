"""The concurrency limit that :mod:`deployments.set_up` makes on a Prefect server, and flows keep to."""

from __future__ import annotations

#: A run holds a slot of it while it downloads. An account at CDSE may have four connections, from all machines
#: together, and a run uses that many: so one run downloads at a time, while others compute.
DOWNLOADS, DOWNLOAD_SLOTS = "cdse", 1
#: How long the slot of a run that died stays taken; the least that Prefect allows.
LEASE_SECONDS = 60.0
