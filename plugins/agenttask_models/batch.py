"""One running batch of a language model: transformers' continuous batching, in one thread of its own, under our memory plan.

Requests join and leave between steps, share the blocks of equal beginnings, and stream their tokens to the event loop. Any
error of a step ends the library's thread for good and fails all that ran; `rebuild` makes a new one with half the cache.
"""

import gc
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from agenttask.api.errors import ModelRejected
from agenttask_models.memory import FEWEST_BLOCKS, CachePlan
from agenttask_models.sampling import request_sampler, seed_of
from agenttask_models.torch_errors import with_typed_memory_errors

CPU_PAGE, CPU_STEP_TOKENS = 32, 256
CUDA_PAGE, CUDA_STEP_TOKENS = 256, 2048
"""Tokens in a block, and in one step: a long prompt is read in several steps, so that it holds running answers up less."""
_END_SECONDS = 60.0
"""A step that runs is waited for; a device that hangs is not."""
_FREE_MEMORY_PERCENT = 0.95
"""The library's own check, of what the machine or the device has free; ours, which is stricter, comes before."""


class Result(Protocol):
    """What the batch says of a request after a step."""

    generated_tokens: Sequence[int]
    error: str | None

    def is_finished(self) -> bool:
        """Nothing more comes."""
        ...


class Batch:
    """The batch of one model; all but `submit` and `cancel` is blocking."""

    def __init__(self, name: str, model: Any, plan: CachePlan, *, slots: int, stops: Sequence[int], torch: Any, transformers: Any) -> None:
        self._name = name
        self._model = model
        self._plan = plan
        self._slots = slots
        self._stops = list(stops)
        self._torch = torch
        self._transformers = transformers
        self._batching: Any = None

    @property
    def tokens(self) -> int:
        """How many the cache holds, of all requests together."""
        return self._plan.tokens

    @property
    def memory_bytes(self) -> int:
        """What the cache takes when it is full."""
        return self._plan.memory_bytes

    def open(self) -> None:
        """Allocate the cache, and start the thread.

        Raises:
            OutOfMemory: there is no room for the cache.
            ModelRejected: a model of this kind cannot be batched.
        """
        try:
            with_typed_memory_errors(self._torch, f"the attention cache of model {self._name!r}", self._open)
        except (ValueError, AttributeError, NotImplementedError, KeyError) as error:
            raise ModelRejected(
                f"model {self._name!r} cannot be batched: {error}; layers need attention (full, sliding or grouped), and "
                "state-space and encoder-decoder models are not supported"
            ) from error

    def _open(self) -> None:
        transformers, on_cpu = self._transformers, self._model.device.type == "cpu"
        self._batching = self._model.init_continuous_batching(
            generation_config=transformers.GenerationConfig(do_sample=False, eos_token_id=self._stops or -1, pad_token_id=0),
            continuous_batching_config=transformers.ContinuousBatchingConfig(
                page_size=self._plan.page,
                num_blocks=self._plan.blocks,
                max_batch_tokens=CPU_STEP_TOKENS if on_cpu else CUDA_STEP_TOKENS,
                max_requests_per_batch=self._slots,
                max_memory_percent=_FREE_MEMORY_PERCENT,
                allow_block_sharing=True,
                auto_switch_to_flash=not on_cpu,
            ),
        )
        processors = transformers.generation.continuous_batching.cb_logits_processors
        self._batching.logit_processor = request_sampler(self._torch, processors, transformers)
        self._batching.warmup()  # makes the cache here, where its errors are ours, and not in the thread
        self._batching.start()

    def submit(
        self, request: str, prompt: list[int], *, max_tokens: int, temperature: float | None, seed: int, handler: Callable[[Result], None]
    ) -> bool:
        """Add a request, and have `handler` called on the running loop after each of its tokens; False: the batch has ended."""
        batching = self._batching
        if batching is None or self.problem() is not None:
            return False
        sampling: dict[str, Any] = {"temperature": float(temperature), "seed": seed_of(seed)} if temperature else {}
        batching.register_result_handler(request, handler)
        accepted = batching.add_request(prompt, request_id=request, max_new_tokens=max_tokens, streaming=True, **sampling)
        if accepted is None:
            self._forget(request)
        return accepted is not None

    def cancel(self, request: str) -> None:
        """Free the request's slot and cache before the next step; who waits for it is told nothing."""
        if self._batching is not None:
            self._batching.cancel_request(request)
            self._forget(request)

    def _forget(self, request: str) -> None:
        """The library drops a handler with the last result only, and a request that was cancelled has none."""
        self._batching.output_router.result_handlers.pop(request, None)

    def problem(self) -> BaseException | None:
        """What keeps the batch from taking requests; None where nothing does. Does not wait: the reason may still be on its way."""
        if self._batching is None:
            return RuntimeError("the batch is closed")
        status = self._batching.background_thread_status
        error: BaseException | None = status.fatal_error
        if error is not None:
            return error
        if status.can_accept_new_requests() is not None or not self._batching.is_running():
            return RuntimeError("the batch is ending")
        return None

    def settle(self) -> BaseException | None:
        """`problem`, once the thread of a batch that is ending has ended: its requests are told before its error is known."""
        if self._batching is not None and self.problem() is not None:
            self._batching.join(time.perf_counter(), _END_SECONDS)
        return self.problem()

    def rebuild(self) -> None:
        """A new batch with half the cache; errors are those of `open`."""
        self.close()
        self._plan = msgspec.structs.replace(self._plan, blocks=max(FEWEST_BLOCKS, self._plan.blocks // 2))
        self.open()

    def close(self) -> None:
        """Stop the thread, fail what runs, and free the cache. A second time does nothing."""
        batching, self._batching = self._batching, None
        if batching is None:
            return
        batching.stop(block=True, hard_stop=True)
        batching.destroy()
        batching.background_thread_status.fatal_error = None  # its traceback holds tensors
        del batching
        gc.collect()
        if self._torch.cuda.is_available():
            self._torch.cuda.empty_cache()
