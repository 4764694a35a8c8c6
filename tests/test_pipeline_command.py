from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
import shapely
from support.trees import OLD, write_tree

import s2sr_pipeline
from s2sr_core import __version__
from s2sr_core.cells.gridcell_csv import write_gridcells
from s2sr_core.cells.gridcells import Gridcell, make_gridcells
from s2sr_core.composites.records import key_of
from s2sr_core.parameters import RunParameters

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run the command line: exit code, stdout, stderr. The flow is never started here."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["s2sr_pipeline.py", *words])
        monkeypatch.setitem(sys.modules, "flows.pipeline", None)  # importing it would be an error
        try:
            code = s2sr_pipeline.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        output = capsys.readouterr()
        return code, output.out, output.err

    return run


@pytest.fixture
def job(tmp_path: Path) -> dict[str, str]:
    """Options of a run that would work: four cells, one product."""
    write_gridcells(make_gridcells((-150, 68.5, -149, 68.75), 0.25), tmp_path / "cells.csv")
    write_tree(tmp_path / "archive")
    return {
        "bbox": "-149.9 68.55 -149.1 68.7",
        "grid_csv": str(tmp_path / "cells.csv"),
        "start": "2019-06-01T00:00:00Z",
        "end": "2019-08-31T00:00:00Z",
        "source": str(tmp_path / "archive"),
        "work_dir": str(tmp_path / "run"),
    }


def words_of(options: dict[str, str | None]) -> list[str]:
    return [word for name, value in options.items() if value is not None for word in (f"--{name}", *value.split())]


def planned(output: str) -> dict[str, str]:
    return dict(re.findall(r"^(\w+(?: \w+)?) {2,}(.*)$", output, re.MULTILINE))


# ------------------------------------------------------------------------------------------------------------- plan


def test_a_plan_prints_what_would_be_done_and_stops(command, job: dict[str, str], tmp_path: Path) -> None:
    code, stdout, stderr = command(*words_of(job), "--plan", "--bands", "B02", "B03", "B04", "--workers", "2")
    assert (code, stderr) == (0, "")
    lines = planned(stdout)
    assert lines["gridcells"] == "4"
    assert lines["products"] == "1 of 1 found"
    assert lines["to read"].endswith("MB of B02 B03 B04 and SCL")
    assert lines["composites"] == "12"
    assert lines["units"] == "1 of phase 1, 4 of phase 2, on 2 workers"
    assert not (tmp_path / "run").exists()


def test_without_a_number_there_is_a_worker_a_core(command, job: dict[str, str]) -> None:
    cores = len(os.sched_getaffinity(0))
    assert planned(command(*words_of(job), "--plan")[1])["units"].endswith(f" on {cores} workers")


def test_a_plan_follows_the_filters(command, job: dict[str, str]) -> None:
    for words in (("--months", "11-2"), ("--tiles", "33XWJ"), ("--min-baseline", "05.00"), ("--max-cloud-cover", "1")):
        code, stdout, _ = command(*words_of(job), "--plan", *words)
        assert (code, planned(stdout)["products"]) == (0, "0 of 1 found (1 filtered)")


@pytest.mark.parametrize("style", [lambda name: name, lambda name: name.replace("_", "-"), str.upper])
def test_dashes_and_under_scores_are_alike(command, job: dict[str, str], style) -> None:
    """Capitals are not."""
    code, stdout, _ = command(*words_of({style(name): value for name, value in job.items()}), "--plan", "--keep_tmp")
    assert (code, "gridcells" in stdout) == ((2, False) if style is str.upper else (0, True))


def test_numbers_may_be_written_with_exponents(command, job: dict[str, str], tmp_path: Path) -> None:
    write_gridcells([Gridcell("zero", shapely.box(-1, -1, 1, 1))], tmp_path / "cells.csv")
    job |= {"bbox": "-1e-3 -1.5E-3 1e-3 0.", "tr": "1e-4 1e-4"}
    code, stdout, _ = command(*words_of(job), "--plan")
    assert (code, planned(stdout)["gridcells"]) == (0, "1")


def test_a_box_across_the_antimeridian_selects_both_sides(command, job: dict[str, str], tmp_path: Path) -> None:
    write_gridcells(make_gridcells((179, 60, -179, 61), 1.0), tmp_path / "cells.csv")
    code, stdout, _ = command(*words_of(job | {"bbox": "179.5 60.2 -179.5 60.4"}), "--plan")
    assert (code, planned(stdout)["gridcells"]) == (0, "2")


# -------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("plan", [True, False])
@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"bbox": None}, "bbox = '': is required; add --bbox."),
        ({"grid_csv": None}, "grid_csv = '': is required; add --grid-csv."),
        ({"work_dir": None}, "work_dir = '': is required; add --work-dir."),
        ({"bbox": "1 2 3"}, "argument --bbox: expected 4 arguments; see s2sr-pipeline --help."),
        (
            {"bbox": "-149 68 -149 69"},
            r"bbox = '-149 68 -149 69': covers no area; write xmin ymin xmax ymax, with ymin < ymax "
            r"\(xmin > xmax crosses the antimeridian\).",
        ),
        ({"bbox": "10 60 11 61"}, r"bbox = '10.0 60.0 11.0 61.0': meets no gridcell of .*cells\.csv; check both."),
        ({"grid_csv": "none.csv"}, "grid_csv = '.*': does not exist; give the path of a CSV of gridcells."),
        ({"start": "June"}, "start = 'June': is not an ISO 8601 time; write 2019-06-01 or 2019-06-01T00:00:00Z."),
        (
            {"end": "2019-06-01"},
            r"start = '2019-06-01T00:00:00\+00:00': is not before end \(2019-06-01T00:00:00\+00:00\); "
            "give an earlier start or a later end.",
        ),
        (
            {"bands": "B04 B09"},
            "bands = 'B09': is not one of B02 .* B12; choose one of these.",
        ),
        ({"months": "13"}, "months = '13': '13' is not a month .* or a span of months; write 6-8, or 6 7 8."),
        ({"tiles": "5WPM"}, "tiles = '5WPM': '5WPM' is not an MGRS tile; write one like 05WPM."),
        ({"min_baseline": "5"}, "min_baseline = '5': is not a processing baseline; write one like 05.00."),
        (
            {"scl_dilation": "9"},
            "argument --scl-dilation: '9' is not written as CLASS=METRES; see s2sr-pipeline --help.",
        ),
        (
            {"scl_dilation": "9=0"},
            "scl_dilation = '9=0': 0 m for class 9 is not more than 0 and at most 5000; write it like 9=100.",
        ),
        (
            {"scl_mask": "0 1 2 3 4 5 6 7 8 9 10 11"},
            "scl_mask = '0 1 2 3 4 5 6 7 8 9 10 11': masks every class; leave out the clear classes, 4 5 6.",
        ),
        (
            {"tr": "-1e-4 1e-4"},
            "tr = '-0.0001': is not between 1e-6 and 10 degrees, nor between 0.1 and 100000 units of a projected crs; "
            "20 m of latitude are 0.00018 degrees.",
        ),
        ({"workers": "0"}, "workers = '0': is too small; give 1 or more."),
        ({"source": "no/such/folder"}, "source = '.*': does not exist; give the folder that holds .SAFE products."),
        ({"metres": "20"}, "unknown option --metres; see s2sr-pipeline --help."),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    command, job: dict[str, str], tmp_path: Path, changes: dict[str, str | None], sentence: str, plan: bool
) -> None:
    """Before any work: with ``--plan`` and without, nothing is written."""
    code, stdout, stderr = command(*words_of(job | changes), *(["--plan"] if plan else []))
    assert (code, stdout) == (2, "")
    assert re.fullmatch(f"s2sr-pipeline: {sentence}\n", stderr), stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("plan", [True, False])
def test_a_bad_grid_is_named_by_its_row(command, job: dict[str, str], tmp_path: Path, plan: bool) -> None:
    (tmp_path / "cells.csv").write_text('cell_id,geometry\na,"POLYGON ((0 0, 1 0, 1 1, 0 0))"\n..,x\n')
    code, _, stderr = command(*words_of(job), *(["--plan"] if plan else []))
    assert code == 2
    assert stderr.endswith(": row 3: geometry is not valid WKT; fix or remove these rows (the header is row 1).\n")
    assert stderr.count("\n") == 1


def test_an_archive_without_products_is_bad_input(command, job: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, stdout, stderr = command(*words_of(job | {"source": str(tmp_path / "empty")}), "--plan")
    assert (code, stdout) == (2, "")
    assert stderr.endswith(": holds no .SAFE product; give the folder that holds them.\n")


def test_a_bad_product_does_not_stop_a_plan(command, job: dict[str, str], tmp_path: Path) -> None:
    path = write_tree(tmp_path / "archive", OLD.replace("05WPM", "05WPN"))
    manifest = (path / "manifest.safe").read_text()
    (path / "manifest.safe").write_text(manifest.replace("./GRANULE", "/GRANULE"))
    (tmp_path / "archive" / "garbage.SAFE").mkdir()
    code, stdout, stderr = command(*words_of(job), "--plan")
    assert (code, stderr) == (0, "")
    assert planned(stdout)["products"] == "2 of 3 found (1 failed)"


# ----------------------------------------------------------------------------------------------------------- verify


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A work folder with one composite of three bytes and its record."""
    folder = tmp_path / "run" / "composites" / "a"
    folder.mkdir(parents=True)
    (folder / "cell_a_B04_median_clip.tif").write_bytes(b"abc")
    # The digest is the example of FIPS 180-2, B.1.
    file = {"size": 3, "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}
    inputs = {"cell_id": "a", "band": "B04", "scenes": []}
    record = {"key": key_of(inputs), "inputs": inputs, "files": {"cell_a_B04_median_clip.tif": file}}
    (folder / "cell_a_B04_median_clip.json").write_text(json.dumps(record))
    return tmp_path / "run"


def test_verify_ends_in_0_if_all_is_well_and_in_1_with_a_table_if_not(command, recorded: Path) -> None:
    code, stdout, stderr = command("--verify", str(recorded))
    assert (code, stdout) == (0, "1 composite, 1 file: 1 as recorded\n")
    assert stderr.startswith("composites: 1 of 1 (")
    (recorded / "composites" / "a" / "cell_a_B04_median_clip.tif").write_bytes(b"axc")
    code, stdout, _ = command("--verify", str(recorded))
    assert code == 1
    assert re.fullmatch(r"changed +a/cell_a_B04_median_clip\.tif  .*\n1 composite, .*, 1 changed\n", stdout), stdout


@pytest.mark.parametrize(
    ("folder", "problem"),
    [
        ("none", "does not exist"),
        ("run/composites", "holds no composites/"),
        ("run/composites/a/cell_a_B04_median_clip.json", "is not a folder"),
        ("", "is empty"),
    ],
)
def test_verify_of_what_is_not_a_run_is_one_sentence(command, recorded: Path, folder: str, problem: str) -> None:
    code, stdout, stderr = command("--verify", folder and str(recorded.parent / folder))
    assert (code, stdout) == (2, "")
    assert re.fullmatch(rf"s2sr-pipeline: work_dir = '.*': {problem}; .*\.\n", stderr), stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--explain", "1"], "argument --explain: expected 2 arguments; see s2sr-pipeline --help."),
        (["--explain", "1", "x"], "argument --explain: invalid float value: 'x'; see s2sr-pipeline --help."),
        (["--explain", "1", "2"], "work_dir = '': is required; add --work-dir, the folder of the last run."),
        (["--explain", "1", "2", "--work-dir", "none"], "work_dir = '.*/none': has no record of a run; give .*"),
        (["--json"], "json = 'on': has no effect without --explain; add --explain LON LAT."),
    ],
)
def test_bad_input_of_explain_is_one_sentence(command, words: list[str], sentence: str) -> None:
    code, stdout, stderr = command(*words)
    assert (code, stdout) == (2, "")
    assert re.fullmatch(f"s2sr-pipeline: {sentence}\n", stderr), stderr


# --------------------------------------------------------------------------------------------------- help and doctor


def test_help_tells_every_parameter_and_the_exit_codes(command) -> None:
    code, stdout, _ = command("--help")
    assert code == 0
    text = re.sub(r"\s+", " ", stdout)
    assert text.startswith("usage: s2sr-pipeline ")
    for name, field in RunParameters.model_fields.items():
        assert re.search(rf"--{name.replace('_', '-')}[ ,]", text), name
        assert re.sub(r"\s+", " ", str(field.description)) in text
    assert "exit codes: 0 all done 1 finished with failures, failed, or cancelled in Prefect 2 bad input" in text
    assert "Default: 0.000179663056824 degrees, or 20;" in text
    assert "Default: 0 1 2 3 7 8 9 10 11." in text


def test_the_version_is_the_packages(command) -> None:
    assert command("--version") == (0, f"s2sr-pipeline {__version__}\n", "")


def test_the_doctor_needs_no_other_option_and_finds_nothing_wrong(command) -> None:
    code, stdout, stderr = command("--doctor")
    findings = dict(re.findall(r"^(?:ok|wrong) +(.{17}) (.*)$", stdout, re.MULTILINE))
    named = {name.strip() for name in findings}
    assert stderr == ""
    assert {"GDAL", "JPEG 2000", "GDAL with numpy", "pixel function", "PROJ data", "disk"} <= named
    assert {"prefect", "prefect-dask", "dask", "distributed", "numpy"} <= named
    wrong = re.findall(r"^wrong +(.*)$", stdout, re.MULTILINE)
    assert all(line.startswith("disk") for line in wrong)
    assert code == (1 if wrong else 0)


def test_the_doctor_looks_at_the_disk_of_the_work_dir(command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which may be at home, and need not be there yet."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for words in (["--work_dir", str(tmp_path / "not" / "yet")], ["--work-dir", "~/not/yet"]):
        _, stdout, _ = command("--doctor", *words)
        assert re.search(rf"disk .* GB free at {re.escape(str(tmp_path))}$", stdout, re.MULTILINE)
    assert not (tmp_path / "not").exists()


def test_the_doctor_ends_in_1_and_says_what_to_do_where_something_is_wrong() -> None:
    """A GDAL that is told to leave out its JPEG 2000 drivers."""
    environment = os.environ | {"GDAL_SKIP": "JP2OpenJPEG,JP2KAK,JP2ECW,JP2MrSID,JP2Grok,JP2Lura"}
    done = subprocess.run(
        [sys.executable, "s2sr_pipeline.py", "--doctor"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        check=False,
    )
    assert done.returncode == 1
    wrong, remedy = re.search(r"^wrong (.*)\n +-> (.*)$", done.stdout, re.MULTILINE).groups()
    assert re.fullmatch(r"GDAL's drivers +GDAL_SKIP=JP2OpenJPEG,.*: leaves GDAL without JP2OpenJPEG", wrong)
    assert remedy == "take them out of the list, or unset it"


@pytest.mark.parametrize("name", ["elsewhere.yaml", "run/site.yaml"])
def test_a_site_file_is_never_taken_from_a_record(command, job: dict[str, str], tmp_path: Path, name: str) -> None:
    site = tmp_path / name
    site.parent.mkdir(exist_ok=True)
    site.write_text("prologue: [touch trap]\n")
    chosen = RunParameters.model_validate(
        {**{key: value.split() if key == "bbox" else value for key, value in job.items()}, "cluster": "slurm"}
    )
    record = json.loads(chosen.model_dump_json()) | {"site": str(site)}
    (tmp_path / "run" / "indices").mkdir(parents=True)
    (tmp_path / "run" / "indices" / "flow_run.json").write_text(json.dumps({"parameters": record}))
    repair = ("--repair", "--print-job-script", "--work-dir", str(tmp_path / "run"))
    code, output, errors = command(*repair)
    assert (code, output) == (2, "")
    assert re.fullmatch(  # a long path is cut
        r"s2sr-pipeline: site = '.+': is the site file that the run's record names, and holds commands that would "
        r"run as you; look at it, then add --site with its path\.\n",
        errors,
    )
    code, output, errors = command(*repair, "--site", str(site))
    assert (code, errors) == (0, "")
    assert "touch trap" in output.splitlines()
    code, output, errors = command("--repair", "--plan", "--cluster", "local", "--work-dir", str(tmp_path / "run"))
    assert (code, errors) == (0, "")


@pytest.mark.parametrize(("answer", "expected"), [("y", 0), ("", 2), ("no", 2)])
def test_on_a_terminal_the_site_file_of_a_record_is_shown_and_asked_for(
    job: dict[str, str], tmp_path: Path, answer: str, expected: int
) -> None:
    site = tmp_path / "site.yaml"
    site.write_text("prologue: [touch trap]\n# \u202e hidden\n", encoding="utf-8")
    chosen = RunParameters.model_validate(
        {**{key: value.split() if key == "bbox" else value for key, value in job.items()}, "cluster": "slurm"}
    )
    record = json.loads(chosen.model_dump_json()) | {"site": str(site)}
    (tmp_path / "run" / "indices").mkdir(parents=True)
    (tmp_path / "run" / "indices" / "flow_run.json").write_text(json.dumps({"parameters": record}))
    words = ["--repair", "--print-job-script", "--work-dir", str(tmp_path / "run")]
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "r+b", buffering=0) as terminal, os.fdopen(theirs, "r+b", buffering=0) as slave:
        os.write(ours, f"{answer}\n".encode())
        done = subprocess.run(
            [sys.executable, "s2sr_pipeline.py", *words],
            stdin=slave,
            stderr=slave,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            check=False,
        )
        shown = terminal.read(65536).decode()
    assert done.returncode == expected, shown
    assert f"names the site file '{site}'" in shown
    assert "    prologue: [touch trap]" in shown
    assert "# \\u202e hidden" in shown
    assert "\u202e" not in shown
    assert "Use it? [y/N]" in shown
    assert ("touch trap" in done.stdout) == (expected == 0)


@pytest.mark.parametrize("record", ["{}", '{"parameters": 1}', "[]", "x"])
def test_a_record_that_names_no_parameters_is_one_sentence(command, tmp_path: Path, record: str) -> None:
    (tmp_path / "indices").mkdir()
    (tmp_path / "indices" / "flow_run.json").write_text(record)
    code, output, errors = command("--repair", "--work-dir", str(tmp_path))
    assert (code, output) == (2, "")
    assert errors.startswith(f"s2sr-pipeline: work_dir = '{tmp_path}': has no record of a run;")
