"""The container's limits and the settings: where each number comes from, and which wins."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.fakes.runner_plugins import FirstClass

from agenttask.api.constants import POD_GRACE_SECONDS, RUNNER_GRACE_SECONDS
from agenttask.api.document import DeviceDocument
from agenttask.api.errors import DeviceUnavailable, InvalidTask
from agenttask.api.task import AgentTaskSpec
from agenttask.runner.cgroup import cpu_count, full_cpu_count, memory_limit
from agenttask.runner.devices import torch_device, visible_accelerators
from agenttask.runner.settings import read_settings


def spec(**fields: Any) -> AgentTaskSpec:
    return msgspec.convert({"steps": [{"name": "a", "read": {"paths": ["x"]}}], **fields}, AgentTaskSpec)


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "cpus", "full", "memory"),
    [
        pytest.param({"cpu.max": "150000 100000\n", "memory.max": "1073741824\n"}, 2, 1, 1 << 30, id="v2"),
        pytest.param({"cpu.max": "max 100000\n", "memory.max": "max\n"}, 8, 8, None, id="v2 unlimited"),
        pytest.param({"cpu.max": "10000 100000\n"}, 1, 1, None, id="v2 a tenth"),
        pytest.param(
            {"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n", "memory/memory.limit_in_bytes": "4096\n"},
            4,
            4,
            4096,
            id="v1",
        ),
        pytest.param(
            {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n", "memory/memory.limit_in_bytes": "9223372036854771712\n"},
            8,
            8,
            None,
            id="v1 unlimited",
        ),
        pytest.param({}, 8, 8, None, id="none"),
        pytest.param({"cpu.max": "what ever\n", "memory.max": "\n"}, 8, 8, None, id="unreadable"),
    ],
)
def test_the_cgroup_says_how_much_there_is(tmp_path: Path, files: dict[str, str], cpus: int, full: int, memory: int | None) -> None:
    root = tree(tmp_path, files)
    assert (cpu_count(root, visible=8), full_cpu_count(root, visible=8), memory_limit(root)) == (cpus, full, memory)


def test_this_machine_has_a_processor() -> None:
    assert cpu_count() >= 1


def test_execution_wins_over_the_pods_variables_and_those_over_the_environment() -> None:
    environ = {"CPU_THREADS": "2", "MAX_WORKERS": "3", "DEVICE_TYPE": "cpu", "AGENTTASK_GRACE_SECONDS": "7"}
    task = spec(pod={"env": [{"name": "CPU_THREADS", "value": "5"}, {"name": "MAX_WORKERS", "value": "6"}]}, execution={"maxWorkers": 9})
    found = read_settings(task, environ, cpus=8, memory_bytes=None)
    assert (found.cpu_threads, found.max_workers, found.device_type, found.grace_seconds) == (5, 9, "cpu", 7)
    plain = read_settings(spec(), {"CPU_THREADS": "", "DEVICE_TYPE": ""}, cpus=8, memory_bytes=1)  # empty is as good as unset
    assert (plain.cpu_threads, plain.max_workers, plain.device_type, plain.grace_seconds) == (4, None, "auto", 30)


def test_processes_and_the_share_of_a_gpu_follow_the_same_order() -> None:
    environ = {"MAX_PROCESSES": "2", "GPU_MEMORY_FRACTION": "0.5"}
    variables = {"env": [{"name": "MAX_PROCESSES", "value": "3"}, {"name": "GPU_MEMORY_FRACTION", "value": ".25"}]}
    found = [
        read_settings(task, given, cpus=8, memory_bytes=None)
        for task, given in [
            (spec(), {}),
            (spec(), environ),
            (spec(pod=variables), environ),
            (spec(pod=variables, execution={"maxProcesses": 5, "gpuMemoryPercent": 90}), environ),
        ]
    ]
    assert [(each.max_processes, each.gpu_memory_fraction) for each in found] == [(None, 0.8), (2, 0.5), (3, 0.25), (5, 0.9)]


@pytest.mark.parametrize(("raw", "fraction"), [("1", 1.0), ("1.0", 1.0), ("0.01", 0.01), ("", 0.8)])
def test_a_share_is_above_0_and_up_to_1(raw: str, fraction: float) -> None:
    assert read_settings(spec(), {"GPU_MEMORY_FRACTION": raw}, cpus=1, memory_bytes=None).gpu_memory_fraction == fraction


@pytest.mark.parametrize(("cpus", "wanted", "threads"), [(1, 4, 1), (2, 4, 1), (4, 4, 3), (16, 4, 4)])
def test_one_processor_stays_with_the_event_loop(cpus: int, wanted: int, threads: int) -> None:
    assert read_settings(spec(execution={"cpuThreads": wanted}), {}, cpus=cpus, memory_bytes=None).torch_threads == threads


@pytest.mark.parametrize(("cpus", "full", "wanted", "threads"), [(1, 1, 4, 1), (2, 1, 4, 1), (2, 2, 4, 2), (16, 16, 4, 4), (2, 2, 1, 1)])
def test_an_embedding_model_has_every_processor_that_is_given_whole(cpus: int, full: int, wanted: int, threads: int) -> None:
    task = spec(execution={"cpuThreads": wanted})
    assert read_settings(task, {}, cpus=cpus, full_cpus=full, memory_bytes=None).embedding_threads == threads


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"CPU_THREADS": "many"}, "CPU_THREADS: 'many' is no whole number from 1 to 256"),
        ({"MAX_WORKERS": "0"}, "MAX_WORKERS: '0' is no whole"),
        ({"MAX_WORKERS": "²"}, "MAX_WORKERS: '²' is no whole"),
        ({"MAX_WORKERS": "9" * 100_000}, "MAX_WORKERS: '9999"),
        ({"MAX_PROCESSES": "65"}, "MAX_PROCESSES: '65' is no whole number from 1 to 64"),
        ({"GPU_MEMORY_FRACTION": "0"}, "GPU_MEMORY_FRACTION: '0' is no decimal above 0 and up to 1, as 0.8"),
        ({"GPU_MEMORY_FRACTION": "0.0"}, "GPU_MEMORY_FRACTION: '0.0' is no decimal"),
        ({"GPU_MEMORY_FRACTION": "1.1"}, "GPU_MEMORY_FRACTION: '1.1' is no decimal"),
        ({"GPU_MEMORY_FRACTION": "80%"}, "GPU_MEMORY_FRACTION: '80%' is no decimal"),
        ({"GPU_MEMORY_FRACTION": "nan"}, "GPU_MEMORY_FRACTION: 'nan' is no decimal"),
        ({"DEVICE_TYPE": "gpu0"}, "DEVICE_TYPE: 'gpu0' is none of auto, cpu, cuda"),
    ],
)
def test_a_setting_that_is_none_is_refused(environ: dict[str, str], problem: str) -> None:
    with pytest.raises(InvalidTask, match=problem):
        read_settings(spec(), environ, cpus=1, memory_bytes=None)


@pytest.mark.parametrize(
    ("kind", "device_type", "accelerators", "device"),
    [
        pytest.param("cpu", "auto", 0, "cpu", id="cpu class"),
        pytest.param("cpu", "auto", 1, "cpu", id="cpu class on a node with a GPU"),
        pytest.param("cuda", "auto", 1, "cuda", id="gpu class"),
        pytest.param("cuda", "auto", 0, "cuda", id="gpu class whose files we do not see"),
        pytest.param("remote", "auto", 0, "cpu", id="remote class"),
        pytest.param("auto", "auto", 1, "auto", id="laptop with a GPU"),
        pytest.param("auto", "cuda", 1, "cuda", id="laptop, cuda insisted on"),
        pytest.param("auto", "auto", 0, "cpu", id="laptop without"),
        pytest.param("cuda", "cpu", 1, "cpu", id="cpu insisted on"),
    ],
)
def test_models_go_where_the_class_and_the_setting_say(kind: str, device_type: str, accelerators: int, device: str) -> None:
    document = DeviceDocument(kind=kind)
    assert torch_device(FirstClass(), document, device_type=device_type, accelerators=accelerators) == device


def test_a_device_that_is_not_there_is_never_replaced_in_silence() -> None:
    with pytest.raises(DeviceUnavailable, match=r"wished: cuda\): cuda: 0 free"):
        torch_device(FirstClass(), DeviceDocument(kind="cpu"), device_type="cuda", accelerators=0)


def test_accelerators_are_counted_by_their_device_files(tmp_path: Path) -> None:
    tree(tmp_path, {"nvidia0": "", "nvidia1": "", "nvidiactl": "", "nvidia-uvm": "", "kfd": ""})
    assert visible_accelerators(tmp_path) == 3


def test_the_pods_grace_outlasts_the_runners_which_leaves_room_to_write() -> None:
    found = read_settings(spec(), {}, cpus=1, memory_bytes=None)
    assert found.patience_seconds < found.grace_seconds == RUNNER_GRACE_SECONDS < POD_GRACE_SECONDS


def test_switches_are_on_or_off() -> None:
    on = read_settings(spec(), {"AGENTTASK_DEBUG": "1", "AGENTTASK_WORKSPACE_KEPT": "1"}, cpus=1, memory_bytes=None)
    off = read_settings(spec(), {"AGENTTASK_DEBUG": "0", "AGENTTASK_WORKSPACE_KEPT": ""}, cpus=1, memory_bytes=None)
    assert (on.debug, on.workspace_kept, off.debug, off.workspace_kept) == (True, True, False, False)
    with pytest.raises(InvalidTask, match=r"AGENTTASK_DEBUG: 'yes' is neither 1 \(on\) nor 0 \(off\)"):
        read_settings(spec(), {"AGENTTASK_DEBUG": "yes"}, cpus=1, memory_bytes=None)


def test_debugging_is_the_tasks_choice_a_workspace_that_persists_is_not() -> None:
    task = spec(pod={"env": [{"name": "AGENTTASK_DEBUG", "value": "1"}, {"name": "AGENTTASK_WORKSPACE_KEPT", "value": "1"}]})
    found = read_settings(task, {}, cpus=1, memory_bytes=None)
    assert (found.debug, found.workspace_kept) == (True, False)
