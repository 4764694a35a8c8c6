"""The pictures of docs/service.md: ``make screenshots``."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from PIL import Image
from support.browsing import Browser, browser
from support.serving import PATIENCE, ROOT, Service
from support.waiting import until

IMAGES = ROOT / "docs" / "images"


def main() -> None:
    """Start the service in a folder of its own, make the runs that are shown, and keep four pages."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(ROOT / "prefect.yaml", folder)
        service = Service(Path(folder))
        service.start()
        try:
            with browser(draws=True) as chromium:
                _take(service, chromium)
        finally:
            service.stop()


def _take(service: Service, chromium: Browser) -> None:
    deployment = service.deployment("s2sr-pipeline/local")["id"]
    chromium.open(f"{service.url}/deployments/deployment/{deployment}/run")
    chromium.text("Parameters")
    chromium.field("grid_csv")
    _keep(chromium, "form")
    run = service.trigger("s2sr-pipeline/local")
    campaign = service.trigger("campaign/campaign")
    service.ended(run)
    chromium.open(f"{service.url}/runs/flow-run/{run}")
    chromium.click("Artifacts")
    chromium.text("valid-counts-runs-local")
    _keep(chromium, "run")
    counts = service.artifacts(run)["valid-counts"]["id"]
    chromium.open(f"{service.url}/artifacts/artifact/{counts}")
    chromium.picture()
    _keep(chromium, "counts")
    until(lambda: " 2 done" in service.artifacts(campaign)["blocks-map"]["description"], PATIENCE)
    chromium.open(f"{service.url}/artifacts/artifact/{service.artifacts(campaign)['blocks-map']['id']}")
    chromium.picture()
    _keep(chromium, "campaign")
    service.ended(campaign)


def _keep(chromium: Browser, name: str) -> None:
    """The page as it is, in as few bytes as 256 colours take."""
    path = IMAGES / f"service-{name}.png"
    chromium.settled()
    chromium.keep(path)
    with Image.open(path) as picture:
        smaller = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    smaller.save(path, optimize=True)


if __name__ == "__main__":
    main()
