"""The parameters of a run and its results, as one page of Markdown."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from s2sr_core import __version__
from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.outputs.summary import Summary
from s2sr_core.run_context import RunContext
from s2sr_core.workspace import Workspace

#: Where the files of runs can be opened: a folder, and the address under which a server shows it.
RESULTS_FOLDER, RESULTS_URL = "S2SR_RESULTS_FOLDER", "S2SR_RESULTS_URL"


def report(context: RunContext, summary: Summary, seconds: Mapping[str, float]) -> str:
    """Parameters, versions, bytes, durations and paths; ``seconds`` are those of each stage, by its title.

    Paths below the folder ``S2SR_RESULTS_FOLDER`` are links to the address ``S2SR_RESULTS_URL``.
    """
    existing = [path for path in _paths(context.workspace) if path.exists()]
    spent = {stage: f"{duration:.1f} s" for stage, duration in seconds.items()}
    return "\n\n".join(
        [
            f"**{summary.sentence()}**",
            "## Parameters",
            _table("parameter", json.loads(context.parameters.model_dump_json())),
            "## Bytes and durations",
            _table("", {"downloaded": f"{summary.downloaded / 1e6:.1f} MB"} | spent),
            "## Versions",
            _table("", {"s2sr": __version__, "GDAL": gdal.__version__, "Python": platform.python_version()}),
            f"## Paths on {platform.node()}",
            "\n".join(f"- {_link(path)}" for path in existing),
        ]
    )


def address_of(path: Path) -> str | None:
    """Where ``path`` can be opened, if it is below ``S2SR_RESULTS_FOLDER``, which a server shows."""
    folder, url = os.environ.get(RESULTS_FOLDER), os.environ.get(RESULTS_URL)
    absolute = path.absolute()
    if not (folder and url and absolute.is_relative_to(Path(folder).absolute())):
        return None
    inside = absolute.relative_to(Path(folder).absolute()).as_posix() + "/" * path.is_dir()
    return f"{url.rstrip('/')}/{quote(inside)}"


def _link(path: Path) -> str:
    """The path as code; as a link if a server shows it."""
    address = address_of(path)
    return f"[{_cell(str(path))}]({address})" if address else _cell(str(path))


def _paths(workspace: Workspace) -> list[Path]:
    return [
        workspace.composites,
        workspace.composite_index,
        workspace.scene_index,
        workspace.query_manifest,
        workspace.run_record,
        workspace.phase1_errors,
        workspace.phase2_errors,
        workspace.logs,
    ]


def _table(title: str, rows: Mapping[str, Any]) -> str:
    lines = [f"| {title} | |", "|---|---|"]
    return "\n".join([*lines, *(f"| {key} | {_cell(value)} |" for key, value in rows.items())])


def _cell(value: Any) -> str:
    """A value as code, so that Markdown does not interpret it."""
    text = value if isinstance(value, str) else json.dumps(value)
    text = " ".join(text.replace("`", "'").replace("|", "\\|").split())
    return f"`{text}`" if text else ""
