"""Other people's CDSE clients, as they come from PyPI, against the sandbox: search and download."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from s2sr_sandbox.server import SandboxSettings, running

BOX = "POLYGON((-150 68,-149 68,-149 69,-150 69,-150 68))"


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_cdsetool(archive: Path, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CDSETool's hosts are written in its code: its option ``proxies`` leads it here, REQUESTS_CA_BUNDLE to trust."""
    pytest.importorskip("cdsetool")
    from cdsetool.credentials import Credentials
    from cdsetool.download import download_features
    from cdsetool.query import describe_collection, query_features

    with running(archive, SandboxSettings(proxy=True, connections=2)) as sandbox:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(sandbox.certificate_file))
        proxies = {"https": str(sandbox.proxy_url)}
        terms = {"contentDateStartGe": "2019-06-01", "contentDateStartLt": "2025-01-01", "productType": "S2MSI2A"}
        features = query_features(
            "SENTINEL-2",
            terms | {"geometry": BOX, "cloudCoverLe": 100, "top": 4},
            proxies=proxies,
            options={"expand_attributes": True, "max_attempts": 1},
        )
        assert len(features) == 9
        assert [feature["Name"] for feature in features] == names
        assert "cloudCover" in describe_collection("SENTINEL-2", proxies=proxies)

        credentials = Credentials("sandbox", "sandbox-password", proxies=proxies)
        options = {"credentials": credentials, "download_attempts": 1}
        some = options | {"filter_pattern": "*_B04_20m.jp2", "concurrency": 2}
        assert sorted(download_features(features, str(tmp_path / "files"), some)) == sorted(names)
        for name in names:
            right = {path: content for path, content in _files(archive / name).items() if path.endswith("_B04_20m.jp2")}
            assert _files(tmp_path / "files" / name) == right
        whole = list(download_features([features[0]], str(tmp_path / "zips"), options))
        assert whole == [f"{names[0]}.zip"]
        with zipfile.ZipFile(tmp_path / "zips" / whole[0]) as packed:
            packed.extractall(tmp_path / "zips")
        assert _files(tmp_path / "zips" / names[0]) == _files(archive / names[0])
        assert sandbox.logins == 1
        assert sandbox.connections_high_water <= 2
        configuration = f"{sandbox.identity_url}/auth/realms/CDSE/.well-known/openid-configuration"
        with pytest.raises(Exception, match="Unable to exchange token"):
            Credentials("sandbox", "wrong", openid_configuration_endpoint=configuration)
        assert not {request.status for request in sandbox.requests} - {200, 401}


def test_eodag(archive: Path, names: list[str], tmp_path: Path) -> None:
    """eodag's provider ``cop_dataspace`` with four addresses changed in the user's configuration."""
    pytest.importorskip("eodag")
    from eodag import EODataAccessGateway
    from eodag.config import EODAGSettings

    with running(archive) as sandbox:
        configuration = tmp_path / "eodag.yml"
        configuration.write_text(
            f"""
cop_dataspace:
  priority: 1
  search:
    api_endpoint: {sandbox.catalogue_url}/odata/v1/Products
    metadata_mapping:
      eodag:download_link: '{sandbox.catalogue_url}/odata/v1/Products({{uid}})/$value'
  download:
    output_dir: {tmp_path / "out"}
  auth:
    matching_url: {sandbox.catalogue_url}
    oidc_config_url: {sandbox.identity_url}/auth/realms/CDSE/.well-known/openid-configuration
    credentials:
      username: sandbox
      password: sandbox-password
"""
        )
        settings = EODAGSettings(cfg_dir=tmp_path, cfg_file=configuration, providers_whitelist=["cop_dataspace"])
        gateway = EODataAccessGateway(settings=settings)
        box = {"lonmin": -150, "latmin": 68, "lonmax": -149, "latmax": 69}
        where = {"provider": "cop_dataspace", "collection": "S2_MSI_L2A", "geom": box, "raise_errors": True}
        found = gateway.search(start="2019-06-01", end="2025-01-01", limit=4, count=True, **where)
        assert found.number_matched == 9
        everything = gateway.search_all(start="2019-06-01", end="2025-01-01", **where)
        assert [f"{product.properties['id']}.SAFE" for product in everything] == names
        few = gateway.search(**where, **{"eo:cloud_cover": 0, "grid:code": "MGRS-06WUB"})
        product = everything[0]
        assert {item.properties["eo:cloud_cover"] for item in few} <= {0.0}
        assert product.properties["order:status"] == "succeeded"
        assert product.properties["grid:code"] == "MGRS-06WUB"
        assert product.properties["file:size"] == sandbox.catalogue[names[0]].content_length
        got = Path(product.download())
        packed = next(path for path in (got, *got.rglob("*")) if (path / "manifest.safe").exists())
        assert _files(packed) == _files(archive / names[0])
        assert sandbox.logins == 1
        statuses = [(request.host, request.status) for request in sandbox.requests if "$value" in request.path]
        assert statuses == [("catalogue", 301), ("download", 200)]
