"""The parameters of a run and its results, as one page of Markdown."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from typing import Any

from s2sr_core import __version__
from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.outputs.summary import Summary
from s2sr_core.run_context import RunContext
from s2sr_core.workspace import Workspace


def report(context: RunContext, summary: Summary, seconds: Mapping[str, float]) -> str:
    """Parameters, versions, bytes, durations and paths; ``seconds`` are those of each stage, by its title."""
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
            "\n".join(f"- `{path}`" for path in existing),
        ]
    )


def _paths(workspace: Workspace) -> list[Any]:
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
