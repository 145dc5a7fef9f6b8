"""The resource monitor: what a sample says, what is summed up, and that watching costs next to nothing."""

import asyncio
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from agenttask.plugin.threading import ThreadingState
from agenttask.runner.cgroup import cpu_seconds, has_quota, memory_used
from agenttask.runner.gpu_memory import GpuMemory, nvidia_probe, unknown
from agenttask.runner.resources import INTERVAL_SECONDS, ResourceMonitor, ResourceSample
from agenttask.runner.usage_probe import Reading, UsageProbe


def reading(cpu: float, memory: int, *, gpu: GpuMemory | None = None, processes: int = 0) -> Reading:
    return Reading(
        cpu_seconds=cpu, memory_bytes=memory << 20, memory_total=1000 << 20, gpu=gpu, open_files=7, threads=3, processes=processes
    )


class Seen:
    def __init__(self) -> None:
        self.samples: list[ResourceSample] = []
        self.first = asyncio.Event()

    def sampled(self, sample: ResourceSample) -> None:
        self.samples.append(sample)
        self.first.set()


async def test_a_sample_and_the_summary_of_two() -> None:
    readings = iter([reading(1, 100), reading(2, 200, gpu=GpuMemory(used=1 << 30, total=4 << 30), processes=2), reading(5, 400)])
    times = iter([0.0, 10.0, 20.0])
    seen = Seen()
    monitor = ResourceMonitor(
        lambda: next(readings),
        cpus=2,
        state=lambda: ThreadingState(queued=4, threads=2, processes=1),
        observers=[seen],
        interval_seconds=600,
        clock=lambda: next(times),
    )
    async with monitor:
        sample = await monitor.sample()
        text = await monitor.summary()
    assert sample is not None
    assert sample == seen.samples[0]
    assert (sample.cpu_percent, sample.memory_bytes, sample.memory_percent) == (5.0, 200 << 20, 20.0)
    assert (sample.gpu_memory_bytes, sample.gpu_memory_percent) == (1 << 30, 25.0)
    assert (sample.open_files, sample.threads, sample.processes) == (7, 3, 2)
    assert (sample.queued, sample.working_threads, sample.working_processes) == (4, 2, 1)
    head, _, tail = text.partition("; loop lag p99 ")
    assert head == "cpu 10 % (peak 15 %) of 2 processors; memory 300 MiB (peak 400 MiB, 40 %); GPU memory 1024 MiB (peak 1024 MiB)"
    assert tail.partition("; ")[2] == "at most 7 open files, 3 threads; at most 2 child processes, 4 functions queued"


async def test_it_samples_by_itself_until_the_end() -> None:
    seen = Seen()
    async with ResourceMonitor(lambda: reading(0, 1), cpus=1, observers=[seen], interval_seconds=0.001):
        async with asyncio.timeout(30):
            await seen.first.wait()
    count = len(seen.samples)
    await asyncio.sleep(0.02)
    assert len(seen.samples) == count
    assert seen.samples[0].gpu_memory_percent is None


async def test_a_system_that_tells_nothing_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ResourceMonitor(lambda: None, cpus=1) as monitor:
        assert await monitor.sample() is None
        assert await monitor.summary() == "not known: the system told nothing"
    probe = UsageProbe()
    monkeypatch.setattr("psutil.Process.num_fds", refuse_files)
    assert probe() is None


def refuse_files(*_: object) -> int:
    raise OSError(24, "Too many open files")


async def test_a_loop_that_was_blocked_shows() -> None:
    async with ResourceMonitor(lambda: reading(0, 1), cpus=1, interval_seconds=600) as monitor:
        await asyncio.sleep(0)
        time.sleep(0.3)  # noqa: ASYNC251 - what is measured
        await asyncio.sleep(0.15)
        sample = await monitor.sample()
    assert sample is not None
    assert sample.lag_max_seconds >= 0.15


async def test_watching_costs_less_than_half_a_percent_of_a_core() -> None:
    async with ResourceMonitor(UsageProbe(), cpus=1, interval_seconds=600) as monitor:
        await monitor.sample()
        before = time.process_time()
        for _ in range(20):
            await monitor.sample()
        a_sample = (time.process_time() - before) / 20
    assert a_sample / INTERVAL_SECONDS < 0.005, f"{a_sample * 1000:.1f} ms a sample"


def test_the_probe_tells_of_this_process() -> None:
    with Path("/dev/null").open():
        found = UsageProbe()()
    assert found is not None
    assert found.cpu_seconds > 0
    assert 0 < found.memory_bytes <= found.memory_total
    assert (found.open_files > 3, found.threads >= 1, found.gpu) == (True, True, None)


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


V2 = {
    "cpu.max": "100000 100000",
    "cpu.stat": "usage_usec 2500000\nuser_usec 1\n",
    "memory.max": "1000",
    "memory.current": "600\n",
    "memory.stat": "anon 1\ninactive_file 100\n",
}
V1 = {
    "cpu/cpu.cfs_quota_us": "100000",
    "cpu/cpu.cfs_period_us": "100000",
    "cpuacct/cpuacct.usage": "2500000000",
    "memory/memory.limit_in_bytes": "1000",
    "memory/memory.usage_in_bytes": "600",
    "memory/memory.stat": "cache 3\ntotal_inactive_file 100\n",
}


@pytest.mark.parametrize("files", [pytest.param(V2, id="v2"), pytest.param(V1, id="v1")])
def test_a_container_with_limits_tells_its_own_use(tmp_path: Path, files: dict[str, str]) -> None:
    root = tree(tmp_path, files)
    assert (has_quota(root), cpu_seconds(root), memory_used(root)) == (True, 2.5, 500)
    found = UsageProbe(root=root)()
    assert found is not None
    assert (found.cpu_seconds, found.memory_bytes, found.memory_total) == (2.5, 500, 1000)


def test_without_limits_the_processes_are_summed_up(tmp_path: Path) -> None:
    assert (has_quota(tmp_path), cpu_seconds(tmp_path), memory_used(tmp_path)) == (False, None, None)
    root = tree(tmp_path, {"memory.current": "600", "cpu.stat": "usage_usec 2500000", "memory.max": "max"})
    assert memory_used(root) == 600
    found = UsageProbe(root=root)()
    assert found is not None
    assert found.memory_bytes > 1 << 20
    assert found.cpu_seconds != 2.5


class NVMLError(Exception):
    pass


def nvml(**functions: object) -> ModuleType:
    made = ModuleType("fake_nvml")
    made.__dict__.update(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetMemoryInfo=lambda index: SimpleNamespace(used=index + 1, total=10),
    )
    made.__dict__.update(functions)
    return made


def refuse(*_: object) -> None:
    raise NVMLError


def test_the_memory_of_all_devices_is_one_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fake_nvml", nvml())
    assert nvidia_probe(2, module="fake_nvml")() == GpuMemory(used=3, total=20)


def test_where_nobody_tells_it_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert nvidia_probe(0) is unknown
    assert nvidia_probe(1, module="no_such_library") is unknown
    monkeypatch.setitem(sys.modules, "fake_nvml", nvml(nvmlInit=refuse))
    assert nvidia_probe(1, module="fake_nvml") is unknown
    monkeypatch.setitem(sys.modules, "fake_nvml", nvml(nvmlDeviceGetMemoryInfo=refuse))
    assert nvidia_probe(1, module="fake_nvml")() is None
    monkeypatch.setitem(sys.modules, "fake_nvml", nvml(nvmlDeviceGetCount=lambda: 0))
    assert (nvidia_probe(1, module="fake_nvml")(), unknown()) == (None, None)
