from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import requests

from s2sr_core.proxies import exempt_from_proxies

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("lower", "upper", "expected"),
    [
        (None, None, "10.0.0.7,::1"),
        ("", "", "10.0.0.7,::1"),
        (None, "example.org, .lan", "example.org,.lan,10.0.0.7,::1"),
        ("::1,a.org", "b.org,,a.org", "::1,a.org,b.org,10.0.0.7"),
        ("a.org,*", None, "*"),
    ],
)
def test_hosts_are_added_to_what_is_exempt_already(
    monkeypatch: pytest.MonkeyPatch, lower: str | None, upper: str | None, expected: str
) -> None:
    """In both variables, so that a client that reads only one of them finds all."""
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example.org:3128")
    for name, value in (("no_proxy", lower), ("NO_PROXY", upper)):
        monkeypatch.setenv(name, "to be restored")
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value
    for _ in range(2):
        exempt_from_proxies("10.0.0.7", "::1")
        assert (os.environ["no_proxy"], os.environ["NO_PROXY"]) == (expected, expected)
    for url in ("http://10.0.0.7:4200/api", "http://[::1]:4200/api"):
        assert requests.utils.get_environ_proxies(url) == {}
    assert requests.utils.should_bypass_proxies("http://example.com", None) == (expected == "*")


@pytest.mark.parametrize(
    "module", ["s2sr_pipeline", "make_grid", "flows.signature", "s2sr_core.account", "s2sr_sandbox.grid"]
)
def test_whatever_is_imported_this_machine_is_exempt(module: str) -> None:
    """In the process and in its children; other hosts are not."""
    code = (
        f"import importlib, json, urllib.request; importlib.import_module({module!r});"
        "hosts = ['127.0.0.1:4200', 'localhost', '::1', 'catalogue.dataspace.copernicus.eu'];"
        "print(json.dumps([bool(urllib.request.proxy_bypass(host)) for host in hosts]))"
    )
    given = {key: value for key, value in os.environ.items() if key.lower() != "no_proxy"}
    environment = given | {"HTTP_PROXY": "http://127.0.0.1:9", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [True, True, True, False]


def test_the_python_that_runs_this_reads_these_variables() -> None:
    """What the test above asks is urllib's own rule, which httpx and websockets follow."""
    assert urllib.request.proxy_bypass_environment("localhost", {"no": "localhost"})
    assert not urllib.request.proxy_bypass_environment("localhost", {"no": "127.0.0.1"})
