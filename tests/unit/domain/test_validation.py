"""Everything that can be said of a task without a cluster, each problem with the path of its field."""

import msgspec
import pytest

from agenttask.api.errors import InvalidTask, InvalidTemplate, UnknownPlugin
from agenttask.api.steps import STEP_KINDS
from agenttask.api.task import AgentTaskSpec
from agenttask.domain.validation import validate

KINDS = (*(kind for kind in STEP_KINDS if kind != "plugin"), "word-count")
READ = {"read": {"paths": ["/inputs/repo/a.md"]}}


def spec(*steps: dict[str, object], **fields: object) -> AgentTaskSpec:
    named = [{"name": f"s{index}", **step} for index, step in enumerate(steps)] or [{"name": "s0", **READ}]
    return msgspec.convert({"steps": named, **fields}, AgentTaskSpec)


def refused(task: AgentTaskSpec) -> tuple[str, str]:
    with pytest.raises(InvalidTask) as caught:
        validate(task, step_kinds=KINDS)
    return caught.value.field, caught.value.problem


def test_a_task_with_every_kind_is_accepted():
    task = spec(
        {"name": "docs", "read": {"paths": ["/inputs/repo/{{ params.file }}"]}},
        {"name": "ideas", "needs": [], "chat": {"model": "small", "prompt": "List three."}},
        {"name": "passages", "needs": ["docs"], "embed": {"model": "mini", "texts": ["{{ steps.docs.text }}"]}},
        {"name": "found", "retrieve": {"from": "passages", "query": "{{ params.file }}"}},
        {"name": "write-it", "needs": ["found", "ideas"], "write": {"path": "a.md", "content": "{{ steps.ideas.text ~ steps.docs.text }}"}},
        {"name": "run", "exec": {"command": ["cat", "{{ steps['write-it'].text }}"], "env": [{"name": "A", "value": "{{ attempt }}"}]}},
        {"name": "count", "plugin": {"kind": "word-count", "with": {"text": "{{ steps.run.text }}", "n": 1}}},
        params={"file": "README.md"},
        output="{{ steps.count.text }} {{ steps.ideas.text }}",
        inputs=[{"name": "repo", "configMap": {"name": "repo"}}, {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        device={"classes": ["gpu", "cpu"]},
        pod={"env": [{"name": "MAX_WORKERS", "value": "4"}]},
    )
    assert validate(task, step_kinds=KINDS).names[-1] == "count"


@pytest.mark.parametrize(
    ("task", "field", "said"),
    [
        pytest.param(
            spec({}),
            "spec.steps[0]",
            "exactly one of read, write, exec, chat, embed, retrieve, fetch, git, plugin is needed, none",
            id="no kind",
        ),
        pytest.param(
            spec(READ, READ | {"write": {"path": "a", "content": ""}}), "spec.steps[1]", "read and write is given", id="two kinds"
        ),
        pytest.param(spec(READ | {"needs": ["x"]}), "spec.steps[0].needs[0]", "no step is called 'x'", id="graph"),
        pytest.param(
            spec({"embed": {"model": "m"}}), "spec.steps[0].embed", "there is nothing to embed; give `texts` or `paths`", id="embed"
        ),
        pytest.param(
            spec(READ, {"retrieve": {"from": "s9", "query": "q"}}),
            "spec.steps[1].retrieve.from",
            "no step is called 's9'; `embed` steps: none",
            id="retrieve from nothing",
        ),
        pytest.param(
            spec(READ, {"retrieve": {"from": "s0", "query": "q"}}),
            "spec.steps[1].retrieve.from",
            "step 's0' is of kind 'read'",
            id="retrieve from read",
        ),
        pytest.param(
            spec({"embed": {"model": "m", "paths": ["x"]}}, {"needs": [], "retrieve": {"from": "s0", "query": "q"}}),
            "spec.steps[1].retrieve.from",
            "step 's0' may not have ended by then; add it to needs",
            id="retrieve beside",
        ),
        pytest.param(
            spec({"plugin": {"kind": "exec", "with": {}}}),
            "spec.steps[0].plugin.kind",
            "'exec' is built in; write `exec:` in place of `plugin:`",
            id="built-in through plugin",
        ),
        pytest.param(spec(inputs=[{"name": "a"}]), "spec.inputs[0]", "needed, none is given", id="input without source"),
        pytest.param(
            spec(inputs=[{"name": "a", "configMap": {"name": "a"}, "persistentVolumeClaim": {"claimName": "a"}}]),
            "spec.inputs[0]",
            "needed, both are given",
            id="input with two",
        ),
        pytest.param(
            spec(inputs=[{"name": "a", "configMap": {"name": "a"}}, {"name": "a", "configMap": {"name": "b"}}]),
            "spec.inputs[1].name",
            "'a' is the name of spec.inputs[0] too",
            id="input twice",
        ),
        pytest.param(spec(device={"classes": ["gpu", "gpu"]}), "spec.device.classes[1]", "'gpu' is wished twice", id="class twice"),
        pytest.param(
            spec({"exec": {"command": ["a"], "env": [{"name": "A"}]}}),
            "spec.steps[0].exec.env[0]",
            "needed, none is given",
            id="env without value",
        ),
        pytest.param(
            spec({"exec": {"command": ["a"], "env": [{"name": "A", "value": "", "secretKeyRef": {"name": "s", "key": "k"}}]}}),
            "spec.steps[0].exec.env[0]",
            "needed, both are given",
            id="env with two",
        ),
        pytest.param(
            spec({"exec": {"command": ["a"], "env": [{"name": "A", "value": ""}, {"name": "A", "value": ""}]}}),
            "spec.steps[0].exec.env[1].name",
            "'A' is set by spec.steps[0].exec.env[0] too",
            id="env twice",
        ),
    ],
)
def test_a_task_that_contradicts_itself_is_refused(task: AgentTaskSpec, field: str, said: str):
    where, problem = refused(task)
    assert (where, said in problem) == (field, True), problem


@pytest.mark.parametrize("name", ["AGENTTASK_SECRET_X", "LD_PRELOAD", "TRACEPARENT"])
def test_a_reserved_variable_is_refused_in_steps_and_pods(name: str):
    in_step = refused(spec({"exec": {"command": ["a"], "env": [{"name": name, "value": ""}]}}))
    in_pod = refused(spec(pod={"env": [{"name": name, "value": ""}]}))
    assert [field for field, _ in (in_step, in_pod)] == ["spec.steps[0].exec.env[0].name", "spec.pod.env[0].name"]
    assert f"{name!r} is reserved, as are AGENTTASK_*, LD_*" in in_step[1]


def test_a_task_may_ask_the_runner_to_say_more():
    validate(spec(pod={"env": [{"name": "AGENTTASK_DEBUG", "value": "1"}]}), step_kinds=None)
    assert (
        refused(spec({"exec": {"command": ["a"], "env": [{"name": "AGENTTASK_DEBUG", "value": "1"}]}}))[0]
        == "spec.steps[0].exec.env[0].name"
    )


@pytest.mark.parametrize(
    "name", ["PYTHONPATH", "PATH", "HOME", "SSLKEYLOGFILE", "OTEL_EXPORTER_OTLP_ENDPOINT", "GLIBC_TUNABLES", "GCONV_PATH"]
)
def test_what_would_change_the_runner_is_refused_in_pods_only(name: str):
    validate(spec({"exec": {"command": ["a"], "env": [{"name": name, "value": ""}]}}), step_kinds=None)
    assert refused(spec(pod={"env": [{"name": name, "value": ""}]}))[0] == "spec.pod.env[0].name"


@pytest.mark.parametrize(
    ("task", "field"),
    [
        pytest.param(spec({"chat": {"model": "m", "prompt": "{{ steps.s1.text }}"}}, READ), "spec.steps[0].chat.prompt", id="a later step"),
        pytest.param(spec({"chat": {"model": "m", "prompt": "{{ steps.s0.text }}"}}), "spec.steps[0].chat.prompt", id="itself"),
        pytest.param(spec(READ, {"exec": {"command": ["a", "{{ x }}"]}}), "spec.steps[1].exec.command[1]", id="in a list"),
        pytest.param(
            spec({"exec": {"command": ["a"], "waitFile": {"path": "{{ x }}"}}}), "spec.steps[0].exec.waitFile.path", id="the wire's names"
        ),
        pytest.param(
            spec({"plugin": {"kind": "word-count", "with": {"a": [{"b": "{{ x }}"}]}}}),
            "spec.steps[0].plugin.with.a[0].b",
            id="in a plugin's",
        ),
        pytest.param(spec(output="{{ steps.nope.text }}"), "spec.output", id="output"),
    ],
)
def test_a_template_is_refused_with_the_path_of_its_string(task: AgentTaskSpec, field: str):
    with pytest.raises(InvalidTemplate) as caught:
        validate(task, step_kinds=KINDS)
    assert caught.value.field == field


def test_a_template_that_looks_at_a_step_beside_it_says_what_to_do():
    task = spec(READ, {"needs": [], "chat": {"model": "m", "prompt": "{{ steps.s0.text }}"}})
    assert refused(task)[1] == "step 's0' may not have ended by then; add it to needs"


def test_a_template_that_looks_at_its_own_step_is_not_sent_to_needs():
    assert refused(spec({"chat": {"model": "m", "prompt": "{{ steps.s0.text }}"}}))[1] == (
        "no step 's0' can be seen here; steps that have ended by then: none"
    )


def test_a_task_too_large_for_its_pod_is_refused_first():
    texts = ["{{ nope }}" + "x" * 16000] * 20
    field, problem = refused(spec({"embed": {"model": "m", "texts": texts}}))
    assert (field, "at most 204800 reach the pod; move long texts into a ConfigMap input" in problem) == ("spec", True)


def test_the_output_sees_all_steps():
    validate(spec(READ, READ | {"needs": []}, output="{{ steps.s0.text ~ steps.s1.text }}"), step_kinds=None)


def test_an_unknown_kind_is_refused_with_those_installed():
    task = spec({"plugin": {"kind": "word-cuont", "with": {}}})
    with pytest.raises(UnknownPlugin) as caught:
        validate(task, step_kinds=KINDS)
    assert str(caught.value) == (
        "spec.steps[0].plugin.kind: no step kind is called 'word-cuont'; "
        "installed: chat, embed, exec, fetch, git, read, retrieve, word-count, write; did you mean 'word-count'?"
    )


def test_a_kind_is_not_looked_at_where_those_installed_are_not_known():
    validate(spec({"plugin": {"kind": "anything", "with": {}}}), step_kinds=None)


def test_a_plugins_config_nested_too_deeply_is_refused():
    config: object = "x"
    for _ in range(40):
        config = [config]
    assert "nested more than 32 deep" in refused(spec({"plugin": {"kind": "word-count", "with": {"a": config}}}))[1]


def test_many_unknown_names_are_cut_in_the_message():
    steps = [{"name": f"step{index}", **READ} for index in range(20)]
    _, problem = refused(spec(*steps, output="{{ steps.zzz.text }}"))
    assert problem.endswith("and 8 more")
