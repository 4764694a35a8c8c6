"""Paths below ``/odata/v1/``: ``Products(UUID)/Nodes(NAME.SAFE)/Nodes(GRANULE)…`` and their files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from s2sr_sandbox.server.products import Entry

_STEP = re.compile(r"(?P<kind>Products|Nodes)\((?P<name>[^()]*(?:\([^()]*\)[^()]*)*)\)")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class PathError(Exception):
    """A path without meaning: the status, the code of the download host and its message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class Place:
    """A parsed path.

    Attributes
    ----------
    product: UUID.
    nodes: names from the product's folder down.
    wanted: ``$value`` for the file, ``Nodes`` for a listing, empty for the node itself.
    """

    product: str
    nodes: tuple[str, ...]
    wanted: str


def parse_path(path: str) -> Place:
    """Parse ``path`` (decoded, without ``/odata/v1/``).

    Raises
    ------
    PathError
        400 DAT-ZIP-104 if it is malformed (names in quotes are), 422 DAT-ZIP-111 if the id is not a UUID.
    """
    head, *steps = path.split("/")
    wanted = steps.pop() if steps and steps[-1] in ("$value", "Nodes") else ""
    product = _STEP.fullmatch(head)
    nodes = [_STEP.fullmatch(step) for step in steps]
    if product is None or product["kind"] != "Products":
        raise PathError(400, "DAT-ZIP-104", "Invalid path")
    names = [match["name"] for match in nodes if match is not None and match["kind"] == "Nodes"]
    if len(names) != len(nodes) or any(not name or name[0] in "'\"" or "\0" in name for name in names):
        raise PathError(400, "DAT-ZIP-104", "Invalid path")
    if _UUID.fullmatch(product["name"]) is None:
        raise PathError(422, "DAT-ZIP-111", "Invalid product id")
    return Place(product["name"].lower(), tuple(names), wanted)


def resolve(entry: Entry, nodes: tuple[str, ...]) -> Path | None:
    """The file or folder that ``nodes`` lead to, each looked up in its parent's listing; None if there is none."""
    if entry.folder is None or not nodes or nodes[0] != entry.folder.name:
        return None
    here = entry.folder
    for name in nodes[1:]:
        if not here.is_dir():
            return None
        found = next((child for child in here.iterdir() if child.name == name), None)
        if found is None:
            return None
        here = found
    return here


def listing(entry: Entry, nodes: tuple[str, ...], base_url: str) -> dict[str, Any] | None:
    """The content of a folder (empty for a file); without nodes, the product's own folder. None if there is none."""
    if nodes:
        folder = resolve(entry, nodes)
        if folder is None:
            return None
        children = sorted(folder.iterdir(), key=lambda child: child.name) if folder.is_dir() else []
    elif entry.folder is None:
        return None
    else:
        children = [entry.folder]
    above = f"{base_url}/odata/v1/Products({entry.id})" + "".join(f"/Nodes({quote(name)})" for name in nodes)
    return {"result": [_node(child, above) for child in children]}


def _node(path: Path, above: str) -> dict[str, Any]:
    is_folder = path.is_dir()
    return {
        "Id": path.name,
        "Name": path.name,
        "ContentLength": 0 if is_folder else path.stat().st_size,
        "ChildrenNumber": sum(1 for _ in path.iterdir()) if is_folder else 0,
        "Nodes": {"uri": f"{above}/Nodes({quote(path.name)})/Nodes"},
    }
