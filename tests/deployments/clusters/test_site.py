from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from deployments.clusters.site import Site, read_site
from s2sr_core.errors import InputError

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = sorted((ROOT / "deployments" / "sites").glob("*.yaml"))


def site_of(tmp_path: Path, text: str) -> Site:
    path = tmp_path / "site.yaml"
    path.write_text(text)
    return read_site(path)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_sites(path: Path) -> None:
    site = read_site(path)
    assert site.queue
    assert site.account
    assert site.worker_lifetime + site.stagger < site.walltime


def test_the_examples_are_those_asked_for() -> None:
    assert {path.stem for path in EXAMPLES} == {"slurm-conda", "slurm-modules", "pbs"}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("01:30:00", 5400), ("2-00:00:00", 172_800), ("10:30", 630), ("90 min", 5400), ("12h", 43_200), ("45", 45)],
)
def test_durations_are_written_as_batch_systems_and_people_write_them(tmp_path: Path, text: str, seconds: int) -> None:
    assert site_of(tmp_path, f"idle: '{text}'").idle == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("90", 90),
        ("90:30", 90.5),
        ("01:30:00", 90),
        ("1:30:00", 90),
        ("'90'", 90),
        ("2-12", 3600),
        ("2-12:30", 3630),
        ("2-12:30:30", 3630.5),
        ("90 min", 90),
        ("4h", 240),
    ],
)
def test_walltimes_are_those_of_sbatch_without_any_quotes(tmp_path: Path, text: str, minutes: float) -> None:
    """As sbatch(1) has them; YAML itself would take 01:30:00 for 5400, and 90:30 for 5430."""
    assert site_of(tmp_path, f"walltime: {text}").walltime == timedelta(minutes=minutes)


@pytest.mark.parametrize("text", ["1:2:3:4", "2-", "-5", "0", "true", "[1]", "99999999999-0"])
def test_what_is_no_walltime_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="walltime = "):
        site_of(tmp_path, f"walltime: {text}")


def test_workers_take_no_more_units_when_three_quarters_of_the_walltime_are_over(tmp_path: Path) -> None:
    site = site_of(tmp_path, "walltime: '02:00:00'")
    assert (site.worker_lifetime, site.stagger) == (timedelta(minutes=90), timedelta(minutes=6))


def test_a_value_that_yaml_reads_as_a_number_is_an_account(tmp_path: Path) -> None:
    assert site_of(tmp_path, "account: 465000") == Site(account="465000")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("- a\n- b\n", "has no keys; write key: value lines"),
        ("rank: 3\n", "has the unknown key rank; docs/hpc.md lists"),
        ("ranks: 0\n", "ranks = '0' is too small; give 1 or more"),
        ("walltime: tomorrow\n", "walltime = 'tomorrow' is not a duration; write one like 01:30:00, 90 min or 12 h"),
        ("memory: much\n", "memory = 'much' is not an amount of memory; write one like 4 GiB"),
        ("launcher: 'mpirun -n {n}'\n", "launcher = 'mpirun -n {n}' holds braces other than {ranks}"),
        ('queue: "a\\nb"\n', "queue = 'a b' is more than one line"),
        ("queue: [\n", "is not YAML"),
        ('prologue: "x"\n', "prologue = 'x' is not a list; give a list"),
    ],
)
def test_a_bad_site_file_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(InputError, match="^site = '.*': " + re.escape(sentence)):
        site_of(tmp_path, text)


def test_a_site_file_that_is_not_there_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist; give the path of a YAML file"):
        read_site(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("text", "field"), [("min_jobs: 3", "min_jobs"), ("{walltime: 60 min, lifetime: 58 min}", "lifetime")]
)
def test_keys_that_contradict_each_other_are_refused(tmp_path: Path, text: str, field: str) -> None:
    with pytest.raises(InputError, match=f"^{field} = "):
        site_of(tmp_path, text)


def test_every_key_is_documented_and_no_other() -> None:
    page = (ROOT / "docs" / "hpc.md").read_text(encoding="utf-8")
    table = page.partition("## The site file")[2].partition("## ")[0]
    rows = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert rows == list(Site.model_fields)
