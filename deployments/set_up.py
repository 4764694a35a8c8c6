"""What a Prefect server needs before deployments: ``python -m deployments.set_up``; ``make serve`` does it by itself.

Makes the work pool, the concurrency limit of the CDSE account, the automation that starts a crashed run once more and,
if there is a URL for notifications, the one that reports failures, on the server of ``PREFECT_API_URL``. It may run
again at any time.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import httpx
from prefect.automations import AutomationCore, EventTrigger, Posture, ResourceSpecification
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentUpdate, GlobalConcurrencyLimitCreate, WorkPoolCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, SendNotification
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.settings import PREFECT_API_URL
from prefect.states import AwaitingRetry
from prefect.workers.process import ProcessWorker

from deployments.server.limits import DOWNLOAD_SLOTS, DOWNLOADS
from deployments.server.orphans import end_all_flow_runs, end_task_runs_of_crashed_runs
from s2sr_core.import_path import environment_of_child

#: The work pool of every deployment in prefect.yaml.
WORK_POOL = "s2sr"
#: Runs that the work pool starts at the same time; others wait. A campaign and each of its blocks count.
RUNS_AT_ONCE = 10
#: Where failures are reported: any URL that takes a POST of JSON with a ``text`` (Slack, Mattermost and others do).
NOTIFY_URL = "S2SR_NOTIFY_URL"
#: The tag of all deployments in prefect.yaml.
TAG = "s2sr"
#: Deployments that one request asks for.
_PAGE = 200
_NOTIFICATION, _SECOND_TRY = "s2sr: tell of failures", "s2sr: run once more after a crash"
#: How a worker's report that the process of a run died begins, and how long after it the run is scheduled again: the
#: worker reports the same once more when it has cleaned up, which would end the second try.
_DIED, _CLEANED_UP = "Process exited with status code*", timedelta(seconds=60)
#: Events that are reported. A run is late if no worker takes it up.
_TOLD = {
    "prefect.flow-run.Failed",
    "prefect.flow-run.Crashed",
    "prefect.flow-run.Completed with*",
    "prefect.flow-run.Late",
}
_BLOCK = "s2sr-failures"
_OURS = ResourceSpecification({"prefect.resource.id": f"prefect.tag.{TAG}", "prefect.resource.role": "tag"})


def set_up(client: SyncPrefectClient, notify_url: str | None = None) -> list[str]:
    """Make what is missing; a limit that somebody changed is kept. Returns a line for each thing."""
    template = ProcessWorker.get_default_base_job_template()
    pool = WorkPoolCreate(
        name=WORK_POOL, type=ProcessWorker.type, base_job_template=template, concurrency_limit=RUNS_AT_ONCE
    )
    with contextlib.suppress(ObjectAlreadyExists):
        client.create_work_pool(pool)
    try:  # to create one that exists would leave a traceback in the log of the server
        client.read_global_concurrency_limit_by_name(DOWNLOADS)
    except ObjectNotFound:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=DOWNLOADS, limit=DOWNLOAD_SLOTS))
    run_again_after_crashes(client)
    done = [f"work pool {WORK_POOL}", f"concurrency limit {DOWNLOADS}", f"automation {_SECOND_TRY!r}"]
    if notify_url:
        notify_of_failures(client, notify_url)
        done.append(f"automation {_NOTIFICATION!r}")
    return done


def deploy(client: SyncPrefectClient) -> list[str]:
    """Deploy what ``prefect.yaml`` in the current folder lists, with schemas that make good forms."""
    words = [sys.executable, "-P", "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(words, env=environment_of_child(), check=False, capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        raise RuntimeError(f"{' '.join(words[3:])} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    chosen = DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG]))
    deployments = client.read_deployments(deployment_filter=chosen, limit=_PAGE)
    for deployment in deployments:
        schema = schema_of_form(deployment.parameter_openapi_schema or {})
        client.update_deployment(deployment.id, DeploymentUpdate(parameter_openapi_schema=schema))
    return [f"deployment {deployment.name}" for deployment in deployments]


def schema_of_form(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema that Prefect made, without its faults.

    It lets unknown parameters pass, and the run would crash before the flow can say what is wrong. Of ``scl_dilation``,
    which is ``9=100 3=60`` or a mapping, the form would show an editor of JSON, because the default is a mapping: as
    an empty text it has a line.
    """
    fields = {
        name: field | {"default": ""} if field.get("default") == {} else field
        for name, field in schema.get("properties", {}).items()
    }
    return {**schema, "properties": fields, "additionalProperties": False}


def notify_of_failures(client: SyncPrefectClient, url: str) -> None:
    """An automation that posts a line to ``url`` when a flow run of this project fails, crashes or is late.

    Runs that completed with failures are reported too.
    """
    block = CustomWebhookNotificationBlock(
        name=_BLOCK, url=url, json_data={"text": "{{subject}}: {{body}}"}, allow_private_urls=True
    )
    block_id = block.save(_BLOCK, overwrite=True)
    _automate(
        client,
        name=_NOTIFICATION,
        description="A flow run of S2SR failed, crashed, completed with failures, or is late.",
        trigger=EventTrigger(
            expect=_TOLD,
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=_OURS,
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[
            SendNotification(
                block_document_id=block_id,
                subject="{{ flow.name }} {{ flow_run.name }}: {{ flow_run.state.name }}",
                body="{{ flow_run.state.message }} {{ flow_run|ui_url }}",
            )
        ],
    )


def run_again_after_crashes(client: SyncPrefectClient) -> None:
    """An automation that schedules a flow run of this project again whose process died, in its first run only.

    It waits for nothing else than time after the worker's report. A run that the next one in its folder brings to
    Crashed is not run again.
    """
    _automate(
        client,
        name=_SECOND_TRY,
        description="The process of a flow run of S2SR died in its first run.",
        trigger=EventTrigger(
            after={"prefect.flow-run.Crashed"},
            expect={"prefect.flow-run.AwaitingRetry"},
            match=ResourceSpecification(
                {
                    "prefect.resource.id": "prefect.flow-run.*",
                    "prefect.run-count": "1",
                    "prefect.state-message": _DIED,
                }
            ),
            match_related=_OURS,
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=_CLEANED_UP,
        ),
        actions=[
            ChangeFlowRunState(
                name=AwaitingRetry().name,
                state=StateType.SCHEDULED,
                message="its process died; it is run once more",
                force=True,
            )
        ],
    )


def _automate(client: SyncPrefectClient, *, name: str, **fields: Any) -> None:
    """Make an automation in place of those of this name."""
    for old in client.read_automations_by_name(name):
        client.delete_automation(old.id)
    client.create_automation(AutomationCore(name=name, **fields))


def main(arguments: Sequence[str] | None = None) -> int:
    """Set up the server of ``PREFECT_API_URL``; returns the exit code, 2 if there is none."""
    parser = argparse.ArgumentParser(prog="python -m deployments.set_up", description=__doc__)
    parser.add_argument(
        "--alone",
        action="store_true",
        help="no worker of this server runs now: end every flow run that seems to run",
    )
    parser.add_argument(
        "--end-task-runs", action="store_true", help="end the task runs of runs that crashed, and do nothing else"
    )
    parser.add_argument("--deploy", action="store_true", help="also make the deployments of ./prefect.yaml")
    given = parser.parse_args(arguments)
    url = PREFECT_API_URL.value()
    if not url:
        print(
            "PREFECT_API_URL = '': is not set; export the URL of the server, such as http://127.0.0.1:4200/api.",
            file=sys.stderr,
        )
        return 2
    try:
        if given.end_task_runs:
            print(f"task runs ended: {end_task_runs_of_crashed_runs()}")
            return 0
        with get_client(sync_client=True) as client:
            for line in set_up(client, os.environ.get(NOTIFY_URL)):
                print(line)
            if given.alone and (count := end_all_flow_runs(client)):
                print(f"orphaned runs ended: {count}")
            if given.deploy:
                print("\n".join(deploy(client)))
    except httpx.TransportError as error:
        print(f"PREFECT_API_URL = '{url}': does not answer ({error}); start the server first.", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
