"""Does a host fail for one product alone? Something else is asked for, and what comes of that tells."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

import requests
from requests.auth import AuthBase

from s2sr_core import stopping
from s2sr_core.errors import ProductError
from s2sr_core.products.manifest import MANIFEST
from s2sr_core.sources.cdse.download import Downloader
from s2sr_core.sources.cdse.http import CdseError, Http, TransientError
from s2sr_core.sources.cdse.reception import LARGEST_MANIFEST
from s2sr_core.sources.source import RemoteProduct

#: Other products that are asked for: more than may be bad at the same time by chance.
_ASKED = 5
#: Seconds after which no more is asked for: a host that is down may keep its clients waiting.
_LONGEST = 60.0
_CHUNK = 1 << 16


class OtherProducts:
    """The products of a run, of which some are asked for when one fails."""

    def __init__(self, downloader: Downloader, products: Sequence[RemoteProduct]) -> None:
        self._downloader = downloader
        self._products = [product for product in products if _has_address(downloader, product)]

    def answer(self, url: str) -> bool | None:
        """Whether the host answers for another product than that of ``url``; None if there is no other."""
        ours, began, asked = self._downloader, time.monotonic(), 0
        for product in random.sample(self._products, min(_ASKED + 1, len(self._products))):
            if product.name.folder in url:
                continue
            if asked == _ASKED or (asked and time.monotonic() - began > _LONGEST):
                break
            asked += 1
            if answers(ours.http, ours.road.address(product, MANIFEST), ours.road.permission().auth()):
                return True
        return False if asked else None


def _has_address(downloader: Downloader, product: RemoteProduct) -> bool:
    try:
        downloader.road.address(product, MANIFEST)
    except ProductError:
        return False
    return True


def answers(http: Http, url: str, auth: AuthBase | None = None) -> bool:
    """Whether a host says something about ``url``, if only that it refuses: one request, whatever is known of it.

    An answer that breaks off says nothing; no more of it is read than a manifest has.
    """
    size = 0
    try:
        with http.ask("GET", url, auth=auth, stream=True) as response:
            for chunk in response.iter_content(_CHUNK):
                stopping.check()
                size += len(chunk)
                if size > LARGEST_MANIFEST:
                    break
    except TransientError as error:
        return 0 < error.status < 500
    except requests.RequestException:
        return False
    except CdseError:
        return True
    return True
