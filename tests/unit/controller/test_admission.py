"""Whether a task may have its pod: plugins, Secrets, models, inputs, devices, each with its reason."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from tests.fakes.seen import spec

from agenttask.api.reasons import Reason
from agenttask.api.task import AgentTaskSpec
from agenttask.controller.acceptance import PluginNames, names_of, refusal
from agenttask.controller.admission import Gate, SeenModel, missing, models_used
from agenttask.controller.installation import ExtraPlugins, Images, Installation
from agenttask.controller.surroundings import read_model
from agenttask.domain.device import Choice, DeviceClass, DeviceRequest, Stock
from agenttask.domain.observation import Admission, Admitted, Refused, Waits
from agenttask.plugin.registry import load

GPU, CPU = DeviceClass(name="gpu", kind="cuda"), DeviceClass(name="cpu")
INSTALLATION = Installation(device_classes=(GPU, CPU), images=Images(runner="r:1", runner_torch="t:1"), secret_globs=("agent-*",))
NAMES = PluginNames(
    step_kinds=frozenset({"read", "exec", "chat", "embed", "retrieve", "write", "fetch", "git"}),
    threading=frozenset({"async"}),
    llm_clients=frozenset({"openai", "local"}),
    model_factories=frozenset({"optimized"}),
    device_strategies=frozenset({"auto"}),
)
PLAIN = {"client": "openai", "endpoint": "https://models.example/v1", "model": "m"}
KEYED = {**PLAIN, "credentials": {"secretKeyRef": {"name": "agent-key", "key": "k"}}}


class First:
    """Takes the first wish that has stock."""

    def rank(self, request: DeviceRequest, inventory: Sequence[Stock]) -> Sequence[Choice]:
        free = {one.class_.name: one.free for one in inventory}
        return [Choice(class_=name, usable=free[name] != 0, verdict=f"{free[name]} free") for name in request.classes]


def admit(
    wanted: AgentTaskSpec,
    models: dict[str, Any] | None = None,
    *,
    there: tuple[tuple[str, ...], ...] = (),
    gpus: int = 0,
    installation: Installation = INSTALLATION,
) -> Admission:
    gate = Gate(installation, NAMES, {"auto": First()})
    seen = {name: read_model(model) for name, model in (models or {}).items()}
    stopped = gate.ready("agents", wanted, models=seen, exists=there.__contains__)
    if stopped is not None:
        return stopped
    found = gate.place(gate.wish(wanted, seen, {}), [Stock(class_=GPU, free=gpus, total=gpus), Stock(class_=CPU)])
    never = gate.check_there(wanted, found.device.class_, seen) if isinstance(found, Admitted) else None
    return never or found


def chat(**fields: Any) -> AgentTaskSpec:
    return spec(steps=[{"name": "ask", "chat": {"model": "small", "prompt": "x"}}], **fields)


def run(secret: str, **fields: Any) -> AgentTaskSpec:
    env = [{"name": "TOKEN", "secretKeyRef": {"name": secret, "key": "t"}}]
    return spec(steps=[{"name": "run", "exec": {"command": ["a"], "env": env}}], **fields)


# ---- in this installation at all


@pytest.mark.parametrize(
    ("wanted", "reason", "words"),
    [
        (spec(device={"strategy": "atuo"}), Reason.UNKNOWN_PLUGIN, "spec.device.strategy: no device strategy is called 'atuo'"),
        (spec(execution={"threading": "fibers"}), Reason.UNKNOWN_PLUGIN, "installed: async"),
        (spec(steps=[{"name": "a", "plugin": {"kind": "shuffle"}}]), Reason.UNKNOWN_PLUGIN, "no step kind is called 'shuffle'"),
        (
            spec(execution={"maxConcurrentByKind": {"exce": 1}}),
            Reason.INVALID_TASK,
            "spec.execution.maxConcurrentByKind: no step kind is called 'exce'",
        ),
        (
            spec(steps=[{"name": "get", "fetch": {"url": "https://api.example.com"}}]),
            Reason.INVALID_TASK,
            "spec.steps[0].fetch: the installation allows no host to be reached; have it added to allowedHosts",
        ),
        (
            spec(steps=[{"name": "get", "git": {"clone": {"url": "https://git.example.com/a", "path": "a"}}}]),
            Reason.INVALID_TASK,
            "spec.steps[0].git.clone: the installation allows no host",
        ),
        (spec(output="{{ steps.four.text }}"), Reason.INVALID_TEMPLATE, "spec.output"),
        (run("payments"), Reason.INVALID_TASK, "spec.steps[0].exec.env[0].secretKeyRef: tasks may not name the Secret 'payments'"),
    ],
    ids=["strategy", "threading", "kind", "limit of a kind", "fetch", "clone", "template", "secret"],
)
def test_what_can_never_run_is_refused_with_its_field(wanted: AgentTaskSpec, reason: Reason, words: str) -> None:
    found = refusal(wanted, INSTALLATION, NAMES)

    assert found is not None
    assert (found.reason, found.accepted) == (reason, False)
    assert words in found.message


def test_what_can_run_is_not_refused() -> None:
    assert refusal(run("agent-token"), INSTALLATION, NAMES) is None
    assert refusal(spec(execution={"maxConcurrentByKind": {"exec": 1}}), INSTALLATION, NAMES) is None
    assert refusal(spec(steps=[{"name": "d", "git": {"diff": {"path": "a"}}}]), INSTALLATION, NAMES) is None
    reaching = msgspec.structs.replace(INSTALLATION, allowed_hosts=("*.example.com",))
    assert refusal(spec(steps=[{"name": "get", "fetch": {"url": "https://api.example.com"}}]), reaching, NAMES) is None


def test_by_default_no_secret_may_be_named() -> None:
    found = refusal(run("agent-token"), Installation(), NAMES)

    assert found is not None
    assert "allows: none" in found.message


def test_plugins_of_the_runner_alone_pass_by_name() -> None:
    names = names_of(
        load(found=()), ExtraPlugins(step_kinds=("shuffle",), llm_clients=("odd",), threading=("fibers",), model_factories=("gguf",))
    )

    assert names == PluginNames(
        step_kinds=frozenset({"shuffle"}),
        threading=frozenset({"fibers"}),
        llm_clients=frozenset({"odd"}),
        model_factories=frozenset({"gguf"}),
        device_strategies=frozenset(),
    )


# ---- now


def test_a_model_that_is_not_there_is_waited_for_by_its_key() -> None:
    found = admit(chat(), {"smal": PLAIN})

    assert found == Waits(
        reason=Reason.UNKNOWN_MODEL,
        message="no AgentModel 'small'; namespace agents has: smal; did you mean 'smal'?",
        missing=(("model", "agents", "small"),),
    )


def test_a_model_that_cannot_be_read_is_waited_for() -> None:
    found = admit(chat(), {"small": {**PLAIN, "limit": {}}})

    assert isinstance(found, Waits)
    assert "cannot be read" in found.message
    assert "limit" in found.message


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({**PLAIN, "client": "opnai"}, "AgentModel small: spec.client: no LLM client is called 'opnai'"),
        ({"client": "local", "model": "m", "local": {"package": "p", "factory": "fast"}}, "no model factory is called 'fast'"),
    ],
    ids=["client", "factory"],
)
def test_a_model_of_an_unknown_plugin_is_refused(model: dict[str, Any], words: str) -> None:
    found = admit(chat(), {"small": model})

    assert isinstance(found, Refused)
    assert found.reason is Reason.UNKNOWN_PLUGIN
    assert words in found.message


def test_a_fallback_that_is_not_there_is_waited_for_like_any_other() -> None:
    found = admit(chat(), {"small": {**PLAIN, "fallback": ["big"]}})

    assert found == Waits(
        reason=Reason.UNKNOWN_MODEL,
        message="no AgentModel 'big', a fallback of 'small'; namespace agents has: small",
        missing=(("model", "agents", "big"),),
    )
    assert isinstance(admit(chat(), {"small": {**PLAIN, "fallback": ["big"]}, "big": PLAIN}), Admitted)


def test_a_fallback_of_a_fallback_is_not_followed() -> None:
    models = {"small": {**PLAIN, "fallback": ["big"]}, "big": {**PLAIN, "fallback": ["nowhere"]}}

    assert isinstance(admit(chat(), models), Admitted)
    assert list(models_used(chat(), {name: read_model(model) for name, model in models.items()})) == ["small", "big"]


def test_a_fallback_is_held_to_the_rules_of_the_named() -> None:
    unknown = admit(chat(), {"small": {**PLAIN, "fallback": ["big"]}, "big": {**PLAIN, "client": "opnai"}})
    foreign = admit(chat(pod={"image": "stranger:1"}), {"small": {**PLAIN, "fallback": ["big"]}, "big": KEYED})

    assert isinstance(unknown, Refused)
    assert unknown.message.startswith("AgentModel big: spec.client: no LLM client is called 'opnai'")
    assert isinstance(foreign, Refused)
    assert "may not get the credential of AgentModel 'big'" in foreign.message


def test_weights_of_a_hub_are_the_admins_to_allow() -> None:
    hub = {"client": "local", "model": "m", "local": {"hub": {"repository": "org/m"}}}

    found = admit(chat(), {"small": hub})

    assert isinstance(found, Refused)
    assert found.reason is Reason.INVALID_TASK
    assert found.message.startswith("AgentModel small: spec.local.hub: pods of this installation download no weights; use package, path or")
    assert found.message.endswith("or have hubDownloads set")
    allowing = msgspec.structs.replace(INSTALLATION, hub_downloads=True)
    assert isinstance(admit(chat(), {"small": hub}, installation=allowing), Admitted)


@pytest.mark.parametrize(
    ("model", "field", "what", "key"),
    [
        pytest.param(
            {**PLAIN, "caBundle": {"configMapKeyRef": {"name": "ca", "key": "ca.crt"}}},
            "spec.caBundle",
            "ConfigMap 'ca'",
            ("configmap", "agents", "ca"),
            id="certificates",
        ),
        pytest.param(
            {"client": "local", "model": "m", "local": {"persistentVolumeClaim": {"claimName": "weights"}}},
            "spec.local.persistentVolumeClaim",
            "PersistentVolumeClaim 'weights'",
            ("claim", "agents", "weights"),
            id="weights",
        ),
    ],
)
@pytest.mark.parametrize("fallback", [False, True], ids=["named", "fallback"])
def test_what_a_model_mounts_is_waited_for_like_an_input(
    model: dict[str, Any], field: str, what: str, key: tuple[str, ...], *, fallback: bool
) -> None:
    name, models = ("big", {"small": {**PLAIN, "fallback": ["big"]}, "big": model}) if fallback else ("small", {"small": model})

    assert admit(chat(), models) == Waits(
        reason=Reason.MISSING_INPUT, message=f"AgentModel {name}: {field}: namespace agents has no {what} yet", missing=(key,)
    )
    assert isinstance(admit(chat(), models, there=(key,)), Admitted)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"client": "local", "model": "m", "local": {"persistentVolumeClaim": {"claimName": "c", "path": "../x"}}}, "leaves the claim"),
        ({**PLAIN, "fallback": ["small"]}, "AgentModel small: spec.fallback: 'small' cannot be its own fallback"),
    ],
    ids=["claim", "fallback"],
)
def test_a_model_that_an_older_crd_let_pass_is_refused(model: dict[str, Any], words: str) -> None:
    found = admit(chat(), {"small": model})

    assert isinstance(found, Refused)
    assert found.reason is Reason.INVALID_TASK
    assert words in found.message


def test_a_third_partys_step_names_its_model_in_with() -> None:
    steps = [{"name": "a", "plugin": {"kind": "rank", "with": {"model": "small"}}}]
    chosen = [{"name": "a", "plugin": {"kind": "rank", "with": {"model": "{{ params.model }}"}}}]

    assert isinstance(admit(spec(steps=steps)), Waits)
    assert isinstance(admit(spec(steps=chosen, params={"model": "small"})), Admitted)


@pytest.mark.parametrize("model", [KEYED, {**KEYED, "newer": True}], ids=["readable", "unreadable"])
def test_the_credential_of_a_model_is_no_tasks_to_name(model: dict[str, Any]) -> None:
    found = admit(run("agent-key"), {"other": model})

    assert isinstance(found, Refused)
    assert found.reason is Reason.INVALID_TASK
    assert "'agent-key' holds the credential of AgentModel 'other'" in found.message
    assert isinstance(admit(run("agent-token"), {"other": model}), Admitted)


@pytest.mark.parametrize("broken", [7, {"credentials": "x"}, {"client": "openai"}])
def test_nonsense_for_a_model_is_a_problem_and_no_crash(broken: object) -> None:
    assert read_model(broken) == SeenModel(spec=None, problem=read_model(broken).problem)
    assert read_model(broken).problem


def test_credentials_go_into_known_images_only() -> None:
    found = admit(chat(pod={"image": "stranger:1"}), {"small": KEYED})

    assert isinstance(found, Refused)
    assert found.message.startswith("spec.pod.image: image 'stranger:1' may not get the credential of AgentModel 'small'")
    assert isinstance(admit(chat(), {"small": KEYED}), Admitted)
    assert isinstance(admit(chat(pod={"image": "stranger:1"}), {"small": PLAIN}), Admitted)


def test_the_admin_may_list_images_for_credentials() -> None:
    listed = msgspec.structs.replace(INSTALLATION, credential_images=("registry.example/agents/*",))

    assert listed.may_hold_credentials("registry.example/agents/mine:3")
    assert not listed.may_hold_credentials("r:1")
    assert INSTALLATION.may_hold_credentials("t:1")


def test_inputs_are_waited_for_in_their_order() -> None:
    inputs = [{"name": "a", "configMap": {"name": "repo"}}, {"name": "b", "persistentVolumeClaim": {"claimName": "disk"}}]
    repo, disk = ("configmap", "agents", "repo"), ("claim", "agents", "disk")

    first, second = admit(spec(inputs=inputs)), admit(spec(inputs=inputs), there=(repo,))

    assert isinstance(first, Waits)
    assert (first.reason, first.missing, first.message) == (
        Reason.MISSING_INPUT,
        (repo,),
        "spec.inputs[0]: namespace agents has no ConfigMap 'repo' yet",
    )
    assert isinstance(second, Waits)
    assert (second.missing, "PersistentVolumeClaim 'disk'" in second.message) == ((disk,), True)
    assert isinstance(admit(spec(inputs=inputs), there=(repo, disk)), Admitted)


def test_an_input_without_a_source_misses_nothing() -> None:
    assert missing("agents", spec(inputs=[{"name": "a"}]), {}, lambda _: False) is None


def test_devices_are_chosen_in_the_order_of_wish() -> None:
    wish = spec(device={"classes": ["gpu", "cpu"]})

    with_gpu, without = admit(wish, gpus=1), admit(wish)

    assert isinstance(with_gpu, Admitted)
    assert with_gpu.device.class_ == "gpu"
    assert isinstance(without, Admitted)
    assert (without.device.class_, without.device.reason) == ("cpu", "gpu: 0 free; cpu: None free")
    assert isinstance(admit(spec()), Admitted)


def test_a_device_that_is_taken_or_undefined_is_waited_for() -> None:
    taken, undefined = admit(spec(device={"classes": ["gpu"]})), admit(spec(device={"classes": ["tpu"]}))

    assert isinstance(taken, Waits)
    assert (taken.reason, taken.message) == (Reason.WAITING_FOR_DEVICE, "gpu: 0 free")
    assert isinstance(undefined, Waits)
    assert undefined.reason is Reason.UNKNOWN_CLASS
