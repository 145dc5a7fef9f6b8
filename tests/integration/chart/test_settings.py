"""The config.yaml that the chart writes is one that the controller reads, key for key."""

from pathlib import Path
from typing import Any

import pytest

from agenttask.api.pod_options import ResourceList, Resources, Toleration
from agenttask.controller.installation import ExtraPlugins, Images, OutputStore, Plugins, TaskDefaults
from agenttask.controller.settings import Settings, read_settings
from agenttask.domain.device import DeviceClass


def _settings(objects: list[dict[str, Any]]) -> Settings:
    (config,) = (each for each in objects if each["kind"] == "ConfigMap")
    return read_settings(config=config["data"]["config.yaml"], environ={}, flags=())


def _container(objects: list[dict[str, Any]]) -> dict[str, Any]:
    (deployment,) = (each for each in objects if each["kind"] == "Deployment")
    return deployment["spec"]["template"]["spec"]["containers"][0]


@pytest.mark.parametrize("case", ["cluster-scope", "everything", "least-rights"])
def test_the_controller_reads_the_configuration_of_each_case(render: Any, chart: Path, case: str) -> None:
    assert _settings(render("-f", str(chart / "ci" / f"{case}-values.yaml"))).default_device_classes


def test_the_defaults_of_the_chart_are_those_of_the_controller_plus_a_gpu_class(render: Any) -> None:
    settings = _settings(render())
    gpu, cpu = settings.device_classes
    assert cpu == DeviceClass(name="cpu", kind="cpu")
    assert gpu == DeviceClass(
        name="gpu",
        kind="cuda",
        resources={"nvidia.com/gpu": 1},
        tolerations=({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},),
    )
    defaults = Settings()
    assert settings.namespaces == ("ns",)
    (secret,) = (each for each in render() if each["kind"] == "Secret")
    assert settings.reserved_secrets == (secret["metadata"]["name"],)
    for name in (
        "default_device_classes",
        "task_defaults",
        "secret_globs",
        "allowed_tolerations",
        "allowed_priority_classes",
        "allowed_runtime_classes",
        "allowed_service_accounts",
        "credential_images",
        "allowed_hosts",
        "hub_downloads",
        "runner_environment",
        "output_store",
        "plugins",
        "nodes",
        "logging",
        "telemetry",
    ):
        assert getattr(settings, name) == getattr(defaults, name), name


def test_every_value_reaches_the_controller(render: Any, chart: Path) -> None:
    settings = _settings(render("-f", str(chart / "ci" / "everything-values.yaml")))
    assert settings.namespaces == ("team-a", "team-b")
    assert settings.images == Images(
        runner="registry.example.com/mirror/agenttask/runner:1.2.3",
        runner_torch="registry.example.com/mirror/agenttask/runner-torch:0.1.0",
        pull_policy="Always",
        pull_secrets=("pull",),
    )
    assert settings.device_classes == (
        DeviceClass(
            name="mig-1g",
            kind="cuda",
            resources={"nvidia.com/mig-1g.10gb": 1},
            image="example.com/runner-cuda:1",
            gpu_memory="10Gi",
            cost="0.4",
        ),
        DeviceClass(name="dra", kind="cuda", resource_claim_template="one-gpu", max_count=4, cost=3, runtime_class_name="nvidia"),
        DeviceClass(name="cpu", node_selector={"pool": "cpu"}),
        DeviceClass(name="remote", kind="remote"),
    )
    assert settings.allowed_tolerations == (Toleration(key="spot", operator="Exists", effect="NoSchedule"),)
    assert settings.allowed_priority_classes == ("low",)
    assert (settings.allowed_runtime_classes, settings.allowed_service_accounts) == (("gvisor",), ("agents",))
    assert settings.default_device_classes == ("cpu", "remote")
    assert settings.reserved_secrets == ("agents-gateway",)
    assert (settings.secret_globs, settings.credential_images) == (("agents-*",), ("registry.example.com/*",))
    assert settings.allowed_hosts == ("api.example.com", "*.example.org", "git.example.com:8443")
    assert settings.hub_downloads is True
    assert settings.runner_environment == {"FEATURE_GATES": "HTTP2=false", "HTTP_CONNECTIONS_PER_HOST": "20"}
    assert settings.task_defaults == TaskDefaults(
        resources=Resources(
            requests=ResourceList(cpu=1, memory=1 << 30, ephemeral_storage="128Mi"),
            limits=ResourceList(cpu=2, memory=4 << 30, ephemeral_storage="2Gi"),
        ),
        scratch=10**9,
    )
    assert settings.plugins == Plugins(
        allowed_distributions=("agenttask", "agenttask-example"),
        extra=ExtraPlugins(step_kinds=("shout",), llm_clients=("echo",), threading=("calm",), model_factories=("tiny",)),
    )
    assert (settings.logging.format, settings.logging.level) == ("text", "debug")
    assert settings.output_store == OutputStore(
        url="s3://outputs/agents",
        secret_name="agents-outputs",
        options={"region": "eu-central-1", "allow_http": False},
        max_bytes=100_000_000,
    )
    assert settings.telemetry.otlp_endpoint == "http://collector.observability:4318"


def test_task_resources_reach_the_controller(render: Any) -> None:
    set_to = "taskDefaults.resources.requests=null,taskDefaults.resources.limits.memory=3Gi,taskDefaults.scratch=1Gi"
    defaults = _settings(render("--set", set_to)).task_defaults
    assert defaults.resources.limits == ResourceList(cpu="2", memory="3Gi", ephemeral_storage="2Gi")
    assert defaults.resources == Resources(limits=defaults.resources.limits)
    assert defaults.scratch == "1Gi"


def test_flags_and_probes_are_those_of_the_program(render: Any) -> None:
    container = _container(render())
    (mount,) = (each for each in container["volumeMounts"] if each["name"] == "config")
    assert container["args"] == ["--config", f"{mount['mountPath']}/config.yaml"]
    assert container["ports"] == [
        {"name": "health", "containerPort": Settings().probe_port},
        {"name": "gateway", "containerPort": Settings().gateway.port},
    ]
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
