"""The batch around the library's own: what it asks of it, and what becomes of its errors; the library as a double."""

import types

import pytest

from agenttask.api.errors import ModelRejected, OutOfMemory
from agenttask_models import batch as batch_module
from agenttask_models.batch import Batch
from agenttask_models.memory import CachePlan


class Batching:
    """transformers' continuous batching, as far as it is used."""

    def __init__(self, *, error=None):
        self.error = error
        self.denial = None
        self.running = False
        self.joined = 0
        self.accepts = True
        self.calls = []
        self.output_router = types.SimpleNamespace(result_handlers={})
        self.background_thread_status = types.SimpleNamespace(fatal_error=None, can_accept_new_requests=lambda: self.denial)

    def warmup(self):
        if self.error is not None:
            raise self.error

    def start(self):
        self.running = True

    def is_running(self):
        return self.running

    def join(self, _since, _timeout):
        self.joined += 1
        self.running = False
        self.background_thread_status.fatal_error = MemoryError("full")

    def register_result_handler(self, request, handler):
        self.output_router.result_handlers[request] = handler

    def add_request(self, prompt, **more):
        self.calls.append((prompt, more))
        return more["request_id"] if self.accepts else None

    def cancel_request(self, request):
        self.calls.append(request)

    def stop(self, **_more):
        self.running = False

    def destroy(self):
        self.calls.append("destroyed")


@pytest.fixture
def made(monkeypatch):
    """A batch, and what it made of the library."""
    monkeypatch.setattr(batch_module, "request_sampler", lambda *_given: "sampler")
    inside = []
    errors = []

    def init(*, generation_config, continuous_batching_config):
        inside.append(Batching(error=errors.pop() if errors else None))
        inside[-1].configs = (generation_config, continuous_batching_config)
        return inside[-1]

    transformers = types.SimpleNamespace(
        GenerationConfig=lambda **given: given,
        ContinuousBatchingConfig=lambda **given: given,
        generation=types.SimpleNamespace(continuous_batching=types.SimpleNamespace(cb_logits_processors=None)),
    )
    emptied = []
    torch = types.SimpleNamespace(cuda=types.SimpleNamespace(is_available=lambda: True, empty_cache=lambda: emptied.append(1)))
    model = types.SimpleNamespace(device=types.SimpleNamespace(type="cpu"), init_continuous_batching=init)
    plan = CachePlan(blocks=20, page=32, token_bytes=10)
    batch = Batch("m", model, plan, slots=3, stops=(5,), torch=torch, transformers=transformers)
    return types.SimpleNamespace(batch=batch, inside=inside, errors=errors, emptied=emptied)


def submit(batch, **more) -> bool:
    return batch.submit("r", [1], **{"max_tokens": 4, "temperature": None, "seed": 1, "handler": print, **more})


def test_the_library_gets_our_sizes_and_never_finds_its_own(made):
    made.batch.open()
    generation, config = made.inside[0].configs
    assert (config["num_blocks"], config["page_size"], config["max_batch_tokens"], config["max_requests_per_batch"]) == (20, 32, 256, 3)
    assert (generation["do_sample"], generation["eos_token_id"], config["auto_switch_to_flash"]) == (False, [5], False)
    assert (made.batch.tokens, made.batch.memory_bytes, made.batch.problem()) == (640, 6400, None)


@pytest.mark.parametrize(
    ("error", "kind", "problem"),
    [
        (ValueError("Invalid layer type: mamba"), ModelRejected, r"cannot be batched: Invalid layer type: mamba; layers need attention"),
        (MemoryError("footprint"), OutOfMemory, "the attention cache of model 'm' found no memory .footprint."),
        (RuntimeError("shape"), RuntimeError, "shape"),
    ],
    ids=["layers", "memory", "other"],
)
def test_what_the_library_refuses_is_typed(made, error, kind, problem):
    made.errors.append(error)
    with pytest.raises(kind, match=problem):
        made.batch.open()


def test_a_request_carries_its_sampling_only_where_it_samples(made):
    made.batch.open()
    assert submit(made.batch)
    assert submit(made.batch, temperature=0.0)
    assert submit(made.batch, temperature=1)
    greedy, cold, warm = (more for _, more in made.inside[0].calls)
    assert "temperature" not in greedy | cold
    assert (warm["temperature"], type(warm["temperature"]), warm["seed"] > 0) == (1.0, float, True)


def test_a_batch_that_takes_nothing_more_says_so_and_keeps_no_handler(made):
    assert not submit(made.batch)  # not opened
    made.batch.open()
    made.inside[0].accepts = False
    assert not submit(made.batch)
    assert made.inside[0].output_router.result_handlers == {}
    made.inside[0].denial = "The background thread is stopping."
    assert not submit(made.batch)


def test_a_cancelled_request_leaves_no_handler(made):
    made.batch.cancel("r")  # nothing to cancel
    made.batch.open()
    submit(made.batch)
    made.batch.cancel("r")
    assert (made.inside[0].calls[-1], made.inside[0].output_router.result_handlers) == ("r", {})


def test_the_reason_is_known_once_the_thread_has_ended(made):
    assert str(made.batch.problem()) == str(made.batch.settle()) == "the batch is closed"
    made.batch.open()
    assert made.batch.settle() is None
    made.inside[0].denial = "stopping"
    assert str(made.batch.problem()) == "the batch is ending"
    assert isinstance(made.batch.settle(), MemoryError)
    assert made.inside[0].joined == 1


def test_a_thread_that_ended_without_a_word_is_a_problem(made):
    made.batch.open()
    made.inside[0].running = False
    assert made.batch.problem() is not None


def test_each_rebuilding_halves_the_cache_down_to_a_few_blocks(made):
    made.batch.open()
    sizes = []
    for _ in range(3):
        made.batch.rebuild()
        sizes.append(made.inside[-1].configs[1]["num_blocks"])
    assert sizes == [10, 8, 8]
    assert all("destroyed" in each.calls for each in made.inside[:-1])


def test_closing_frees_the_devices_memory_once(made):
    made.batch.open()
    made.batch.close()
    made.batch.close()
    assert (made.emptied, made.inside[0].calls) == ([1], ["destroyed"])
