"""The concurrency limit that :mod:`deployments.set_up` makes on a Prefect server, and that flows respect."""

from __future__ import annotations

#: A run has a slot of this limit while it downloads. An account at CDSE may have four connections, from all machines
#: together, and a run uses that many. So one run downloads at a time, while others compute.
DOWNLOADS, DOWNLOAD_SLOTS = "cdse", 1
#: Seconds for which the slot of a run that died stays taken; the least that Prefect allows.
LEASE_SECONDS = 60.0
