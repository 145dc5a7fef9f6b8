"""Whether a device works and in which format a model runs there, what is short of memory, what is missing: torch as a double."""

import builtins
import types

import pytest

from agenttask.api.errors import DeviceUnavailable, ModelRejected, ModelUnavailable, OutOfMemory, StepFailed
from agenttask_models.device import check_device, dtype_of
from agenttask_models.libraries import load_torch, load_transformers
from agenttask_models.torch_errors import with_typed_memory_errors


class TorchOutOfMemory(RuntimeError):
    """As torch has it."""


def torch(*, cuda: bool = False, refuses: str = ""):
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
        OutOfMemoryError=TorchOutOfMemory,
        cuda=types.SimpleNamespace(is_available=lambda: cuda, empty_cache=lambda: emptied.append(1)),
        emptied=emptied,
    )


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:1"])
def test_a_device_that_works_is_taken(device):
    check_device(torch(cuda=True), device)


def test_a_processor_is_not_even_asked():
    check_device(None, "cpu")


@pytest.mark.parametrize(
    ("device", "double", "problem"),
    [
        ("mps", torch(cuda=True), "'mps' is not known"),
        ("cuda", torch(), "torch 2.0-test finds no CUDA device; allow class `cpu`"),
        ("cuda:7", torch(cuda=True, refuses="CUDA error: invalid device ordinal"), "refuses work: CUDA error: invalid device ordinal$"),
    ],
    ids=["unknown", "none there", "refusing"],
)
def test_another_device_is_never_taken_in_silence(device, double, problem):
    with pytest.raises(DeviceUnavailable, match=problem):
        check_device(double, device)


@pytest.mark.parametrize(
    ("wish", "device", "dtype"),
    [
        ("Auto", "cpu", "f32"),
        ("Auto", "cuda:0", "bf16"),
        ("Float32", "cuda", "f32"),
        ("BFloat16", "cpu", "bf16"),
        ("Float16", "cuda", "f16"),
    ],
)
def test_the_format_follows_the_device_unless_the_model_says(wish, device, dtype):
    assert dtype_of(torch(), wish, device) == dtype


@pytest.mark.parametrize(
    "error",
    [
        TorchOutOfMemory("CUDA out of memory. Tried to allocate 9 GiB\nmore"),
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
    ):
        monkeypatch.setenv(variable, "1")  # what the call sets is taken back
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModelUnavailable, match=rf"need {name}, .*install agenttask\[inference\]"):
        load()
