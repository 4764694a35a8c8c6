"""The notebook of the documentation, executed by a kernel as a person's would be."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "docs" / "example.ipynb"


def outputs(cell: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for output in cell.outputs if output.output_type in ("execute_result", "display_data")]


def test_the_notebook_is_stored_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert [cell.outputs for cell in notebook.cells if cell.cell_type == "code" and cell.outputs] == []


@pytest.mark.slow
@pytest.mark.enable_socket
@pytest.mark.filterwarnings("default")  # those of Jupyter's own
def test_the_notebook_runs_and_shows_plan_progress_tables_and_pictures(tmp_path: Path) -> None:
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(
        notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    _, plan, products, run, outcomes, dataset, picture, counts = code
    assert "gridcells   6" in outputs(plan)[-1].data["text/plain"]
    assert "data:image/png;base64," in outputs(plan)[-1].data["text/html"]
    assert "duplicate" in outputs(products)[-1].data["text/html"]
    progress, result = outputs(run)
    last = re.search(r"composites</td><td><progress value=(\d+) max=(\d+)>", progress.data["text/html"])
    assert last is not None
    assert last[1] == last[2], "bars, up to the last unit"
    assert "18 composites of 6 cells" in result.data["text/plain"]
    assert "r1586c0303" in outputs(outcomes)[-1].data["text/html"]
    assert "B04_count" in outputs(dataset)[-1].data["text/plain"]
    for cell in (picture, counts):
        assert "image/png" in outputs(cell)[-1].data
