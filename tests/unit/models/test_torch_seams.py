"""What is asked of torch, with a torch that is scripted: devices, number formats, memory; and its absence."""

import sys
from types import SimpleNamespace

import pytest

from agenttask.api.errors import DeviceUnavailable, ModelUnavailable, OutOfMemory, StepFailed
from agenttask_models.device import check_device, dtype_of
from agenttask_models.libraries import load_torch, load_transformers
from agenttask_models.torch_errors import with_typed_memory_errors


class FakeOutOfMemoryError(RuntimeError):
    pass


class FakeTorch:
    __version__ = "2.99"
    float32, bfloat16, float16 = "f32", "bf16", "f16"
    OutOfMemoryError = FakeOutOfMemoryError

    def __init__(self, *, cuda=False, broken=False):
        self.emptied = 0
        self.broken = broken
        self.cuda = SimpleNamespace(is_available=lambda: cuda, empty_cache=self._empty)

    def _empty(self):
        self.emptied += 1

    def zeros(self, size, *, device):
        if self.broken:
            raise RuntimeError("CUDA error: out of order\ndetails")
        return [0.0] * size


def raising(error):
    def function():
        raise error

    return function


def test_a_processor_always_works():
    check_device(FakeTorch(), "cpu")


def test_cuda_that_is_there_works():
    check_device(FakeTorch(cuda=True), "cuda")
    check_device(FakeTorch(cuda=True), "cuda:1")


@pytest.mark.parametrize(
    ("torch", "device", "message"),
    [
        (FakeTorch(), "cuda", r"'cuda' is asked for, and torch 2\.99 finds no CUDA device"),
        (FakeTorch(cuda=True, broken=True), "cuda", r"refuses work: CUDA error: out of order$"),
        (FakeTorch(), "tpu", r"'tpu' is not known"),
    ],
    ids=["absent", "broken", "unknown"],
)
def test_a_device_that_does_not_work_is_an_error_and_never_another_device(torch, device, message):
    with pytest.raises(DeviceUnavailable, match=message):
        check_device(torch, device)


@pytest.mark.parametrize(
    ("wish", "device", "dtype"),
    [("Auto", "cpu", "f32"), ("Auto", "cuda", "bf16"), ("Float32", "cuda", "f32"), ("BFloat16", "cpu", "bf16"), ("Float16", "cuda", "f16")],
)
def test_number_formats(wish, device, dtype):
    assert dtype_of(FakeTorch(), wish, device) == dtype


@pytest.mark.parametrize(
    "error",
    [
        FakeOutOfMemoryError("CUDA out of memory. Tried\nmore"),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["cuda", "python", "cpu"],
)
def test_memory_that_is_gone_is_typed_and_the_cache_is_emptied(error):
    torch = FakeTorch(cuda=True)
    with pytest.raises(OutOfMemory, match="loading found no memory") as caught:
        with_typed_memory_errors(torch, "loading", raising(error))
    assert "more\n" not in str(caught.value)
    assert torch.emptied == 1


@pytest.mark.parametrize("error", [RuntimeError("shape mismatch"), StepFailed("ours"), ValueError("x")])
def test_other_errors_stay_as_they_are(error):
    with pytest.raises(type(error), match=str(error)):
        with_typed_memory_errors(FakeTorch(), "loading", raising(error))


@pytest.mark.parametrize(("name", "load"), [("torch", lambda: load_torch(1)), ("transformers", load_transformers)])
def test_a_library_that_is_missing_is_named(name, load, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModelUnavailable, match=f"local models need {name}"):
        load()
