"""What every schema node and every CRD keeps to: described, bounded, no floats, list types that suit immutability."""

import re
from typing import Any

import pytest
from tests.unit.crds.schema_walk import CRDS, kind_of, load, nodes, schema

from agenttask.api import constants
from agenttask.api.reasons import ConditionType, Phase, StepPhase
from agenttask.api.steps import STEP_KINDS

PLURALS = (constants.TASK_PLURAL, constants.MODEL_PLURAL, constants.QUEUE_PLURAL, constants.RECORD_PLURAL)
EVERY_NODE = [
    pytest.param(path, node, id=f"{plural}:{path or '.'}")
    for plural in PLURALS
    for path, node in nodes(schema(load(plural)))
    if path != "metadata"  # the API server describes it, and lets nobody else
]
ORDERED = {
    "spec.steps",
    "spec.steps[].read.paths",
    "spec.steps[].exec.command",
    "spec.steps[].chat.models",
    "spec.steps[].chat.messages",
    "spec.steps[].embed.texts",
    "spec.steps[].embed.paths",
    "spec.device.classes",
    "spec.pod.tolerations",
    "spec.fallback",
    "status.device.considered",
    "status.device.tried",
    "status.steps",
}
OF_ONE_WRITER = {
    "spec.workspace",
    "spec.device",
    "spec.execution",
    "spec.pod",
    "spec.retry",
    "status.device",
    "status.outputRef",
    "status.usage",
}
"""Of a task: nobody but the author, or the controller, ever writes a part of it."""


@pytest.mark.parametrize(("path", "node"), EVERY_NODE)
def test_every_field_is_described_in_a_sentence(path: str, node: dict[str, Any]) -> None:
    description = node.get("description", "")
    assert description.endswith("."), f"{path}: {description!r}"
    assert description[0] == description[0].upper()


@pytest.mark.parametrize(("path", "node"), EVERY_NODE)
def test_every_value_is_bounded(path: str, node: dict[str, Any]) -> None:
    match kind_of(node):
        case "int-or-string":
            assert {"maxLength", "minimum", "maximum"} <= node.keys()
        case "string" if path not in ("apiVersion", "kind"):
            assert "maxLength" in node or "enum" in node or node.get("format") == "date-time"
        case "array":
            assert "maxItems" in node
        case "object":
            assert "properties" in node or "maxProperties" in node
        case "integer":
            assert "minimum" in node
            assert "maximum" in node or path.startswith("status.")


@pytest.mark.parametrize(("path", "node"), EVERY_NODE)
def test_only_types_that_the_api_conventions_allow(path: str, node: dict[str, Any]) -> None:
    assert kind_of(node) in ("object", "array", "string", "integer", "boolean", "int-or-string"), f"{path}: a float"


BOOLEANS = {
    "spec.steps[].continueOnError",
    "spec.steps[].chat.requireAll",
    "spec.suspend",
    "spec.cancel",
    "spec.paused",
    "spec.execution.atMostOnce",
    "spec.pod.volumes[].readOnly",
}
MUTABLE = {"priority", "suspend", "cancel"}


@pytest.mark.parametrize(("path", "node"), [each for each in EVERY_NODE if kind_of(each.values[1]) == "boolean"])
def test_a_boolean_stands_only_where_no_third_answer_can_ever_come(path: str, node: dict[str, Any]) -> None:
    """The API conventions want an enum wherever a choice may grow; and what a boolean means when left out must be said."""
    assert path in BOOLEANS
    assert "Left out, " in node["description"]


@pytest.mark.parametrize(("path", "node"), [each for each in EVERY_NODE if kind_of(each.values[1]) == "array"])
def test_a_list_with_an_order_is_atomic_and_no_other_is(path: str, node: dict[str, Any]) -> None:
    """Equality in CEL ignores the order of `set` and `map` lists, so steps could be reordered behind immutability."""
    assert (node["x-kubernetes-list-type"] == "atomic") == (path in ORDERED)


def test_what_one_writer_writes_is_owned_as_a_whole() -> None:
    """Ownership field by field is a third of what a write of a task costs the API server, and nobody shares these."""
    version = schema(load(constants.TASK_PLURAL))["properties"]
    whole = {
        f"{part}.{name}"
        for part in ("spec", "status")
        for name, node in version[part]["properties"].items()
        if node.get("x-kubernetes-map-type") == "atomic"
    }
    assert whole == OF_ONE_WRITER
    assert "x-kubernetes-map-type" not in version["spec"], "priority, suspend and cancel may have other owners"


@pytest.mark.parametrize("plural", PLURALS)
def test_names_and_group_are_those_of_the_constants(plural: str) -> None:
    crd = load(plural)
    names = crd["spec"]["names"]
    kind, short = {
        constants.TASK_PLURAL: (constants.TASK_KIND, "at"),
        constants.MODEL_PLURAL: (constants.MODEL_KIND, "atm"),
        constants.QUEUE_PLURAL: (constants.QUEUE_KIND, "atq"),
        constants.RECORD_PLURAL: (constants.RECORD_KIND, "atr"),
    }[plural]
    assert crd["metadata"]["name"] == f"{plural}.{constants.GROUP}"
    assert (crd["spec"]["group"], crd["spec"]["scope"]) == (constants.GROUP, "Namespaced")
    assert (names["kind"], names["plural"], names["shortNames"], names["categories"]) == (kind, plural, [short], ["agents"])
    assert [version["name"] for version in crd["spec"]["versions"]] == [constants.VERSION]


def test_the_folder_holds_these_and_nothing_else() -> None:
    assert sorted(path.stem for path in CRDS.iterdir()) == sorted(PLURALS)


def test_only_tasks_and_queues_have_a_status() -> None:
    for plural in PLURALS:
        has_status = plural in (constants.TASK_PLURAL, constants.QUEUE_PLURAL)
        assert load(plural)["spec"]["versions"][0].get("subresources") == ({"status": {}} if has_status else None)
        assert ("status" in schema(load(plural))["properties"]) == has_status


def test_a_record_names_one_task_for_good_and_its_attempt_never_falls() -> None:
    rules = {rule["fieldPath"]: rule["rule"] for rule in schema(load(constants.RECORD_PLURAL))["x-kubernetes-validations"]}
    assert rules == {
        ".task": "self.task == oldSelf.task",
        ".taskUID": "self.taskUID == oldSelf.taskUID",
        ".attempt": "self.attempt >= oldSelf.attempt",
    }


def test_enums_are_those_of_the_reasons_module() -> None:
    status = schema(load(constants.TASK_PLURAL), "status")["properties"]
    assert status["phase"]["enum"] == [phase.value for phase in Phase]
    assert status["steps"]["items"]["properties"]["phase"]["enum"] == [phase.value for phase in StepPhase]


def test_conditions_are_metav1() -> None:
    conditions = schema(load(constants.TASK_PLURAL), "status")["properties"]["conditions"]
    assert conditions["items"]["required"] == ["type", "status", "reason", "message", "lastTransitionTime"]
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]
    assert all(kind in conditions["description"] for kind in ConditionType)


def test_the_immutability_rule_compares_every_spec_field_and_its_message_names_it() -> None:
    spec = schema(load(constants.TASK_PLURAL), "spec")
    _, rule = schema(load(constants.TASK_PLURAL))["x-kubernetes-validations"]
    status_is_written = "has(self.status) != has(oldSelf.status) || (has(self.status) && self.status != oldSelf.status)"
    fields = [name for name in spec["properties"] if name not in MUTABLE]
    assert " ".join(rule["rule"].split()) == f"{status_is_written} || ( {' && '.join(_same(spec, name) for name in fields)} )"
    assert re.findall(r"'(\w+)'", rule["messageExpression"]) == fields
    # What the last name stands for needs no comparison: it is the only one left.
    compared = " ".join(rule["messageExpression"].split())
    assert all(f"{_other(spec, name)} ? '{name}' : " in compared for name in fields[:-1])


def _same(spec: dict[str, Any], name: str) -> str:
    """A field that is never absent is compared, any other may neither come nor go."""
    equal = f"self.spec.{name} == oldSelf.spec.{name}"
    return (
        equal if _always_there(spec, name) else f"has(self.spec.{name}) == has(oldSelf.spec.{name}) && (!has(self.spec.{name}) || {equal})"
    )


def _other(spec: dict[str, Any], name: str) -> str:
    differs = f"self.spec.{name} != oldSelf.spec.{name}"
    return (
        differs
        if _always_there(spec, name)
        else f"has(self.spec.{name}) != has(oldSelf.spec.{name}) || (has(self.spec.{name}) && {differs})"
    )


def _always_there(spec: dict[str, Any], name: str) -> bool:
    return name in spec["required"] or "default" in spec["properties"][name]


def test_a_cancelled_task_stays_cancelled() -> None:
    cancel = schema(load(constants.TASK_PLURAL), "spec")["properties"]["cancel"]
    assert cancel["default"] is False  # so a field that is left out is compared too
    assert [rule["rule"] for rule in cancel["x-kubernetes-validations"]] == ["!oldSelf || self"]


def test_the_final_phases_in_the_rule_are_the_terminal_ones() -> None:
    rule, _ = schema(load(constants.TASK_PLURAL))["x-kubernetes-validations"]
    listed = str([phase.value for phase in Phase if phase.terminal])
    assert listed in rule["rule"]


def test_the_one_kind_rule_lists_every_kind() -> None:
    rule, _ = schema(load(constants.TASK_PLURAL), "spec", "steps")["items"]["x-kubernetes-validations"]
    for kind in STEP_KINDS:
        assert f"has(self.{kind})" in rule["rule"]
        assert kind in rule["message"]


@pytest.mark.parametrize("plural", PLURALS)
def test_every_rule_has_a_message_of_its_own(plural: str) -> None:
    messages = [rule["message"] for _, node in nodes(schema(load(plural))) for rule in node.get("x-kubernetes-validations", [])]
    assert len(messages) == len(set(messages))


def test_printer_columns_show_one_scalar_each() -> None:
    version = load(constants.TASK_PLURAL)["spec"]["versions"][0]
    columns = version["additionalPrinterColumns"]
    assert [c["name"] for c in columns if not c.get("priority")] == ["Phase", "Reason", "Progress", "Device", "Attempt", "Age"]
    assert [c["name"] for c in columns if c.get("priority") == 1] == ["Queue", "Priority", "Models", "Tokens", "Cost", "Node", "Trace"]
    scalars = {f".{path}" for path, node in nodes(schema(load(constants.TASK_PLURAL))) if kind_of(node) in ("string", "integer")}
    assert {c["jsonPath"] for c in columns} <= scalars | {".metadata.creationTimestamp"}


def test_the_columns_of_a_queue_show_one_scalar_each() -> None:
    crd = load(constants.QUEUE_PLURAL)
    columns = crd["spec"]["versions"][0]["additionalPrinterColumns"]
    assert [c["name"] for c in columns] == ["Concurrency", "Running", "Pending", "Oldest", "Paused", "Accepted", "Age"]
    scalars = {f".{path}" for path, node in nodes(schema(crd)) if kind_of(node) in ("string", "integer", "boolean")}
    accepted = '.status.conditions[?(@.type=="Accepted")].status'
    assert {c["jsonPath"] for c in columns} <= scalars | {".metadata.creationTimestamp", accepted}


def test_a_reference_always_says_what_it_names() -> None:
    assert schema(load(constants.TASK_PLURAL), "status", "outputRef")["required"] == ["kind"]
