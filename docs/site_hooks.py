"""What the documentation site needs besides docs/: the pages and files above it, and docstrings that read as lists.

The pages are written for a forge, where links lead to any file of the repository. On the site, pages above docs/ have
places of their own, and other files that a page links to are copied to ``source/``.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
#: Pages that lie above docs/ or would have an odd name, by their place on the site.
PAGES = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "security.md": "SECURITY.md",
    "changelog.md": "CHANGELOG.md",
    "images.md": "docs/images/README.md",
}
#: Packages of the API reference.
DOCUMENTED = ("s2sr/", "s2sr_core/", "flows/", "tasks/", "deployments/clusters/")
_PLACES = {source: place for place, source in PAGES.items()}
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
#: The list of a page's sections at its beginning: the site has its own, next to the text.
_CONTENTS = re.compile(r"^(?:- .*\]\(#[\w-]+\)\n)+\n", re.MULTILINE)
_LINK = re.compile(r"\]\((?![a-z]+:|#)([^)\s#]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages above docs/, and every file of the repository that a page links to."""
    for place, source in PAGES.items():
        if files.get_file_from_path(place) is None:
            files.append(File.generated(config, place, content=(ROOT / source).read_text(encoding="utf-8")))
    for page in files.documentation_pages():
        for target in _links(page.content_string, _source_of(page.src_uri)):
            place = _place_of(target)
            if place.startswith("source/") and files.get_file_from_path(place) is None:
                files.append(File.generated(config, place, abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links between files of the repository become links between pages of the site."""
    source, folder = _source_of(page.file.src_uri), PurePosixPath(page.file.src_uri).parent

    def moved(match: re.Match[str]) -> str:
        place = _place_of(_target(match[1], source))
        return f"]({os.path.relpath(place, folder)}"

    markdown = _CONTENTS.sub("", markdown, count=1)
    outside = _FENCED.split(markdown)
    code = [*_FENCED.findall(markdown), ""]
    return "".join(_LINK.sub(moved, prose) + fence for prose, fence in zip(outside, code, strict=True))


def _links(text: str, source: str) -> list[str]:
    return [_target(link, source) for link in _LINK.findall(_FENCED.sub("", text))]


def _target(link: str, source: str) -> str:
    """The file of the repository that a link in ``source`` means."""
    return os.path.normpath(PurePosixPath(source).parent / link)


def _source_of(place: str) -> str:
    """The file of the repository behind a page of the site."""
    return PAGES.get(place, f"docs/{place}")


def _place_of(source: str) -> str:
    """Where a file of the repository is on the site."""
    if source in _PLACES:
        return _PLACES[source]
    if source.startswith(DOCUMENTED) and source.endswith(".py"):
        return f"api/{source.removesuffix('.py').replace('__init__', 'index')}.md"
    return source.removeprefix("docs/") if source.startswith("docs/") else f"source/{source}"
