"""The docstrings of the code as the documentation site shows them."""

from __future__ import annotations

import re
from typing import Any

import griffe

#: A section of numpydoc whose entries name something and describe it on the same line: ``name: description``.
_SECTION = re.compile(r"^(Attributes|Parameters)\n-+\n((?:.+\n?)+)", re.MULTILINE)
_ENTRY = re.compile(r"^([A-Za-z_][\w, ]*): (.*(?:\n[ \t]+.*)*)", re.MULTILINE)
_ROLE = re.compile(r":(?:py:)?(?:mod|class|func|meth|attr|data|exc):`~?([^`]+)`")


class PlainMarkdown(griffe.Extension):
    """Turns short entries into numpydoc's long form, and Sphinx's roles and double backticks into Markdown."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            text = _SECTION.sub(lambda section: _ENTRY.sub(_long_form, section[0]), obj.docstring.value)
            obj.docstring.value = _ROLE.sub(r"``\1``", text)


def _long_form(entry: re.Match[str]) -> str:
    lines = (line.strip() for line in entry[2].splitlines())
    return f"{entry[1]} :\n    " + "\n    ".join(lines)
