from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.mpi.worker import _share, job_of, number_of


def test_workers_of_all_jobs_have_numbers_of_their_own_from_1() -> None:
    numbers = [number_of(f"job-{job}", rank, 4) for job, rank in itertools.product(range(5), range(4))]
    assert numbers == list(range(1, 21))
    assert number_of("", 2, 4) == 3


def test_the_name_of_a_worker_names_its_job() -> None:
    assert job_of("job-12-rank49") == "job-12"


@pytest.mark.parametrize("count", [2, 3, 10, 48, 200])
def test_lifetimes_are_spread_evenly(count: int) -> None:
    """Of ``count`` workers, no gap between lifetimes that follow one another is more than three times the mean."""
    shares = sorted(_share(number) for number in range(1, count + 1))
    assert shares[0] >= 0
    assert shares[-1] < 1
    gaps = [after - before for before, after in itertools.pairwise([0.0, *shares, 1.0])]
    assert min(gaps) > 0
    assert max(gaps) < 3 / count


def test_a_rank_too_many_is_told_what_to_correct(tmp_path: Path) -> None:
    words = ["-P", "-m", "deployments.mpi.worker", "tcp://127.0.0.1:9", "--name", "job-0", "--work-dir", str(tmp_path)]
    environment = os.environ | {"PMI_RANK": "3", "PMI_SIZE": "4"}
    done = subprocess.run(
        [sys.executable, *words, "--ranks", "3"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == (
        "rank 3: the launcher started more than the 3 ranks of the site file; use {ranks} in its launcher\n"
    )


def test_a_job_whose_run_has_ended_ends_with_a_sentence(tmp_path: Path) -> None:
    """Nothing listens on that port; and the keys are gone with the run."""
    words = [sys.executable, "-P", "-m", "deployments.mpi.worker"]
    options = ["--name", "job-0", "--work-dir", str(tmp_path), "--ranks", "1", "--death-timeout", "120"]
    keys = ["--tls-ca-file", str(tmp_path / "keys.pem"), "--tls-cert", str(tmp_path / "keys.pem"), "--tls-key", "k"]
    for address, more, sentence in (
        ("tcp://127.0.0.1:9", [], "the scheduler of the run does not answer at tcp://127.0.0.1:9 (Connection refused)"),
        ("tls://127.0.0.1:9", keys, f"{tmp_path}/keys.pem is not there: the run that submitted this job has ended"),
    ):
        done = subprocess.run(
            [*words, address, *options, *more], capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 1
        assert done.stderr.startswith(f"rank 0: {sentence}")
        assert done.stderr.count("\n") == 1
