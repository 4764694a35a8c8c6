from __future__ import annotations

from pathlib import Path

import pytest

from deployments.server.configured import may_have_api


@pytest.fixture(autouse=True)
def nothing_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PREFECT_API_URL", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def test_without_any_setting_there_is_no_api(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('dependencies = ["prefect"]')
    (tmp_path / ".env").write_text("CDSE_USERNAME=you@example.org")
    assert not may_have_api()


@pytest.mark.parametrize("name", ["PREFECT_API_URL", "prefect_api_url", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH"])
def test_a_variable_may_name_one(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "something")
    assert may_have_api()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("home/profiles.toml", 'active = "local"'),
        (".env", "PREFECT_API_URL=http://127.0.0.1:4200/api"),
        ("prefect.toml", "[api]\nurl = 'http://127.0.0.1:4200/api'"),
        ("pyproject.toml", "[tool.prefect.api]\nurl = 'http://127.0.0.1:4200/api'"),
    ],
)
def test_a_file_may_name_one(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    assert may_have_api()
