"""Where products come from."""

from __future__ import annotations

from typing import Any

from s2sr_core.parameters import RunParameters
from s2sr_core.products.checked_files import CheckedFiles
from s2sr_core.sources.archive import Archive, Downloaded
from s2sr_core.sources.source import Source
from s2sr_core.workspace import Workspace


def source_of(parameters: RunParameters) -> Source[Any]:
    """The source of a run: a folder, what was downloaded before, or Copernicus Data Space."""
    if parameters.source is not None:
        return Archive(parameters.source, parameters.resolution)
    if parameters.access == "mount":
        from s2sr_core.sources.cdse.client import endpoints
        from s2sr_core.sources.cdse.mounted import Mounted

        return Mounted(endpoints().mount, parameters.resolution)
    folder = parameters.imagery_folder
    if parameters.stage == "composite":
        return Downloaded(folder, parameters.resolution)
    from s2sr_core.sources.cdse import client  # HTTP and retries, which the others do without
    from s2sr_core.sources.cdse.source import Cdse

    checked = CheckedFiles(Workspace(parameters.work_dir)) if parameters.check_files == "once" else None
    road = client.road_of(parameters.access)
    return Cdse(folder, parameters.download_connections, parameters.resolution, road, checked, parameters.download)
