"""The catalogue host: queries, single products and the attributes of the collection; files are on the download host."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response

from s2sr_sandbox.server.nodes import PathError, parse_path
from s2sr_sandbox.server.odata_query import Pairs, Query, QueryError, QueryOptions, next_page
from s2sr_sandbox.server.products import COLLECTION, Catalogue, Entry, value_type
from s2sr_sandbox.server.settings import SandboxSettings

_MAX_PARAMETERS = 100


def catalogue_app(catalogue: Catalogue, settings: SandboxSettings, base_url: str, download_url: str) -> FastAPI:
    """The application behind ``base_url``."""
    app = FastAPI(openapi_url=None, redirect_slashes=False)
    options = QueryOptions(settings)

    @app.get("/odata/v1/Products")
    async def products(request: Request) -> Response:
        try:
            pairs = _pairs(request)
            query = options.read(pairs)
            return JSONResponse(_page(catalogue, query, pairs, settings, base_url))
        except QueryError as error:
            return JSONResponse({"detail": error.detail}, error.status)

    @app.get("/odata/v1/Attributes({collection})")
    async def attributes(collection: str) -> Response:
        if collection != COLLECTION:
            return JSONResponse({"detail": "Collection not found"}, 404)
        found = {name: value_type(value) for entry in catalogue for name, value in entry.attributes.items()}
        return JSONResponse([{"Name": name, "ValueType": found[name]} for name in sorted(found)])

    @app.api_route("/odata/v1/{path:path}", methods=["GET", "HEAD"])
    async def product(request: Request, path: str) -> Response:
        if "Nodes" in path or path.endswith("/$value"):
            target, query = (request.scope[part].decode("latin-1") for part in ("raw_path", "query_string"))
            return RedirectResponse(f"{download_url}{target}?{query}" if query else f"{download_url}{target}", 301)
        try:
            place = parse_path(path)
            entry = catalogue.by_id(place.product)
            query_of_one = options.read(_pairs(request))
        except PathError as error:
            return JSONResponse({"detail": str(error)}, error.status)
        except QueryError as error:
            return JSONResponse({"detail": error.detail}, error.status)
        if entry is None:
            return JSONResponse({"detail": "Product not found"}, 404)
        return JSONResponse({"@odata.context": f"{_context(query_of_one)}/$entity", **_document(entry, query_of_one)})

    return app


def _pairs(request: Request) -> Pairs:
    """The query string's pairs in their order; a string that is not UTF-8 is not a query."""
    try:
        return parse_qsl(
            request.scope["query_string"].decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_MAX_PARAMETERS,
        )
    except ValueError as error:
        raise QueryError(400, f"Invalid query string: {error}") from error


def _page(catalogue: Catalogue, query: Query, pairs: Pairs, settings: SandboxSettings, base_url: str) -> dict[str, Any]:
    matches = query.ordered([entry for entry in catalogue if query.matches(entry)])
    page: dict[str, Any] = {"@odata.context": _context(query)}
    if query.count:
        page["@odata.count"] = len(matches)
    following = query.skip + query.top
    page["value"] = [_document(entry, query) for entry in matches[query.skip : following]]
    if query.top and following < len(matches) and following <= settings.skip_max:
        page["@odata.nextLink"] = f"{base_url}/odata/v1/Products?{next_page(pairs, following)}"
    return page


def _context(query: Query) -> str:
    expanded = ",".join(f"{name}()" for name in query.expand)
    return f"$metadata#Products({expanded})" if expanded else "$metadata#Products"


def _document(entry: Entry, query: Query) -> dict[str, Any]:
    document = entry.document(attributes="Attributes" in query.expand, assets="Assets" in query.expand)
    if not query.select:
        return document
    unknown = [name for name in query.select if name not in document]
    if unknown:
        raise QueryError(400, f"Invalid $select: {unknown[0][:40]!r} is not a key of a product")
    return {"@odata.mediaContentType": document["@odata.mediaContentType"]} | {
        name: value for name, value in document.items() if name in query.select or name in query.expand
    }
