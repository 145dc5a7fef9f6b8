"""A namespace whose quota takes no further AgentTaskRecord: real runs in fake pods, before a real API server that counts."""

from pathlib import Path
from typing import Any

import msgspec

from agenttask.api.constants import ANNOTATION_DOCUMENT, ENV_GATEWAY_TOKEN
from agenttask.api.document import decode
from agenttask.plugin.step import StepContext, StepOutput
from agenttask.runner.gateway.link import GatewayAccess
from agenttask.runner.observer import NullObserver
from agenttask.runner.places import places
from agenttask.runner.run import Station, TaskRun
from agenttask.runner.settings import RunnerSettings
from agenttask.runner.termination import TerminationFile
from tests.fakes.kubelet import FakePod
from tests.fakes.runner_plugins import FunctionKind, plugins
from tests.faults.arena import Arena, Open, Script
from tests.faults.checker import End
from tests.faults.eventually import eventually
from tests.faults.paths import path
from tests.faults.test_gateway import flags, stored

COUNTED = "count/agenttaskrecords.agenttask.dev"
SAID = f"exceeded quota: records, requested: {COUNTED}=1, used: {COUNTED}=0, limited: {COUNTED}=0"
REMEDY = "raise it, or delete finished tasks (ttlSecondsAfterFinished does): their records go with them"
TOLD = f"the namespace has no room for the task's AgentTaskRecord: {SAID}; {REMEDY}"
SHORT, LONG = "x" * 100, "x" * 50_000
SUCCEEDED_WITH_SHORT = End(phase="Succeeded", reason="Succeeded", output=SHORT, pods=1)


def running(folder: Path, text: str, *, quota_seconds: float) -> Script:
    """Pods whose runner is ours: its one step says `text`, and a quota of records is waited for so long."""

    async def say(_: dict[str, Any], __: StepContext) -> StepOutput:
        return StepOutput(text=text)

    async def script(pod: FakePod) -> None:
        await pod.start()
        here = folder / pod.name
        (here / "workspace").mkdir(parents=True)
        document = decode(pod.body["metadata"]["annotations"][ANNOTATION_DOCUMENT].encode())
        variables = {one["name"]: one.get("value") for one in pod.body["spec"]["containers"][0]["env"]}
        assert document.gateway is not None
        token = variables[ENV_GATEWAY_TOKEN]
        access = GatewayAccess.of(document.gateway, token, attempt=document.attempt, grace_seconds=30, log=lambda *_: None)
        station = Station(
            plugins=plugins(kinds={"exec": FunctionKind(say)}),
            settings=RunnerSettings(),
            places=places(here / "workspace", {}),
            scratch=here,
            credentials={},
            observer=NullObserver(),
            channel=TerminationFile(here / "termination"),
            gateway=msgspec.structs.replace(access, quota_seconds=quota_seconds),
            log=lambda *_: None,
        )
        async with TaskRun(document, station) as run:
            outcome = await run.execute()
        await pod.end((here / "termination").read_text(), 0 if outcome.error is None else 1)

    return script


async def limited(here: Arena) -> None:
    """No record, from the moment that the API server counts them."""
    quota = {"metadata": {"name": "records"}, "spec": {"hard": {COUNTED: "0"}}}
    await here.api.create(path("resourcequotas", here.namespace), quota)
    record = {"apiVersion": "agenttask.dev/v1alpha1", "kind": "AgentTaskRecord", "metadata": {"name": "probe"}}
    body = record | {"task": "probe", "taskUID": "probe", "attempt": 1}
    where = path("agenttaskrecords", here.namespace)
    await eventually(lambda: here.refuses(where, body, SAID), what="the quota")


async def test_an_output_waits_for_a_quota_of_records_then_fails_once(run: Open, tmp_path: Path) -> None:
    """The pod waits, and status says for what; a quota that is raised is found, one that is not ends the task. Small ones go by."""
    retry = {"backoff": {"initialSeconds": 1, "maxSeconds": 1}}
    async with flags(tmp_path / "secret") as settings, run(*settings) as (here, _, _):
        await limited(here)
        tasks = {"fits": (SHORT, 60.0), "needs": (LONG, 12.0), "waits": (LONG, 600.0)}
        for name, (text, seconds) in tasks.items():
            script = running(tmp_path / "runs", text, quota_seconds=seconds)
            await here.create(name, script, retry=retry, output="{{ steps.say.text }}")
        await here.recorder.until(lambda: here.recorder.status("waits").get("reason") == "RecordQuotaExceeded")
        told = here.recorder.status("waits")
        assert (told["phase"], told["message"], told["steps"][0]["phase"], told["progress"]) == ("Running", TOLD, "Succeeded", "1/1")
        await here.recorder.until(lambda: here.recorder.status("needs").get("phase") == "Failed")
        assert here.recorder.status("needs")["message"] == (
            "the output has 50000 bytes, more than the pod's own report holds, and was not taken within 12 s: "
            f"{TOLD}; or let `output` name a shorter text, or write it to a volume"
        )
        await here.api.patch(path("resourcequotas", here.namespace, "records"), {"spec": {"hard": {COUNTED: "1"}}})
        refused = End(phase="Failed", reason="OutputRejected", pods=1)
        await here.judge({"fits": SUCCEEDED_WITH_SHORT, "needs": refused, "waits": End(phase="Succeeded", reason="Succeeded", pods=1)})
        assert await stored(here) == {"waits": LONG}
