"""Files of the service's runs in a browser: ``python -m deployments.results --folder F --port P``, on loopback.

``make serve`` starts it, so that the report of a run links to its files.
"""

from __future__ import annotations

from s2sr_core.import_path import leave_out_current_folder

if __name__ == "__main__":  # before anything is imported that may lie in the current folder
    leave_out_current_folder()

import argparse
import html
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

#: Read in a browser rather than saved.
_TEXTS = {".csv", ".json", ".log", ".vrt", ".xml", ".yaml"}
#: What somebody put into a work folder runs nothing.
_HEADERS = {"Content-Security-Policy": "sandbox", "X-Content-Type-Options": "nosniff"}


def results_app(folder: Path) -> Starlette:
    """Lists folders below ``folder`` and sends files, whole or in ranges.

    Hidden files, and links that lead out of the folder, are not there.
    """
    root = folder.resolve()

    def answer(request: Request) -> Response:
        words = request.path_params["path"]
        if "\0" in words or any(part.startswith(".") for part in Path(words).parts):
            raise HTTPException(404)
        path = (root / words.lstrip("/")).resolve()
        if not path.is_relative_to(root) or not path.exists():
            raise HTTPException(404)
        if path.is_dir():
            return _listing(path, words) if not words or words.endswith("/") else RedirectResponse(f"{request.url}/")
        if not path.is_file():
            raise HTTPException(404)
        return FileResponse(path, headers=_HEADERS, media_type="text/plain" if path.suffix in _TEXTS else None)

    return Starlette(routes=[Route("/{path:path}", answer)])


def _listing(folder: Path, title: str) -> Response:
    names = sorted(
        f"{entry.name}{'/' * entry.is_dir()}" for entry in folder.iterdir() if not entry.name.startswith(".")
    )
    items = "".join(f'<li><a href="{quote(name)}">{html.escape(name)}</a></li>' for name in names)
    page = f"<!DOCTYPE html><title>/{html.escape(title)}</title><h1>/{html.escape(title)}</h1><ul>{items}</ul>"
    return HTMLResponse(page, headers=_HEADERS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m deployments.results", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="folder whose files are served")
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1")
    given = parser.parse_args(arguments)
    uvicorn.run(results_app(given.folder), host="127.0.0.1", port=given.port, log_level="warning")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
