"""The service as users start it, in a folder with a home and a port of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import psutil
from support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
#: Seconds that anything may take: generous, because nothing here is about speed.
PATIENCE = 600.0


class Service:
    """A running service; ``api`` speaks to its REST API."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.api = httpx.Client(base_url=f"{self.url}/api", timeout=60)
        inherited = {
            key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "S2SR_", "CDSE_"))
        }
        self.environment = {
            **inherited,
            "PREFECT_HOME": str(folder / "service" / "prefect"),
            "PREFECT_API_URL": f"{self.url}/api",
            "XDG_CACHE_HOME": str(folder / "cache"),
        }
        self._words = [sys.executable, "-P", "-m", "deployments.serve", "--port", str(port), *options]
        self._process: subprocess.Popen[str] | None = None

    @property
    def output(self) -> Path:
        return self.folder / "serve.txt"

    def start(self, **environment: str) -> None:
        with self.output.open("a") as file:
            self._process = subprocess.Popen(
                self._words,
                cwd=self.folder,
                env=self.environment | environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                text=True,
            )
        until(lambda: f"{self.url}  is where the runs are" in self.output.read_text() or self._ended(), PATIENCE)

    def _ended(self) -> bool:
        assert self._process is not None
        if self._process.poll() is None:
            return False
        logs = "".join(path.read_text()[-4000:] for path in (self.folder / "service").glob("logs/*.log"))
        raise AssertionError(self.output.read_text() + logs)

    def answers(self) -> bool:
        """Whether the server answers now."""
        try:
            return self.api.get("/health").is_success
        except httpx.TransportError:
            return False

    def family(self) -> list[psutil.Process]:
        assert self._process is not None
        return psutil.Process(self._process.pid).children(recursive=True)

    def member(self, pid: int) -> psutil.Process:
        """A process that this service started, and no other."""
        (found,) = (process for process in self.family() if process.pid == pid)
        return found

    def stop(self) -> int:
        """Ctrl-C; returns the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(timeout=PATIENCE)

    def prefect(self, *words: str, check: bool = True, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Prefect's command line, as its user has it."""
        done = subprocess.run(
            [sys.executable, "-P", "-m", "prefect", "--no-prompt", *words],
            cwd=cwd or self.folder,
            env=self.environment | {"COLUMNS": "400"},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        assert done.returncode == 0 or not check, done.stdout + done.stderr
        return done

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The answer; a server whose SQLite is locked says 503, and clients are to ask again."""

        def answered() -> httpx.Response | None:
            answer = self.api.post(path, json=body)
            return None if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE else answer

        answer = until(answered, what="an answer of a server that is not busy")
        assert answer is not None
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def get(self, path: str) -> Any:
        answer = self.api.get(path)
        answer.raise_for_status()
        return answer.json()

    def deployment(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"/deployments/name/{name}")
        return found

    def trigger(self, name: str, **parameters: Any) -> str:
        """Start a run over the REST API; returns its id."""
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        return str(self.post(f"/deployments/{self.deployment(name)['id']}/create_flow_run", body)["id"])

    def flow_run(self, flow_run_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"/flow_runs/{flow_run_id}")
        return found

    def ended(self, flow_run_id: str) -> dict[str, Any]:
        """The state in which a run ended."""
        final = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
        until(lambda: self.flow_run(flow_run_id)["state_type"] in final, PATIENCE)
        state: dict[str, Any] = self.flow_run(flow_run_id)["state"]
        return state

    def task_runs(self, flow_run_id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.post(
            "/task_runs/filter", {"flow_runs": {"id": {"any_": [flow_run_id]}}, "limit": 200}
        )
        return found

    def artifacts(self, flow_run_id: str) -> dict[str, dict[str, Any]]:
        """The artifacts of a run, by key without the work folder that it ends with."""
        found = self.post("/artifacts/filter", {"flow_runs": {"id": {"any_": [flow_run_id]}}})
        work_dir = Path(self.flow_run(flow_run_id)["parameters"].get("work_dir", "none"))
        ending = f"-{work_dir.parent.name}-{work_dir.name}"
        artifacts = {artifact["key"].removesuffix(ending): artifact for artifact in found}
        assert len(artifacts) == len(found)
        return artifacts
