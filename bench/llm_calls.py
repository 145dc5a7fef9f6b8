"""Calls to a remote model: our client with all its wrappers beside bare aiohttp, the official SDK, and a client made anew for each call.

    python bench/llm_calls.py [--calls 200] [--rounds 2]

Ten at once, answers after 50 ms +- 50 % as the request asks. Each contender is a process of its own, on loopback and (as root, with
gcc and node) behind a line of 20 ms; the order turns in each round. Means and CPU of the second half of the calls: warm.
"""

import argparse
import asyncio
import json
import random
import resource
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.net.place import Place, far_away, lacking, loopback

AT_ONCE, DELAY_MS, ONE_WAY_MS = 10, 50, 10
PROMPT = "Tell me what the operator reconciles. " * 60
BODY = {"model": "mock", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 256}
Call = Callable[[float], Awaitable[None]]


def context(roots: str) -> ssl.SSLContext:
    """Trusts the endpoint."""
    return ssl.create_default_context(cafile=roots)


async def post(session: Any, url: str, delay: float, **options: Any) -> None:
    """One call by aiohttp, its answer decoded."""
    headers = {"x-delay-ms": str(delay)}
    async with session.post(f"{url}/v1/chat/completions", json=BODY, headers=headers, **options) as response:
        found = await response.json()
        assert found["choices"][0]["message"]["content"]


async def anew(url: str, roots: str) -> tuple[Call, Callable[[], Awaitable[None]]]:
    """A client for each call."""
    import aiohttp

    async def call(delay: float) -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context(roots))) as session:
            await post(session, url, delay)

    return call, _nothing


async def a_loop_each(url: str, roots: str) -> tuple[Call, Callable[[], Awaitable[None]]]:
    """`asyncio.run` and a client for each call, in ten threads."""
    once, _ = await anew(url, roots)
    threads = ThreadPoolExecutor(AT_ONCE)

    async def call(delay: float) -> None:
        await asyncio.get_running_loop().run_in_executor(threads, lambda: asyncio.run(once(delay)))  # type: ignore[arg-type]

    return call, _nothing


async def bare(url: str, roots: str, *, http2: bool) -> tuple[Call, Callable[[], Awaitable[None]]]:
    """One aiohttp session and nothing else; with HTTP/2 the run's own."""
    import aiohttp

    if http2:
        from bench.ours import bare_session

        session, close = bare_session(url, roots)
        return lambda delay: post(session, url, delay), close
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context(roots), limit_per_host=AT_ONCE))
    return lambda delay: post(session, url, delay), session.close


async def sdk(url: str, roots: str, *, http2: bool) -> tuple[Call, Callable[[], Awaitable[None]]]:
    """The official SDK with one client."""
    import httpx2
    import openai

    client = openai.AsyncOpenAI(
        base_url=f"{url}/v1", api_key="x", max_retries=0, http_client=httpx2.AsyncClient(verify=context(roots), http2=http2)
    )

    async def call(delay: float) -> None:
        answer = await client.chat.completions.create(**BODY, extra_headers={"x-delay-ms": str(delay)})  # type: ignore[call-overload]
        assert answer.choices[0].message.content

    return call, client.close


async def ours(url: str, roots: str, *, http2: bool) -> tuple[Call, Callable[[], Awaitable[None]]]:
    """A step's client: plugin, limits, retry, breaker, fallback, usage, log."""
    from bench.ours import model_call

    return await model_call(url, roots, PROMPT, http2=http2)


async def _nothing() -> None:
    """Nothing to close."""


CONTENDERS: dict[str, Callable[[str, str], Awaitable[tuple[Call, Callable[[], Awaitable[None]]]]]] = {
    "a client for each call": anew,
    "a loop for each call": a_loop_each,
    "bare aiohttp, HTTP/1.1": lambda url, roots: bare(url, roots, http2=False),
    "bare aiohttp, HTTP/2": lambda url, roots: bare(url, roots, http2=True),
    "openai SDK, HTTP/1.1": lambda url, roots: sdk(url, roots, http2=False),
    "openai SDK, HTTP/2": lambda url, roots: sdk(url, roots, http2=True),
    "ours, HTTP/1.1": lambda url, roots: ours(url, roots, http2=False),
    "ours, HTTP/2": lambda url, roots: ours(url, roots, http2=True),
}


async def contend(name: str, url: str, roots: str, calls: int, delay: float) -> dict[str, float]:
    """Half of the calls cold, half warm; the warm half's numbers."""
    call, close = await CONTENDERS[name](url, roots)
    delays = random.Random(7)
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(wait: float) -> float:
        async with gate:
            began = time.perf_counter()
            await call(wait)
            return time.perf_counter() - began - wait / 1000

    for _ in range(2):
        waits = [delay * delays.uniform(0.5, 1.5) for _ in range(calls // 2)]
        cpu, began = _cpu(), time.perf_counter()
        over = await asyncio.gather(*(one(wait) for wait in waits))
        seconds, cpu = time.perf_counter() - began, _cpu() - cpu
    await close()
    half = calls // 2
    return {"mean_ms": 1000 * statistics.mean(over) + delay, "cpu_us": 1e6 * cpu / half, "rate": half / seconds}


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def compare(place: Place, calls: int, rounds: int, delay: float) -> dict[str, dict[str, float]]:
    """Medians of all contenders."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
    for number in range(rounds):
        for name in list(CONTENDERS) if number % 2 == 0 else reversed(list(CONTENDERS)):
            words = [*place.prefix, sys.executable, __file__, "--contender", name, "--url", place.url, "--roots", str(place.roots)]
            done = subprocess.run([*words, "--calls", str(calls), "--delay", str(delay)], capture_output=True, text=True, check=True)
            found[name].append(json.loads(done.stdout))
    return {name: {key: statistics.median(row[key] for row in rows) for key in rows[0]} for name, rows in found.items()}


def show(title: str, found: dict[str, dict[str, float]]) -> None:
    """The table and the ratios that count."""
    print(f"{title:28}{'mean ms':>10}{'calls/s':>10}{'CPU us':>10}")
    for name, row in found.items():
        print(f"{name:28}{row['mean_ms']:10.1f}{row['rate']:10.0f}{row['cpu_us']:10.0f}")
    for protocol, cpu_goal in (("HTTP/1.1", "1/3.5 = 0.29"), ("HTTP/2", "1/2.5 = 0.40")):
        mine, plain, official = (found[f"{who}, {protocol}"] for who in ("ours", "bare aiohttp", "openai SDK"))
        for base in ("a client for each call", "a loop for each call"):
            print(f"{protocol}: mean ÷ {base}: {mine['mean_ms'] / found[base]['mean_ms']:.2f}")
        print(f"{protocol}: calls/s ÷ bare aiohttp: {mine['rate'] / plain['rate']:.2f} (goal ≥ 0.8)")
        print(f"{protocol}: CPU a call ÷ openai SDK: {mine['cpu_us'] / official['cpu_us']:.2f} (goal ≤ {cpu_goal})")


def main() -> None:
    """Run as a contender, or run all of them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--contender")
    parser.add_argument("--url")
    parser.add_argument("--roots")
    parser.add_argument("--delay", type=float, default=DELAY_MS)
    options = parser.parse_args()
    if options.contender:
        import uvloop

        print(json.dumps(uvloop.run(contend(options.contender, options.url, options.roots, options.calls, options.delay))))
        return
    for title, line in (("loopback", False), (f"a line of {2 * ONE_WAY_MS} ms", True)):
        if why := lacking(line=line):
            print(f"{title}: left out: {why}")
            continue
        with far_away(ONE_WAY_MS) if line else loopback() as place:
            show(title, compare(place, options.calls, options.rounds, options.delay))
            if not line:
                show("loopback, no delay", compare(place, options.calls, options.rounds, 0))


if __name__ == "__main__":
    main()
