"""Whether a device works and in which format a model runs there, what is short of memory, what is missing: torch as a double."""

import builtins
import os
import sys
import types

import pytest

from agenttask.api.errors import DeviceUnavailable, ModelRejected, ModelUnavailable, OutOfMemory, StepFailed
from agenttask.api.model import LocalModel
from agenttask.plugin.engine import EngineConfig
from agenttask_models.device import DeviceSelector, dtype_of, limit_memory
from agenttask_models.libraries import load_torch, load_transformers
from agenttask_models.probe import Accelerator, TorchProbe, nvml_name
from agenttask_models.torch_errors import DeviceLost, with_typed_memory_errors


class OutOfMemoryError(RuntimeError):
    """As torch has it."""


def torch(*, cuda: bool = False, refuses: str = "", bfloat16: bool = True):
    def zeros(*_size, device):
        if refuses:
            raise RuntimeError(f"{refuses}\nCompile with TORCH_USE_CUDA_DSA")

    emptied = []
    return types.SimpleNamespace(
        __version__="2.0-test",
        float32="f32",
        bfloat16="bf16",
        float16="f16",
        zeros=zeros,
        OutOfMemoryError=OutOfMemoryError,
        cuda=types.SimpleNamespace(is_available=lambda: cuda, empty_cache=lambda: emptied.append(1), is_bf16_supported=lambda: bfloat16),
        emptied=emptied,
    )


class Fleet:
    """A probe that sees these accelerators; `broken` ones refuse work."""

    def __init__(self, *free: int, broken: str = "") -> None:
        self.asked = 0
        self._seen = tuple(
            Accelerator(name=f"cuda:{index}", free_bytes=bytes_, total_bytes=80 << 30, label="NVIDIA H100")
            for index, bytes_ in enumerate(free)
        )
        self._broken = broken

    def accelerators(self):
        self.asked += 1
        return self._seen

    def refusal(self, device):
        return "CUDA error: invalid device" if device == self._broken else None


def select(probe, wish, *, percent=0.8, processes=1):
    lines = []
    config = EngineConfig(local=LocalModel(path="/m"), gpu_memory_fraction=percent, device_processes=processes)
    return DeviceSelector(lambda: probe, lines.append).select_device("m", config, wish=wish), lines


@pytest.mark.parametrize(
    ("wish", "probe", "device"),
    [
        ("cpu", Fleet(1), "cpu"),
        ("cuda", Fleet(1 << 30, 3 << 30, 2 << 30), "cuda:1"),
        ("cuda:2", Fleet(1, 3, 2), "cuda:2"),
        ("auto", Fleet(1), "cuda:0"),
        ("auto", Fleet(), "cpu"),
        ("auto", Fleet(1, broken="cuda:0"), "cpu"),
    ],
    ids=["processor", "most memory free", "by number", "auto", "auto without", "auto, broken"],
)
def test_the_device_is_what_is_wished_for(wish, probe, device):
    assert select(probe, wish)[0] == device


def test_a_processor_needs_no_look_at_accelerators():
    probe = Fleet(1)
    select(probe, "cpu")
    assert probe.asked == 0


def test_the_choice_is_told_with_its_memory_and_our_part():
    assert select(Fleet(40 << 30), "cuda", percent=0.5, processes=2)[1] == [
        "model 'm' runs on cuda:0 (NVIDIA H100): 40960 of 81920 MiB free, 20480 MiB are ours"
    ]


def test_auto_says_why_it_is_the_processor():
    assert select(Fleet(1, broken="cuda:0"), "auto")[1] == [
        "model 'm' runs on the processor: device 'cuda:0' is there and refuses work: CUDA error: invalid device"
    ]


@pytest.mark.parametrize(
    ("wish", "probe", "problem"),
    [
        ("mps", Fleet(1), "'mps' is not known"),
        ("cuda:x", Fleet(1), "'cuda:x' is not known"),
        ("cuda", Fleet(), "torch finds no CUDA device; allow class `cpu`"),
        ("cuda:7", Fleet(1, 2), "'cuda:7' is asked for; there are cuda:0, cuda:1"),
        ("cuda", Fleet(1, broken="cuda:0"), "refuses work: CUDA error: invalid device$"),
    ],
    ids=["unknown", "no number", "none there", "not that one", "refusing"],
)
def test_another_device_is_never_taken_in_silence(wish, probe, problem):
    with pytest.raises(DeviceUnavailable, match=problem):
        select(probe, wish)


def probed(*, cuda=True, refuses="", memory=((3, 8),), names=None, uuid="x"):
    """torch's own questions, answered."""
    double = torch(cuda=cuda, refuses=refuses)

    def mem_get_info(index):
        if memory[index] is None:
            raise RuntimeError("device has fallen off the bus")
        return memory[index]

    double.cuda.device_count = lambda: len(memory)
    double.cuda.mem_get_info = mem_get_info
    double.cuda.get_device_properties = lambda _index: types.SimpleNamespace(name="GH200", uuid=uuid)
    return TorchProbe(double)


def test_torch_says_what_there_is_and_a_lost_card_is_none():
    found = probed(memory=((3, 8), None, (1, 4))).accelerators()
    assert [(device.name, device.free_bytes, device.total_bytes, device.label) for device in found] == [
        ("cuda:0", 3, 8, "GH200"),
        ("cuda:2", 1, 4, "GH200"),
    ]
    assert probed(cuda=False).accelerators() == ()


def test_a_device_works_where_one_number_fits():
    assert probed().refusal("cuda:0") is None
    assert probed(refuses="CUDA error: out of order").refusal("cuda:0") == "CUDA error: out of order"


class NVMLError(Exception):
    """As pynvml has it."""


@pytest.mark.parametrize(
    ("known", "name"),
    [({"GPU-x": "NVIDIA A100"}, "NVIDIA A100"), ({"MIG-x": "NVIDIA A100 MIG 1g.5gb"}, "NVIDIA A100 MIG 1g.5gb"), ({}, "")],
)
def test_the_name_is_nvmls_also_of_a_slice(monkeypatch, known, name):
    def handle(uuid):
        if uuid not in known:
            raise NVMLError("not found")
        return known[uuid]

    nvml = types.SimpleNamespace(
        NVMLError=NVMLError, nvmlInit=lambda: None, nvmlDeviceGetHandleByUUID=handle, nvmlDeviceGetName=lambda given: given
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert nvml_name("x") == name


def test_without_nvml_there_is_no_name_and_no_failure(monkeypatch):
    def absent():
        raise NVMLError("Shared library not found")

    monkeypatch.setitem(sys.modules, "pynvml", types.SimpleNamespace(NVMLError=NVMLError, nvmlInit=absent))
    assert nvml_name("x") == ""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvml_name("x") == ""


def test_torchs_allocator_is_held_to_our_part_where_it_allocates():
    double, calls = torch(cuda=True), []
    double.cuda.set_per_process_memory_fraction = lambda *given: calls.append(given)
    config = EngineConfig(local=LocalModel(path="/m"), gpu_memory_fraction=0.8, device_processes=2)
    limit_memory(double, "cpu", config)
    limit_memory(double, "cuda:1", config)
    assert calls == [(0.4, "cuda:1")]


@pytest.mark.parametrize(
    ("wish", "device", "dtype"),
    [
        ("Auto", "cpu", "f32"),
        ("Auto", "cuda:0", "bf16"),
        ("Float32", "cuda", "f32"),
        ("BFloat16", "cpu", "bf16"),
        ("BFloat16", "cuda", "bf16"),
        ("Float16", "cuda", "f16"),
    ],
)
def test_the_format_follows_the_device_unless_the_model_says(wish, device, dtype):
    assert dtype_of(torch(), wish, device) == dtype


def test_an_old_device_gets_float16_and_refuses_bfloat16():
    old = torch(bfloat16=False)
    assert dtype_of(old, "Auto", "cuda:0") == "f16"
    with pytest.raises(ModelRejected, match=r"local\.dtype BFloat16: cuda:0 does not compute in it"):
        dtype_of(old, "BFloat16", "cuda:0")


class AcceleratorError(RuntimeError):
    """As torch has it."""


def test_a_broken_device_is_lost_and_not_short_of_memory():
    def fails():
        raise AcceleratorError("CUDA error: an illegal memory access was encountered\nmore")

    with pytest.raises(DeviceLost, match=r"model 'm' lost its device: CUDA error: an illegal memory access was encountered; the process"):
        with_typed_memory_errors(torch(), "model 'm'", fails)


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB\nmore"),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
    ids=["device", "python", "processor"],
)
@pytest.mark.parametrize("cuda", [True, False])
def test_every_way_to_run_out_of_memory_is_one_error(error, cuda):
    double = torch(cuda=cuda)

    def fails():
        raise error

    with pytest.raises(OutOfMemory, match=r"^model 'm' found no memory .*limits\.memory") as caught:
        with_typed_memory_errors(double, "model 'm'", fails)
    assert "\n" not in str(caught.value)
    assert double.emptied == [1] * cuda


@pytest.mark.parametrize("error", [ModelRejected("no"), StepFailed("no"), RuntimeError("shape mismatch"), ValueError("no")])
def test_other_errors_pass(error):
    def fails():
        raise error

    with pytest.raises(type(error)) as caught:
        with_typed_memory_errors(torch(), "model 'm'", fails)
    assert caught.value is error


@pytest.mark.parametrize(
    ("load", "name"), [(lambda: load_torch(1), "torch"), (load_transformers, "transformers")], ids=["torch", "transformers"]
)
def test_without_the_libraries_the_remedy_is_named(monkeypatch, load, name):
    real = builtins.__import__

    def without(module, *rest):
        if module == name:
            raise ImportError(f"No module named {name!r}")
        return real(module, *rest)

    for variable in (
        "OMP_NUM_THREADS",
        "HF_HUB_OFFLINE",
        "TRANSFORMERS_OFFLINE",
        "HF_HUB_DISABLE_TELEMETRY",
        "TOKENIZERS_PARALLELISM",
        "TQDM_DISABLE",
        "PYTORCH_NVML_BASED_CUDA_CHECK",
        "PYTORCH_ALLOC_CONF",
    ):
        monkeypatch.setenv(variable, "1")  # what the call sets is taken back
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModelUnavailable, match=rf"need {name}, .*install agenttask\[inference\]"):
        load()


@pytest.mark.parametrize("given", [None, "backend:native"], ids=["unset", "set by the image"])
def test_what_torch_reads_at_its_import_is_set_before(monkeypatch, given):
    seen = {}
    real = builtins.__import__

    def recording(module, *rest):
        if module == "torch":
            seen.update(os.environ)
            raise ImportError("not here")
        return real(module, *rest)

    for variable in ("OMP_NUM_THREADS", "PYTORCH_ALLOC_CONF", "PYTORCH_NVML_BASED_CUDA_CHECK"):
        monkeypatch.delenv(variable, raising=False)
    if given is not None:
        monkeypatch.setenv("PYTORCH_ALLOC_CONF", given)
    monkeypatch.setattr(builtins, "__import__", recording)
    with pytest.raises(ModelUnavailable):
        load_torch(3)
    assert (seen["OMP_NUM_THREADS"], seen["PYTORCH_NVML_BASED_CUDA_CHECK"]) == ("3", "1")
    assert seen["PYTORCH_ALLOC_CONF"] == (given or "expandable_segments:True")
