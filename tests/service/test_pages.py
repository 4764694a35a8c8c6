"""The pages of the service in a browser: fill the form, run, see the result."""

from __future__ import annotations

from urllib.parse import urlsplit

from support.browsing import browser
from support.serving import Service, until

from s2sr_core.workspace import Workspace


def test_the_new_pages_are_refused_what_they_would_send_elsewhere(service: Service) -> None:
    """They set up a client of usage statistics, which asks its host for instructions. The header keeps them from it."""
    deployment = service.deployment("s2sr-pipeline/local")
    with browser() as chromium:
        chromium.open(f"{service.url}/v2/deployments/deployment/{deployment['id']}/run")
        for label in ("west", "south", "east", "north", "width", "height"):
            chromium.text(label)
        policy = "Refused to connect because it violates the document's Content Security Policy"
        until(lambda: any(policy in line for line in chromium.console()), what="a request that is refused")
        assert chromium.hosts() == {urlsplit(service.url).netloc}


def test_filling_the_form_makes_a_run_whose_page_shows_the_result(service: Service) -> None:
    deployment = service.deployment("s2sr-pipeline/local")
    page = f"{service.url}/deployments/deployment/{deployment['id']}/run"
    with browser() as chromium:
        chromium.open(page)
        chromium.text(deployment["parameter_openapi_schema"]["properties"]["bbox"]["description"])
        assert chromium.field("grid_csv").get_attribute("value") == "service/gridcells.csv"
        chromium.fill("work_dir", "service/runs/by-hand")
        chromium.fill("scl_dilation (Optional)", "9=40")
        chromium.click("Submit")

        def runs() -> list[str]:
            body = {"deployments": {"id": {"any_": [deployment["id"]]}}, "sort": "START_TIME_DESC"}
            found = service.post("/flow_runs/filter", body)
            return [run["id"] for run in found if run["parameters"]["work_dir"] == "service/runs/by-hand"]

        until(runs)
        (flow_run_id,) = runs()
        chromium.open(f"{service.url}/runs/flow-run/{flow_run_id}")
        assert service.ended(flow_run_id)["name"] == "Completed"
        assert service.flow_run(flow_run_id)["parameters"]["scl_dilation"] == "9=40"
        chromium.text("composite by-hand")
        chromium.text("Completed")
        chromium.click("Artifacts")
        for key in (
            "downloads",
            "scenes",
            "composites",
            "scenes-used",
            "scenes-left-out",
            "quicklook",
            "valid-counts",
            "report",
        ):
            chromium.text(f"{key}-runs-by-hand")
        chromium.text("composites: 4 of 4")

        artifacts = service.artifacts(flow_run_id)
        for key in ("quicklook", "valid-counts"):
            chromium.open(f"{service.url}/artifacts/artifact/{artifacts[key]['id']}")
            source, width, height = chromium.picture()
            assert source.startswith("data:image/")
            assert min(width, height) > 300
        chromium.open(f"{service.url}/artifacts/artifact/{artifacts['scenes-left-out']['id']}")
        chromium.see(
            "//td[contains(., 'is preferred and covers it')] | //*[contains(text(), 'is preferred and covers it')]"
        )
        chromium.open(f"{service.url}/artifacts/artifact/{artifacts['report']['id']}")
        chromium.text("Bytes and durations")
    assert Workspace(service.folder / "service" / "runs" / "by-hand").composite_index.exists()
