"""Writes docs/reference/: the fields of all kinds, phases and reasons, the chart's values, spans, each from its only source.

Run it after changing a CRD, api/reasons.py, telemetry/names.py or the chart's values; a test compares what is committed with what it makes.
With `--check` it writes nothing and exits 1 when a file is not current.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from agenttask.api.reasons import TERMINAL_REASONS, WAITING_REASONS, Phase, Reason, StepPhase
from agenttask.telemetry.names import SPANS, Attribute

sys.path.insert(0, str(Path(__file__).parent))
from transitions import START, TRANSITIONS

ROOT = Path(__file__).resolve().parents[1]
LIFECYCLE = ROOT / "docs" / "lifecycle.md"
BEGIN, END = "<!-- Begin: made by docs/generate.py from docs/transitions.py. -->", "<!-- End -->"
REFERENCE = ROOT / "docs" / "reference"
CHART = ROOT / "charts" / "agenttask-operator"
NOTICE = "<!-- Made by docs/generate.py; do not edit. -->"
NO_DEFAULT = object()
_EVERY_OBJECT = ("apiVersion", "kind", "metadata")
_PIPE = re.compile(r"(?<!\\)\|")
"""A pipe of a template would end its cell."""


def pages() -> dict[str, str]:
    """Every generated page by its file name."""
    return {
        "agenttask.md": kind_page("AgentTask", "agenttasks"),
        "agentmodel.md": kind_page("AgentModel", "agentmodels"),
        "agentqueue.md": kind_page("AgentQueue", "agentqueues"),
        "agenttaskrecord.md": kind_page("AgentTaskRecord", "agenttaskrecords"),
        "reasons.md": reasons_page(),
        "chart-values.md": values_page(),
        "spans.md": spans_page(),
    }


def kind_page(kind: str, plural: str) -> str:
    """The fields of one kind."""
    crd = yaml.safe_load((ROOT / "crds" / f"{plural}.yaml").read_text())
    version = crd["spec"]["versions"][0]
    names = crd["spec"]["names"]
    schema = version["schema"]["openAPIV3Schema"]
    known_as = f"`{crd['spec']['group']}/{version['name']}`, short name `{names['shortNames'][0]}`, category `{names['categories'][0]}`."
    plain = "spec" not in schema["properties"]
    explained = names["singular"] if plain else f"{names['singular']}.spec"
    on_a_cluster = f"The same on a cluster: `kubectl explain {explained} --recursive`."
    lines = [f"# {kind}", "", schema["description"], "", f"{known_as} {on_a_cluster}"]
    if plain:
        data = {"properties": {name: node for name, node in schema["properties"].items() if name not in _EVERY_OBJECT}} | {
            "required": schema["required"]
        }
        rows = [_field_row(path, each, required=required) for path, each, required in _fields(data)]
        lines += ["", "## Fields", "", *_table(("Field", "Type", "Default", "Meaning"), rows)]
    for part in ("spec", "status"):
        if part in schema["properties"]:
            node = schema["properties"][part]
            rows = [_field_row(path, each, required=required) for path, each, required in _fields(node)]
            lines += ["", f"## {part}", "", node["description"], "", *_table(("Field", "Type", "Default", "Meaning"), rows)]
    rules = [[f"`{path or 'the whole object'}`", rule["message"]] for path, rule in _rules(schema)]
    lines += ["", "## Rules", "", "What the API server checks beyond types and bounds.", "", *_table(("Of", "Rule"), rules)]
    return _page(lines)


def reasons_page() -> str:
    """Phases and reasons with their sentences."""
    on_the_way = [reason for reason in Reason if reason not in WAITING_REASONS and reason not in TERMINAL_REASONS]
    phases = " → ".join(f"`{phase}`" for phase in Phase if not phase.terminal)
    final = " or ".join(f"`{phase}`" for phase in Phase if phase.terminal)
    of_steps = ", ".join(f"`{phase}`" for phase in StepPhase)
    lines = [
        "# Phases and reasons",
        "",
        f"A task is {phases} and ends {final}, which never changes. A step is one of {of_steps}.",
        "`status.reason` says why, `status.message` what to do about it.",
    ]
    for title, note, reasons in (
        (
            "Waiting",
            "Never the end by themselves: they end when the missing thing appears, or at `pendingDeadlineSeconds`.",
            WAITING_REASONS,
        ),
        ("On the way", "They end by themselves.", on_the_way),
        ("Final", "Why a task ended; `Succeeded` is the one good end.", TERMINAL_REASONS),
    ):
        lines += [
            "",
            f"## {title}",
            "",
            note,
            "",
            *_table(("Reason", "Meaning"), [[f"`{reason}`", reason.describe()] for reason in reasons]),
        ]
    return _page(lines)


def lifecycle_block() -> str:
    """The state machine as a picture, and its arrows as a table."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for one in TRANSITIONS:
        arrows.setdefault((one.source, one.target), []).append(one.why)
    ends = [f"    {phase} --> {START}" for phase in Phase if phase.terminal]
    drawn = [f"    {source} --> {target}: {', or '.join(whys)}" for (source, target), whys in arrows.items() if source != START]
    begin = [f"    {START} --> Queued", f"    {START} --> Suspended: suspend"]
    rows = [[one.source.replace(START, "none yet"), one.target, one.why, f"`{one.test.rpartition('::')[2]}`"] for one in TRANSITIONS]
    picture = ["```mermaid", "stateDiagram-v2", *begin, *drawn, *ends, "```"]
    return "\n".join([*picture, "", *_table(("From", "To", "Why", "Test"), rows)])


def with_block(text: str) -> str:
    """The page with its generated part made anew."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{lifecycle_block()}\n\n{END}{rest.partition(END)[2]}"


def values_page() -> str:
    """The chart's values: meaning from the schema, defaults from values.yaml."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    rows = []
    for path, node in _values(schema, schema["$defs"]):
        default = _at(values, path)
        shown = "" if default is NO_DEFAULT or (isinstance(default, dict) and "properties" in node) else _code(default)
        rows.append([f"`{path}`", _type(node), shown, node.get("description", "")])
    head = "`helm install agents charts/agenttask-operator --set key=value`. A value that is not listed here is refused, with its path."
    return _page(["# Values of the chart", "", head, "", *_table(("Value", "Type", "Default", "Meaning"), rows)])


def spans_page() -> str:
    """The spans of a task's trace and their attributes."""
    spans = [[f"`{span.name}`", span.kind, f"`{span.parent}`" if span.parent else "none: the root", span.by, span.covers] for span in SPANS]
    attributes = [
        [
            f"`{attribute}`",
            attribute.describe(),
            ", ".join(f"`{span.name}`" for span in SPANS if attribute in span.attributes) or "resource",
        ]
        for attribute in Attribute
    ]
    head = "One AgentTask is one trace; [tracing](../tracing.md) tells how to turn it on. Ids are derived from the task's uid."
    return _page(
        [
            "# Spans and attributes",
            "",
            head,
            "",
            *_table(("Span", "Kind", "Parent", "Sent by", "Covers"), spans),
            "",
            *_table(("Attribute", "What it says", "On"), attributes),
        ]
    )


def _fields(node: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any], bool]]:
    """Every field below a node of a CRD: path, schema, whether it is required."""
    for name, child in node.get("properties", {}).items():
        here = f"{path}.{name}" if path else name
        yield here, child, name in node.get("required", [])
        inner, below = child, here
        while "items" in inner:
            inner, below = inner["items"], below + "[]"
        yield from _fields(inner, below)


def _rules(node: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    for rule in node.get("x-kubernetes-validations", []):
        yield path + rule.get("fieldPath", "") if path else rule.get("fieldPath", "").removeprefix("."), rule
    for name, child in node.get("properties", {}).items():
        yield from _rules(child, f"{path}.{name}" if path else name)
    if "items" in node:
        yield from _rules(node["items"], path + "[]")


def _values(node: Mapping[str, Any], defs: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every value of the chart in the order of the schema, references resolved."""
    for name, child in node.get("properties", {}).items():
        if name == "global":
            continue  # a parent chart's, not ours
        resolved, here = _resolved(child, defs), f"{path}.{name}" if path else name
        yield here, resolved
        inner, below = resolved, here
        if "items" in resolved:
            inner, below = _resolved(resolved["items"], defs), f"{here}[]"
        yield from _values(inner, defs, below)


def _resolved(node: Mapping[str, Any], defs: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**defs[node["$ref"].removeprefix("#/$defs/")], **node} if "$ref" in node else node


def _at(values: Any, path: str) -> Any:
    for name in path.split("."):
        if not isinstance(values, dict) or name not in values:
            return NO_DEFAULT
        values = values[name]
    return values


def _field_row(path: str, node: Mapping[str, Any], *, required: bool) -> list[str]:
    default = "required" if required else _code(node["default"]) if "default" in node else ""
    return [f"`{path}`", _type(node), default, node["description"]]


def _type(node: Mapping[str, Any]) -> str:
    """The type in words, with what bounds it."""
    if "enum" in node:
        return " \\| ".join(f"`{value}`" for value in node["enum"])
    if node.get("x-kubernetes-int-or-string") or node.get("type") == ["string", "integer"]:
        return f"whole number{_bounds(node, 'minimum', 'maximum')}, or text{_bounds(node, 'minLength', 'maxLength')}"
    match node["type"]:
        case "array":
            return f"list{_bounds(node, 'minItems', 'maxItems')}"
        case "object" if isinstance(node.get("additionalProperties"), dict):
            return f"map{_bounds(node, 'minProperties', 'maxProperties')}"
        case "string" if node.get("format") == "date-time":
            return "time"
        case "string":
            return f"text{_bounds(node, 'minLength', 'maxLength')}"
        case "integer":
            return f"integer{_bounds(node, 'minimum', 'maximum')}"
        case "object" if node.get("x-kubernetes-preserve-unknown-fields"):
            return "free-form object"
    return str(node["type"])


def _bounds(node: Mapping[str, Any], low: str, high: str) -> str:
    least, most = node.get(low), node.get(high)
    if most is None:
        return ""
    return f", {least} to {most}" if least is not None else f", at most {most}"


def _code(value: object) -> str:
    return f"`{json.dumps(value)}`" if not isinstance(value, str) or not value else f"`{value}`"


def _table(head: tuple[str, ...], rows: list[list[str]]) -> list[str]:
    return [_row(list(head)), _row(["---"] * len(head)), *(_row(row) for row in rows)]


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(_PIPE.sub(r"\\|", " ".join(cell.split("\n"))) for cell in cells) + " |"


def _page(lines: list[str]) -> str:
    return "\n".join([NOTICE, "", *lines]) + "\n"


def stale(folder: Path = REFERENCE) -> list[str]:
    """Names of the files in the folder that are not what this program makes, or that it does not make at all."""
    made = pages()
    there = {path.name: path.read_text() for path in folder.glob("*.md")}
    generated = {name for name, text in there.items() if text.startswith(NOTICE)}
    lifecycle = LIFECYCLE.read_text()
    block = {LIFECYCLE.name} if with_block(lifecycle) != lifecycle else set()
    return sorted({name for name, text in made.items() if there.get(name) != text} | (generated - made.keys()) | block)


def main(arguments: list[str]) -> int:
    """Write the pages, or only say which are not current."""
    if arguments == ["--check"]:
        names = stale()
        if names:
            sys.stderr.write(f"not current: {', '.join(names)}; run python docs/generate.py\n")
        return 1 if names else 0
    REFERENCE.mkdir(exist_ok=True)
    for name, text in pages().items():
        (REFERENCE / name).write_text(text)
    LIFECYCLE.write_text(with_block(LIFECYCLE.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
