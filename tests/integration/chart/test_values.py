"""Values are closed at every level: what is misspelt, of the wrong type or contradictory is refused with its path."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

OPEN = {"controller.affinity", "controller.env[].valueFrom", "global"}
"""Kubernetes' own types, and what a parent chart owns."""


def _nodes(node: dict[str, Any], defs: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if "$ref" in node:
        node = {**defs[node["$ref"].removeprefix("#/$defs/")], **node}
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from _nodes(child, defs, f"{path}.{name}" if path else name)
    if "items" in node:
        yield from _nodes(node["items"], defs, path + "[]")


@pytest.fixture(scope="module")
def schema(chart: Path) -> list[tuple[str, dict[str, Any]]]:
    """Every node of values.schema.json with its path."""
    document = json.loads((chart / "values.schema.json").read_text())
    return list(_nodes(document, document["$defs"]))


def test_every_object_is_closed_or_says_what_it_holds(schema: list[tuple[str, dict[str, Any]]]) -> None:
    open_objects = {path for path, node in schema if node["type"] == "object" and "additionalProperties" not in node}
    assert open_objects == OPEN


def test_every_value_is_described(schema: list[tuple[str, dict[str, Any]]]) -> None:
    assert [path for path, node in schema if not path.endswith("[]") and not node.get("description", "").endswith(".")] == []


def test_values_and_schema_have_the_same_keys(chart: Path, schema: list[tuple[str, dict[str, Any]]]) -> None:
    values = yaml.safe_load((chart / "values.yaml").read_text())
    documented = {path for path, node in schema if node["type"] == "object" and "properties" in node and "[]" not in path}
    for path in documented:
        held = values
        for name in filter(None, path.split(".")):
            held = held[name]
        allowed = {
            each.removeprefix(f"{path}.")
            for each, _ in schema
            if re.fullmatch(rf"{re.escape(path)}\.[^.\[]+" if path else r"[^.\[]+", each)
        }
        if path.endswith((".requests", ".limits")):
            assert set(held) <= allowed
        else:
            assert set(held) == allowed - {"", "global"}, path


@pytest.mark.parametrize(
    ("setting", "path", "problem"),
    [
        pytest.param("imagse.registry=x", "''", "additional properties 'imagse' not allowed", id="typo at the top"),
        pytest.param("images.runner.tagg=x", "'/images/runner'", "additional properties 'tagg' not allowed", id="typo below"),
        pytest.param("deviceClasses[0].nam=x", "'/deviceClasses/0'", "additional properties 'nam' not allowed", id="typo in a list"),
        pytest.param("rbac.nodes=perhaps", "'/rbac/nodes'", "got string, want boolean", id="wrong type"),
        pytest.param("secretGlobs=agents-*", "'/secretGlobs'", "got string, want array", id="text for a list"),
        pytest.param("allowedHosts={https://api.example.com}", "'/allowedHosts/0'", "does not match pattern", id="URL for a host"),
        pytest.param("hubDownloads=offline", "'/hubDownloads'", "got string, want boolean", id="text for yes or no"),
        pytest.param("runnerEnvironment.LD_PRELOAD=x", "''", "invalid propertyName 'LD_PRELOAD'", id="no setting of the runner"),
        pytest.param("taskDefaults.scratch=-1", "'/taskDefaults/scratch'", "minimum", id="amount below nothing"),
        pytest.param("taskDefaults.scratch=true", "'/taskDefaults/scratch'", "got boolean, want integer or string", id="no amount"),
        pytest.param("outputStore.url=file:///mnt/x", "'/outputStore/url'", "does not match pattern", id="no object store"),
        pytest.param("outputStore.maxBytes=1", "'/outputStore/maxBytes'", "minimum", id="too small a bound"),
        pytest.param("outputStore.options.region=5", "'/outputStore/options/region'", "want boolean or string", id="number for an option"),
        pytest.param("rbac.scope=global", "'/rbac/scope'", "must be one of 'namespaced', 'cluster'", id="enum"),
        pytest.param("logging.level=loud", "'/logging/level'", "must be one of", id="another enum"),
        pytest.param("images.pullPolicy=Sometimes", "'/images/pullPolicy'", "must be one of", id="pull policy"),
        pytest.param("images.runner.digest=abc", "'/images/runner/digest'", "does not match pattern", id="digest"),
        pytest.param("telemetry.otlpEndpoint=collector:4318", "'/telemetry/otlpEndpoint'", "does not match pattern", id="no scheme"),
        pytest.param(
            "taskDefaults.resources.limits.gpu=1", "'/taskDefaults/resources/limits'", "'gpu' not allowed", id="device as a resource"
        ),
        pytest.param("controller.terminationGracePeriodSeconds=0", "'/controller/terminationGracePeriodSeconds'", "minimum", id="bound"),
        pytest.param("watchNamespaces={Team_A}", "'/watchNamespaces/0'", "does not match pattern", id="namespace"),
        pytest.param("rbac.scope=cluster,watchNamespaces={a}", "'/watchNamespaces'", "maxItems", id="exclusive keys"),
        pytest.param("deviceClasses=null", "''", "missing property 'deviceClasses'", id="null takes a value away"),
        pytest.param("images.runner=null", "'/images'", "missing property 'runner'", id="null below"),
    ],
)
def test_a_bad_value_is_refused_with_its_path(helm: Any, chart: Path, setting: str, path: str, problem: str) -> None:
    done = helm("template", "r", str(chart), "--set", setting)
    assert done.returncode != 0
    assert f"at {path}:" in done.stderr
    assert problem in done.stderr


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        pytest.param(
            "defaultDeviceClasses={tpu}", 'defaultDeviceClasses names "tpu", which is none of deviceClasses: gpu, cpu', id="unknown class"
        ),
        pytest.param(
            "deviceClasses[0].name=cpu,deviceClasses[0].kind=cpu,deviceClasses[1].name=cpu,deviceClasses[1].kind=cpu",
            'deviceClasses has "cpu" twice',
            id="class twice",
        ),
        pytest.param("serviceAccount.create=false", "serviceAccount.name is needed where serviceAccount.create is false", id="no account"),
    ],
)
def test_what_a_schema_cannot_see_is_refused_by_the_templates(helm: Any, chart: Path, setting: str, message: str) -> None:
    done = helm("template", "r", str(chart), "--set", setting)
    assert done.returncode != 0
    assert message in done.stderr


@pytest.mark.parametrize("case", ["", "everything", "cluster-scope", "least-rights"])
def test_lint_is_clean(helm: Any, chart: Path, case: str) -> None:
    done = helm("lint", "--strict", str(chart), *(["-f", str(chart / "ci" / f"{case}-values.yaml")] if case else []))
    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout
    assert "0 chart(s) failed" in done.stdout


def test_every_case_of_ci_is_tried_above(chart: Path) -> None:
    assert {path.name for path in (chart / "ci").iterdir()} == {
        f"{case}-values.yaml" for case in ("everything", "cluster-scope", "least-rights")
    }
