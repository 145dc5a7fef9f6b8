"""The probes are the loop's own: one that is stuck answers none."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from agenttask.controller.probes import serve


def asked(port: int, path: str, seconds: float) -> int | None:
    """The status that the kubelet would see within this time."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/{path}", timeout=seconds) as answer:
            return int(answer.status)
    except (TimeoutError, URLError) as error:
        return getattr(error, "code", None)


@pytest.mark.parametrize("path", ["healthz", "readyz"])
async def test_a_loop_that_is_stuck_answers_no_probe_and_does_again_when_it_goes_on(path: str) -> None:
    async with serve(0, alive=lambda: None, ready=lambda: None) as port:
        before = await asyncio.to_thread(asked, port, path, 60.0)
        with ThreadPoolExecutor(1) as kubelet:
            meanwhile = kubelet.submit(asked, port, path, 0.05).result(60)  # the loop stands still, as in a callback that never ends
        after = await asyncio.to_thread(asked, port, path, 60.0)
    assert (before, meanwhile, after) == (200, None, 200)


async def test_what_is_wrong_is_told_with_503_and_what_is_missing_beside_a_good_answer() -> None:
    problem: list[str] = []
    async with serve(0, alive=lambda: None, ready=lambda: next(iter(problem), None), missing=lambda: "namespace a: forbidden") as port:
        good = await asyncio.to_thread(asked, port, "readyz", 60.0)
        problem.append("the first lists are not complete")
        bad = await asyncio.to_thread(asked, port, "readyz", 60.0)
        alive = await asyncio.to_thread(asked, port, "healthz", 60.0)
    assert (good, bad, alive) == (200, 503, 200)
