"""The controller's settings: who wins, and what a mistake is told."""

import io
import json
import logging
from pathlib import Path

import pytest

from agenttask.controller.installation import FeatureGates
from agenttask.controller.logs import configure
from agenttask.controller.main import _parser, _settings
from agenttask.controller.settings import Logging, Settings, SettingsError, read_config, read_settings


def test_flags_win_over_the_environment_over_the_file_over_defaults() -> None:
    config = "workers: 2\nimages: {runner: file, runnerTorch: file}\nlogging: {format: text, level: debug}"
    environ = {"AGENTTASK_CONTROLLER_IMAGES__RUNNER_TORCH": "environment", "AGENTTASK_CONTROLLER_LOGGING__LEVEL": "warning", "HOME": "/"}
    flags = ["logging.level=error", "namespaces=[a, b]"]

    found = read_settings(config=config, environ=environ, flags=flags)

    assert (found.workers, found.images.runner, found.images.runner_torch) == (2, "file", "environment")
    assert (found.logging, found.namespaces) == (Logging(format="text", level="error"), ("a", "b"))
    assert found.waiting_writes_per_second == Settings().waiting_writes_per_second


@pytest.mark.parametrize("config", [None, "", "# nothing\n"], ids=["no-file", "empty", "comment"])
def test_without_any_the_defaults_stand(config: str | None) -> None:
    assert read_settings(config=config, environ={}, flags=[]) == Settings()


def test_a_deep_key_may_be_made_by_a_flag() -> None:
    found = read_settings(config=None, environ={}, flags=["plugins.extra.stepKinds=[mail]", "probePort=0"])

    assert (found.plugins.extra.step_kinds, found.probe_port) == (("mail",), 0)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("worker: 3", "unknown setting 'worker'; known: "),
        ("worker: 3", "did you mean 'workers'?"),
        (
            "images: {runer: x}",
            "unknown setting 'images.runer'; known: pullPolicy, pullSecrets, runner, runnerTorch; did you mean 'runner'?",
        ),
        ("taskDefaults: {resources: {limit: {}}}", "unknown setting 'taskDefaults.resources.limit'"),
        ("deviceClasses: [{name: cpu}, {name: gpu, resource: {}}]", "unknown setting 'deviceClasses[1].resource'"),
        ("1: 2", "unknown setting '1'"),
        ("runnerEnvironment: {LD_PRELOAD: /x.so}", "Invalid enum value 'LD_PRELOAD' - at `key` in `runnerEnvironment`"),
        ("runnerEnvironment: {HTTP_CONNECTIONS: 5}", "Expected `str`, got `int` - at `runnerEnvironment"),
        ("workers: many", "Expected `int`, got `str` - at `workers`"),
        ("workers: 0", "Expected `int` >= 1 - at `workers`"),
        ("workers: null", "Expected `int`, got `null` - at `workers`"),
        ("images: 5", "Expected `object`, got `int` - at `images`"),
        ("deviceClasses: [5]", "Expected `object`, got `int` - at `deviceClasses[0]`"),
        ("taskDefaults: {resources: {limits: {memory: lots}}}", "at `taskDefaults.resources.limits.memory`"),
        ("logging: {level: loud}", "Invalid enum value 'loud' - at `logging.level`"),
        ("gateway: {enabled: true}", "gateway.url is needed where gateway.enabled is true"),
        ('gateway: {url: "http://plain:8443"}', "at `gateway.url`"),
        ('gateway: {url: "https://name:8443/path"}', "at `gateway.url`"),
        ("[1]", "config file: a mapping is needed, it has list"),
        ("a: [", "config file: not YAML"),
        ("deviceClasses: [{name: a}, {name: b}, {name: a}]", "deviceClasses: 'a' stands twice; name a class once"),
        ("defaultDeviceClasses: [cpuu]", "defaultDeviceClasses: 'cpuu' is none of deviceClasses: cpu; did you mean 'cpu'?"),
    ],
)
def test_a_mistake_in_the_file_is_told_with_its_path(config: str, said: str) -> None:
    with pytest.raises(SettingsError) as raised:
        read_settings(config=config, environ={}, flags=[])

    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("workers", "--set workers: write it as --set key=value"),
        ("workers=[", "--set workers: '[' is not YAML"),
        ("workers.deep=1", "Expected `int`, got `object` - at `workers`"),
        ("namespaces=a", "Expected `array`, got `str` - at `namespaces`"),
        ("images.runner=", "Expected `str` of length >= 1 - at `images.runner`"),
    ],
)
def test_a_mistake_in_a_flag_is_told(flag: str, said: str) -> None:
    with pytest.raises(SettingsError) as raised:
        read_settings(config=None, environ={}, flags=[flag])

    assert said in str(raised.value)


def test_a_variable_below_something_that_has_no_keys_is_told() -> None:
    with pytest.raises(SettingsError, match="AGENTTASK_CONTROLLER_IMAGES__RUNNER: 'images' holds no keys"):
        read_settings(config="images: 5", environ={"AGENTTASK_CONTROLLER_IMAGES__RUNNER": "x"}, flags=[])


def test_a_misspelt_variable_is_told() -> None:
    with pytest.raises(SettingsError, match=r"unknown setting 'probeprt'.*did you mean 'probePort'"):
        read_settings(config=None, environ={"AGENTTASK_CONTROLLER_PROBEPRT": "1"}, flags=[])


def test_a_config_file_that_is_not_there_or_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "good").write_text("workers: 3")

    for name in ("absent", "binary"):
        with pytest.raises(SettingsError, match=f"config file '.*{name}' cannot be read"):
            read_config(str(tmp_path / name))
    assert read_config(str(tmp_path / "good")) == "workers: 3"


# ---- the log that they configure


@pytest.fixture
def logs() -> io.StringIO:
    root, kopfs, access = logging.getLogger(), logging.getLogger("kopf"), logging.getLogger("aiohttp.access")
    before = root.handlers[:], root.level, kopfs.level, access.level
    for handler in root.handlers[:]:
        root.removeHandler(handler)  # pytest's; `configure` would close them
    yield io.StringIO()
    for handler in root.handlers[:]:
        root.removeHandler(handler)
    for handler in before[0]:
        root.addHandler(handler)
    root.setLevel(before[1])
    kopfs.setLevel(before[2])
    access.setLevel(before[3])


def test_a_line_for_machines_is_one_json_object(logs: io.StringIO) -> None:
    configure(Logging(), logs)
    try:
        raise LookupError("two\nlines")
    except LookupError:
        logging.getLogger("a.b").exception("gone: %s", "ü")
    logging.getLogger("kopf.objects").info("every event")

    (line,) = logs.getvalue().splitlines()
    found = json.loads(line)
    assert (found["level"], found["logger"], found["message"]) == ("error", "a.b", "gone: ü")
    assert found["time"].endswith("+00:00")
    assert "LookupError: two\nlines" in found["exception"]


def test_a_line_for_people_is_text(logs: io.StringIO) -> None:
    configure(Logging(format="text", level="debug"), logs)
    logging.getLogger("a").debug("hello")

    assert logs.getvalue().endswith("DEBUG   hello\n")


def test_a_feature_gate_is_set_by_its_name_and_a_misspelt_one_is_told() -> None:
    assert read_settings(config=None, environ={}, flags=[]).feature_gates == FeatureGates()
    settings = read_settings(config="featureGates: {Gateway: false}", environ={}, flags=["featureGates.DeviceFallback=false"])
    assert settings.feature_gates == FeatureGates(gateway=False, device_fallback=False)
    with pytest.raises(SettingsError, match=r"featureGates\.DeviceFalback.*did you mean 'DeviceFallback'"):
        read_settings(config=None, environ={}, flags=["featureGates.DeviceFalback=false"])


def test_the_flag_for_gates_is_read_as_kubernetes_reads_its_own() -> None:
    flags = _parser().parse_args(["--feature-gates", "Gateway=false, ProviderAdmission=true"])
    assert _settings(flags).feature_gates == FeatureGates(gateway=False)


def test_a_lease_outlasts_its_renewal() -> None:
    with pytest.raises(SettingsError, match="renewSeconds: 15 is not less than leaseSeconds"):
        read_settings(config="leaderElection: {renewSeconds: 15}", environ={}, flags=[])
