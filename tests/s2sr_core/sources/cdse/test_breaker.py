"""Hosts that are down, and products that fail on hosts that are up, with the sandbox and several threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from s2sr_core import stopping
from s2sr_core.errors import ProductError, SourceDownError, Step
from s2sr_core.sources.cdse import breaker
from s2sr_core.sources.cdse.breaker import Breakers
from s2sr_core.sources.cdse.comparison import OtherProducts, answers
from s2sr_core.sources.cdse.download import Downloader
from s2sr_core.sources.cdse.http import Http, RetryPolicy
from s2sr_core.sources.cdse.road import ODataRoad
from s2sr_core.sources.source import RemoteProduct
from s2sr_sandbox.server import Fault

#: Two of these for each product are far fewer than the failures of an outage.
FEW_TRIES = RetryPolicy(attempts=2, first_wait=0.01, longest_wait=0.05)
QUICK = RetryPolicy(attempts=4, first_wait=0.01, longest_wait=0.05)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("_FIRST_PAUSE", 0.02), ("_LONGEST_PAUSE", 0.1), ("_LOOK", 0.02), ("_RECENT", 0.0)):
        monkeypatch.setattr(breaker, name, seconds)


@pytest.fixture
def guarded(connect: Callable[..., Any]) -> Iterator[Callable[..., tuple[Any, Downloader, list[RemoteProduct]]]]:
    """A client whose hosts are watched, at the beginning of a run over all products of the sandbox."""

    def make(patience: float, retries: RetryPolicy = QUICK, **urls: str) -> tuple[Any, Downloader, list[RemoteProduct]]:
        client = connect(retries=retries)
        sandbox = client.sandbox
        download_url = urls.get("download_url", sandbox.download_url)
        hosts = (sandbox.catalogue_url, sandbox.identity_url, download_url)
        breakers = Breakers(hosts, patience)
        http = Http(hosts, retries, guard=breakers.run)
        client.tokens._http = http
        downloader = client.downloader()
        downloader = Downloader(http, ODataRoad(download_url, client.tokens), downloader.slots, downloader.folder)
        products = [client.product(number) for number in range(len(list(sandbox.catalogue)))]
        breakers.reset(download_url, OtherProducts(downloader, products).answer)
        return client, downloader, products

    yield make
    assert stopping.requested() is None


def download_all(downloader: Downloader, products: list[RemoteProduct], threads: int = 2) -> list[Any]:
    """What becomes of each product: its bytes, or its error."""

    def one(product: RemoteProduct) -> Any:
        try:
            return downloader.download(product, ["B04"])
        except (ProductError, SourceDownError) as error:
            return error

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(one, products))


def test_products_that_fail_are_given_up_and_the_host_is_not(guarded: Any) -> None:
    """The first four fail whatever is tried, which is more than are under way at once."""
    client, downloader, products = guarded(patience=0.0)
    for product in products[:4]:
        client.sandbox.faults.add(Fault.error(str(product.name), 503, "", "broken", host="download"))
    results = download_all(downloader, products)
    assert [type(each) for each in results] == [ProductError] * 4 + [int] * 5
    assert {error.step for error in results[:4]} == {Step.CONNECTION}
    assert all("HTTP 503: " in error.reason and "broken" in error.reason for error in results[:4])


def test_one_product_alone_is_given_up(guarded: Any) -> None:
    client, downloader, products = guarded(patience=0.0)
    breakers = downloader.http.guard.__self__  # type: ignore[attr-defined]
    breakers.reset(downloader.road.url, OtherProducts(downloader, products[:1]).answer)
    client.sandbox.faults.add(Fault.error("", 503, "", "broken", host="download"))
    [result] = download_all(downloader, products[:1])
    assert isinstance(result, ProductError)


@pytest.mark.parametrize("status", [500, 503])
def test_a_host_that_fails_for_all_ends_the_run_in_all_threads(
    guarded: Any, status: int, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    client, downloader, products = guarded(patience=0.5)
    first = download_all(downloader, products[:2])
    client.sandbox.faults.add(Fault.error(r"/\$value$", status, "", "maintenance", host="download"))
    client.sandbox.clear_requests()
    with caplog.at_level("INFO", "s2sr_core"):
        results = download_all(downloader, products, threads=4)
    assert [type(each) for each in first + results[:2]] == [int] * 4
    assert results[:2] == [0, 0]  # whole, so not asked for
    assert {type(each) for each in results[2:]} == {SourceDownError}
    [sentence] = {str(each) for each in results[2:]}
    assert f" is down (HTTP {status}: {{" in sentence
    assert sentence.endswith("what is complete is kept, and the same command continues from there")
    assert caplog.text.count("is down") == 1
    assert "is down" in capfd.readouterr().err
    # At most the first requests of four threads, each with what else was asked for, and one try every 0.1 s.
    assert len(client.sandbox.byte_requests()) <= 4 + 6 * 12


def test_connections_that_break_for_all_are_the_hosts_failure_and_for_some_products_theirs(guarded: Any) -> None:
    client, downloader, products = guarded(patience=0.0)
    for product in products[:4]:
        client.sandbox.faults.add(Fault.close(str(product.name), 100, host="download"))
    results = download_all(downloader, products)
    assert [type(each) for each in results] == [ProductError] * 4 + [int] * 5
    assert all(error.reason.endswith("the connection broke after 100 bytes") for error in results[:4])
    client.sandbox.faults.clear()
    client.sandbox.faults.add(Fault.close("", 100, host="download"))
    results = download_all(downloader, products)
    assert [type(each) for each in results] == [SourceDownError] * 4 + [int] * 5
    [sentence] = {str(each) for each in results[:4]}
    assert " is down (the connection broke after 100 bytes) and the run does not wait" in sentence


def test_an_outage_of_broken_connections_is_waited_through(guarded: Any) -> None:
    """Each product gets two tries, and forty answers break off."""
    client, downloader, products = guarded(patience=60.0, retries=FEW_TRIES)
    client.sandbox.faults.add(Fault.close("", 100, host="download", times=40))
    results = download_all(downloader, products)
    assert [type(each) for each in results] == [int] * 9, results


def test_an_outage_is_waited_through_and_no_product_loses_a_try(
    guarded: Any, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    client, downloader, products = guarded(patience=60.0, retries=FEW_TRIES)
    client.sandbox.faults.add(Fault.error("", 503, "", "maintenance", host="download", times=60))
    with caplog.at_level("INFO", "s2sr_core"):
        results = download_all(downloader, products)
    assert [type(each) for each in results] == [int] * 9, results
    assert caplog.text.count("is down") == 1
    assert "answers again" in caplog.text
    assert "answers again" in capfd.readouterr().err


def test_a_host_that_cannot_be_reached_is_down(guarded: Any) -> None:
    _, downloader, products = guarded(patience=0.1, retries=FEW_TRIES, download_url="http://127.0.0.1:9")
    results = download_all(downloader, products)
    assert {type(each) for each in results} == {SourceDownError}
    assert str(results[0]).startswith("127.0.0.1:9 is down (ConnectionError (Connection refused)) and")


def test_too_many_requests_are_no_outage(guarded: Any) -> None:
    client, downloader, products = guarded(patience=0.0)
    client.sandbox.faults.add(Fault.error("", 429, "DAT-ZIP-100", "Max session number exceeded", host="download"))
    assert {type(each) for each in download_all(downloader, products)} == {ProductError}


def test_the_next_run_asks_again(guarded: Any) -> None:
    client, downloader, products = guarded(patience=0.0)
    client.sandbox.faults.add(Fault.error("", 503, "", "maintenance", host="download"))
    assert {type(each) for each in download_all(downloader, products)} == {SourceDownError}
    client.sandbox.faults.clear()
    assert {type(each) for each in download_all(downloader, products)} == {SourceDownError}
    downloader.http.guard.__self__.reset(downloader.road.url)  # type: ignore[attr-defined]
    assert {type(each) for each in download_all(downloader, products)} == {int}


def test_a_login_that_cannot_be_had_is_the_identity_hosts_outage(guarded: Any) -> None:
    client, downloader, products = guarded(patience=0.1)
    client.sandbox.faults.add(Fault.error("/token", 502, "", "bad gateway", host="identity"))
    results = download_all(downloader, products)
    assert {type(each) for each in results} == {SourceDownError}
    assert str(results[0]).startswith(client.sandbox.identity_url.removeprefix("http://"))
    assert not client.sandbox.byte_requests()


def test_a_query_that_fails_is_not_the_catalogues_outage(connect: Any) -> None:
    """The smallest query is answered, so this one is at fault."""
    client = connect()
    url, http = client.sandbox.catalogue_url, client.http
    smallest = f"{url}/odata/v1/Products?$top=1"
    assert answers(http, smallest)
    client.sandbox.faults.add(Fault.error("/Products", 504, "", "timed out", host="catalogue"))
    assert not answers(http, smallest)
    client.sandbox.faults.clear()
    client.sandbox.faults.add(Fault.error("/Products", 400, "", "no", host="catalogue"))
    assert answers(http, smallest)


def test_whoever_waits_for_a_host_is_woken_by_a_request_to_stop(guarded: Any) -> None:
    _, downloader, products = guarded(patience=3600.0, download_url="http://127.0.0.1:9")
    timer = threading.Timer(0.2, stopping.request, [stopping.Reason.SIGNAL])
    timer.start()
    try:
        with pytest.raises(stopping.StoppedError):
            download_all(downloader, products)
    finally:
        timer.join()
        stopping.withdraw(stopping.Reason.SIGNAL)
