# SPDX-License-Identifier: Apache-2.0
"""Keeps many connections busy with a mix of short requests; only 200 and 503 may come back."""

import asyncio
import collections
import random
import time
from urllib.parse import urlsplit

from harness import Connection, check, http, note, options, resident_bytes, run_checks

args = options(
    __doc__, ("--seconds", dict(type=float, default=60)),
    ("--connections", dict(type=int, default=200)),
    ("--pid", dict(type=int, help="process of the server, whose memory is sampled")),
    ("--growth", dict(type=float, default=1.5, help="the most that memory may grow after warm-up")))
url, model = args.url, args.model
port = urlsplit(url).port

MIX = [  # weight, method, path, body
    (4, "POST", "/api/chat", lambda n: {
        "model": model, "messages": [{"role": "user", "content": f"Say {n}."}],
        "stream": n % 2 == 0, "options": {"num_predict": 4}}),
    (4, "POST", "/v1/chat/completions", lambda n: {
        "model": model, "messages": [{"role": "user", "content": f"Say {n}."}],
        "stream": n % 2 == 0, "max_tokens": 4}),
    (3, "POST", "/api/generate", lambda n: {
        "model": model, "prompt": f"House {n}", "options": {"num_predict": 3}}),
    (1, "POST", "/v1/completions", lambda n: {
        "model": model, "prompt": f"House {n}", "max_tokens": 3}),
    (3, "POST", "/tokenize", lambda n: {"content": f"The number of house {n}."}),
    (3, "GET", "/api/tags", None),
    (1, "GET", "/v1/models", None),
    (1, "GET", "/metrics", None),
    (1, "GET", "/health", None),
]

statuses = collections.Counter()
failures = collections.Counter()
unexpected = []
samples = []


async def work(number, end):
    draw = random.Random(number)
    connection = Connection(port)
    while time.monotonic() < end:
        _, method, path, body = draw.choices(MIX, [m[0] for m in MIX])[0]
        try:
            async with asyncio.timeout(120):
                status, reply = await connection.request(
                    method, path, body and body(draw.randrange(1000)))
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            failures[f"{path}: {type(error).__name__}"] += 1
            connection.close()
            continue
        statuses[status] += 1
        if status not in (200, 503) or (status == 200 and b'{"error"' in reply):
            unexpected.append((path, status, reply[:200]))
        if status == 503:
            await asyncio.sleep(0.02)
    connection.close()


async def sample(end):
    while time.monotonic() < end:
        samples.append(resident_bytes(args.pid))
        await asyncio.sleep(0.25)


async def everything():
    end = time.monotonic() + args.seconds
    tasks = [work(n, end) for n in range(args.connections)]
    await asyncio.gather(*tasks, *([sample(end)] if args.pid else []))


@check(f"{args.connections} connections for {args.seconds:g} s: only 200 and 503")
def _():
    start = time.monotonic()
    asyncio.run(everything())
    total = sum(statuses.values())
    note(f"{total} replies {dict(statuses)}, {total / (time.monotonic() - start):.0f} a second")
    assert statuses[200] > 0, (statuses, failures)
    assert not unexpected, f"{len(unexpected)}: {unexpected[:3]}"
    assert not failures, dict(failures)


@check("memory does not grow")
def _():
    if not args.pid:
        return note("not measured: no --pid")
    warm = samples[len(samples) // 5:]
    first, peak, last = (v / 1e6 for v in (warm[0], max(warm), warm[-1]))
    note(f"resident after warm-up {first:.0f} MB, peak {peak:.0f} MB, last {last:.0f} MB")
    assert last <= args.growth * first, f"{first:.0f} MB became {last:.0f} MB"


@check("the server is well")
def _():
    assert http("GET", url + "/health")[0] == 200


run_checks(args.only)
