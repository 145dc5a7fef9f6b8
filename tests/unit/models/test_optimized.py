"""What `optimized` refuses before it loads anything heavy, and what its converter copies; torch as a double."""

import asyncio
import json
import threading
import types

import pytest

from agenttask.api.errors import ModelRejected, ModelUnavailable, OutOfMemory
from agenttask.api.model import LocalModel
from agenttask.plugin.engine import EngineConfig
from agenttask_models import agenttask_model_factories, conversion, convert, loading, optimized
from agenttask_models.conversion import ready_folder
from agenttask_models.folder import ModelFolder
from agenttask_models.optimized import OptimizedFactory
from agenttask_models.probe import Accelerator
from agenttask_models.text_model import TextModel


def model_in(folder, architecture="LlamaForCausalLM", *, shape=(1024, 1024), dtype="F32", **settings):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"architectures": [architecture]} | settings))
    header = json.dumps({"w": {"dtype": dtype, "shape": shape, "data_offsets": [0, 0]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    return folder


@pytest.fixture
def torch(monkeypatch):
    """A double in torch's place: enough to get to the loading itself."""
    double = types.SimpleNamespace(float32=types.SimpleNamespace(itemsize=4), OutOfMemoryError=MemoryError, __version__="0")
    double.cuda = types.SimpleNamespace(is_available=lambda: False)
    monkeypatch.setattr(optimized, "load_torch", lambda _threads: double)
    monkeypatch.setattr(loading, "load_transformers", lambda: None)
    return double


def config_of(path, *, limit=None, **local):
    return EngineConfig(local=LocalModel(path=str(path), **local), memory_bytes=limit)


def create(path, *, task="Chat", memory=None, cache="/nonexistent"):
    return OptimizedFactory({"AGENTTASK_MODEL_CACHE": str(cache)}).create("m", "cpu", config_of(path, task=task, limit=memory))


def test_the_plugin_gives_the_factory():
    assert agenttask_model_factories() == {"optimized": OptimizedFactory}


@pytest.mark.parametrize(
    ("architecture", "task", "problem"),
    [
        ("BertModel", "Chat", "no causal language model .BertModel.; local.task is Chat"),
        ("LlamaForCausalLM", "Embedding", "is a language model .LlamaForCausalLM.; local.task is Embedding"),
    ],
)
async def test_a_model_of_another_kind_is_refused(tmp_path, architecture, task, problem):
    with pytest.raises(ModelRejected, match=problem):
        await create(model_in(tmp_path, architecture), task=task)


async def test_a_gguf_file_answers_and_does_not_embed(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelRejected, match=r"is a language model .model\.gguf."):
        await create(tmp_path, task="Embedding")


async def test_pooling_other_than_mean_is_refused(tmp_path):
    folder = model_in(tmp_path, "BertModel")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(
        '{"pooling_mode_cls_token": true, "include_prompt": true, "pooling_mode_mean_tokens": false}'
    )
    with pytest.raises(ModelRejected, match="pools by cls_token; only mean"):
        await create(folder, task="Embedding")


async def test_weights_that_do_not_fit_are_refused_before_the_kernel_kills(tmp_path, torch):
    with pytest.raises(OutOfMemory, match=r"take 4 MiB, the container may use 1 MiB; raise .*or set local\.dtype to BFloat16"):
        await create(model_in(tmp_path), memory=1 << 20)


@pytest.mark.parametrize("error", [OSError("no tokenizer"), ValueError("bad shape"), KeyError("layer")], ids=["os", "value", "key"])
async def test_files_that_do_not_fit_together_are_refused(tmp_path, torch, monkeypatch, error):
    def load(*_args, **_more):
        raise error

    monkeypatch.setattr(TextModel, "load", load)
    with pytest.raises(ModelRejected, match="cannot be loaded: "):
        await create(model_in(tmp_path), memory=1 << 30)


async def test_gguf_without_its_packages_names_them(tmp_path, torch, monkeypatch):
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(conversion, "_NEEDED", ("gguf_that_is_not_here", "accelerate_neither"))
    with pytest.raises(ModelUnavailable, match=r"needs gguf_that_is_not_here and accelerate_neither; install agenttask\[gguf\]"):
        await create(tmp_path, cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_converted_file_is_found_the_next_time(tmp_path, monkeypatch):
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    made = []

    def dequantise(_source, gguf, target):
        made.append(gguf)
        target.mkdir()
        (target / "config.json").write_text("{}")

    monkeypatch.setattr(conversion, "_dequantise", dequantise)
    found = ModelFolder(path=tmp_path, gguf="model.gguf")
    first, second = (ready_folder(found, tmp_path / "cache") for _ in range(2))
    assert first == second
    assert made == ["model.gguf"]
    (tmp_path / "model.gguf").write_bytes(b"GGUF, another")
    assert ready_folder(found, tmp_path / "cache") != first


def test_a_folder_that_is_ready_is_left_where_it_is(tmp_path):
    found = ModelFolder(path=tmp_path)
    assert ready_folder(found, tmp_path / "cache") is found


def test_another_process_that_was_faster_wins(tmp_path):
    model_in(tmp_path / "target", "First")
    (tmp_path / "target" / "more").touch()
    conversion.convert(ModelFolder(path=model_in(tmp_path / "source", "Second")), tmp_path / "target")
    assert "First" in (tmp_path / "target" / "config.json").read_text()


def test_a_folder_that_holds_something_else_is_filled(tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "lost+found").mkdir()
    conversion.convert(ModelFolder(path=model_in(tmp_path / "source")), tmp_path / "target")
    assert (tmp_path / "target" / "config.json").is_file()


def test_the_converter_copies_what_a_model_needs_and_says_how_much(tmp_path, capsys):
    source = model_in(tmp_path / "source")
    for name in ("tokenizer.json", "README.md", "1_Pooling/config.json"):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text("{}")
    assert convert.main([str(source), str(tmp_path / "made")]) == 0
    found = sorted(str(path.relative_to(tmp_path / "made")) for path in (tmp_path / "made").rglob("*") if path.is_file())
    assert found == ["1_Pooling/config.json", "config.json", "model.safetensors", "tokenizer.json"]
    assert capsys.readouterr().out == f"{source} is in {tmp_path / 'made'}: 0 MB\n"


def test_the_converter_says_what_is_missing(tmp_path, capsys):
    assert convert.main(["no-such-model", str(tmp_path / "made")]) == 1
    assert "'no-such-model' is not installed" in capsys.readouterr().err


# ---- what is known before anything is loaded


SHAPE = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 64}


async def identify(path, device="cpu", *, probe=None, **local):
    factory = OptimizedFactory({"AGENTTASK_MODEL_CACHE": str(path / "cache")}, None if probe is None else lambda: probe)
    return await factory.identify("m", device, config_of(path, **local))


async def test_an_engine_is_known_by_its_files_and_costs_at_least_weights_and_a_small_cache(tmp_path):
    found = await identify(model_in(tmp_path, **SHAPE))
    token = 4 * (16 * (2 * 2 * 2 + 2 * 4 + 2) + 256)
    assert (found.dtype, found.device, found.quantisation) == ("Float32", "cpu", "none")
    assert found.memory_bytes == 4 * 1024 * 1024 + 8 * 32 * token
    assert found.source.startswith(f"{tmp_path}@")
    asked = await identify(tmp_path, dtype="BFloat16", memory="1Mi")
    assert (asked.dtype, asked.memory_bytes) == ("BFloat16", 2 * 1024 * 1024 + (1 << 20))


async def test_a_configuration_too_strange_to_tell_is_left_to_the_loading(tmp_path):
    assert (await identify(model_in(tmp_path))).memory_bytes == 4 << 20


async def test_an_embedding_model_has_no_cache(tmp_path):
    assert (await identify(model_in(tmp_path, "BertModel", **SHAPE), task="Embedding")).memory_bytes == 4 << 20


async def test_a_gguf_file_is_known_by_its_content_and_guessed_until_it_is_converted(tmp_path):
    (tmp_path / "smol.Q4_1.gguf").write_bytes(b"GGUF" * 100)
    found = await identify(tmp_path)
    assert (found.memory_bytes, found.quantisation) == (400 * 7, "gguf")
    (tmp_path / "smol.Q4_1.gguf").write_bytes(b"GGUF" * 101)
    assert (await identify(tmp_path)).source != found.source


class OneCard:
    """A probe with one accelerator."""

    def accelerators(self):
        return (Accelerator(name="cuda:0", free_bytes=1 << 30, total_bytes=10 << 30),)

    def refusal(self, device):
        return None


async def test_the_device_is_chosen_before_and_says_what_it_has_for_us(tmp_path):
    found = await identify(model_in(tmp_path), "cuda", probe=OneCard())
    assert (found.device, found.device_bytes) == ("cuda:0", 8 << 30)


async def test_a_process_of_its_own_chooses_for_itself(tmp_path):
    found = await identify(model_in(tmp_path), "cuda", probe=OneCard(), isolation="Process")
    assert (found.device, found.device_bytes) == ("cuda", None)


# ---- loading


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"dtype": "F8_E4M3"}, "weights of type F8_E4M3"),
        ({"quantization_config": {"quant_method": "awq"}}, r"is quantised .awq.; use a plain checkpoint"),
    ],
    ids=["eight bits", "awq"],
)
async def test_quantised_weights_are_refused(tmp_path, torch, more, problem):
    with pytest.raises(ModelRejected, match=problem):
        await create(model_in(tmp_path, **more))


async def test_on_a_device_weights_are_held_against_what_it_has_for_us(tmp_path, torch):
    fractions = []
    torch.bfloat16 = types.SimpleNamespace(itemsize=2)
    torch.cuda.is_bf16_supported = lambda: True
    torch.cuda.mem_get_info = lambda _device: (3 << 20, 4 << 20)
    torch.cuda.memory_reserved = lambda _device: 2 << 20
    torch.cuda.set_per_process_memory_fraction = lambda *given: fractions.append(given)
    factory = OptimizedFactory({}, OneCard)
    with pytest.raises(OutOfMemory, match="take 2 MiB, the container may use 1 MiB"):
        await factory.create("m", "auto", config_of(model_in(tmp_path)))
    assert fractions == [(0.8, "cuda:0")]


async def test_a_load_that_nobody_waits_for_lets_go_of_what_it_made(tmp_path, torch, monkeypatch):
    started, go, closed = threading.Event(), threading.Event(), threading.Event()

    def load(*_args):
        started.set()
        go.wait(60)
        return loading.Loaded(model=None, batch=types.SimpleNamespace(close=closed.set), device="cpu", weights=0)

    monkeypatch.setattr(optimized, "load", load)
    call = asyncio.ensure_future(create(model_in(tmp_path)))
    await asyncio.to_thread(started.wait, 60)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    go.set()
    assert await asyncio.to_thread(closed.wait, 60)
