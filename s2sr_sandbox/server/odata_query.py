"""The query options of ``/odata/v1/Products``, checked as CDSE checks them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal
from urllib.parse import urlencode

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from s2sr_sandbox.server.odata_filter import Predicate, parse_filter
from s2sr_sandbox.server.odata_tokens import FilterError
from s2sr_sandbox.server.products import Entry
from s2sr_sandbox.server.settings import SandboxSettings

type Pairs = Sequence[tuple[str, str]]

# "The acceptable arguments for this option": https://documentation.dataspace.copernicus.eu/APIs/OData.html.
_ORDERS = {
    "ContentDate/Start": attrgetter("start"),
    "ContentDate/End": attrgetter("end"),
    "PublicationDate": attrgetter("published"),
    "ModificationDate": attrgetter("published"),
}
_EXPANSIONS = ("Attributes", "Assets")


class QueryError(Exception):
    """A query that is refused: the status and the body of the answer."""

    def __init__(self, status: int, detail: Any) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail


class _Numbers(BaseModel):
    model_config = ConfigDict(populate_by_name=False)

    top: int
    skip: int
    count: bool


@dataclass(frozen=True, slots=True)
class Query:
    """A query.

    Attributes
    ----------
    matches: the ``$filter``.
    order: the ``$orderby``: field and whether descending; None: no order is guaranteed.
    top, skip: the page.
    count: whether the number of all matches is wanted.
    expand: of Attributes, Assets.
    select: keys of the products to return; empty: all.
    """

    matches: Predicate
    order: tuple[str, bool] | None
    top: int
    skip: int
    count: bool
    expand: tuple[str, ...]
    select: tuple[str, ...]

    def ordered(self, entries: Sequence[Entry]) -> list[Entry]:
        """``entries`` in the requested order, then by id; without a requested order, by id."""
        anyhow = sorted(entries, key=lambda entry: entry.id)
        if self.order is None:
            return anyhow
        field, descending = self.order
        return sorted(anyhow, key=_ORDERS[field], reverse=descending)


class QueryOptions:
    """Reads query strings within the limits of the settings."""

    def __init__(self, settings: SandboxSettings) -> None:
        top, skip = settings.top_max, settings.skip_max
        page = min(settings.page, top)
        self._multipolygons = settings.multipolygons
        self._numbers: type[_Numbers] = create_model(
            "Numbers",
            __base__=_Numbers,
            top=(int, Field(page, alias="$top", ge=0, le=top)),
            skip=(int, Field(0, alias="$skip", ge=0, le=skip)),
            count=(bool, Field(default=False, alias="$count")),
        )

    def read(self, pairs: Pairs) -> Query:
        """The query of a query string's pairs.

        Raises
        ------
        QueryError
            422 for a number out of bounds (with FastAPI's list of errors, as CDSE answers), 400 for anything else that
            is not understood.
        """
        given = dict(pairs)
        try:
            numbers = self._numbers.model_validate(given)
        except ValidationError as error:
            raise QueryError(422, [_detail(item) for item in error.errors(include_url=False)]) from error
        try:
            matches = (
                parse_filter(given["$filter"], multipolygons=self._multipolygons) if "$filter" in given else _everything
            )
        except FilterError as error:
            raise QueryError(400, f"Invalid $filter: {error}") from error
        return Query(
            matches,
            _order(given.get("$orderby", "")),
            numbers.top,
            numbers.skip,
            numbers.count,
            _names(pairs, "$expand", _EXPANSIONS),
            _names(pairs, "$select"),
        )


def next_page(pairs: Pairs, skip: int) -> str:
    """The query string of the page that begins at ``skip``: the same, form-encoded, with ``$skip`` in its old place."""
    changed = [(name, str(skip) if name == "$skip" else value) for name, value in pairs]
    if not any(name == "$skip" for name, _ in pairs):
        changed.append(("$skip", str(skip)))
    return urlencode(changed)


def _everything(_: Entry) -> Literal[True]:
    return True


def _detail(item: Any) -> dict[str, Any]:
    detail = {key: item[key] for key in ("type", "msg", "input")}
    detail = {"type": detail["type"], "loc": ["query", *item["loc"]], "msg": detail["msg"], "input": detail["input"]}
    return detail | ({"ctx": item["ctx"]} if "ctx" in item else {})


def _order(text: str) -> tuple[str, bool] | None:
    if not text.strip():
        return None
    field, _, direction = text.strip().partition(" ")
    if field not in _ORDERS or direction.strip() not in ("", "asc", "desc"):
        raise QueryError(400, f"Invalid $orderby: {text[:80]!r}; one of {', '.join(_ORDERS)}, then asc or desc")
    return field, direction.strip() == "desc"


def _names(pairs: Pairs, option: str, known: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The names listed in an option, which may come more than once."""
    names = [name.strip() for key, value in pairs if key == option for name in value.split(",") if name.strip()]
    unknown = [name for name in names if known and name not in known]
    if unknown:
        raise QueryError(400, f"Invalid {option}: {unknown[0][:40]!r}; one of {', '.join(known)}")
    return tuple(dict.fromkeys(names))
