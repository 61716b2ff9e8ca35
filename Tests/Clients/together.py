# SPDX-License-Identifier: Apache-2.0
"""Requests beside each other: same answers, short waits, slots that come free."""

import concurrent.futures
import contextlib
import json
import threading
import time

import httpx
import ollama

from harness import (SLACK, FACT_QUESTION, book_text, check, http, note, options, run_checks, running,
                     wait_until)

args = options(
    __doc__, ("--book", dict(required=True)), ("--tokens", dict(type=int, default=60_000)))
url, model = args.url, args.model
native = ollama.Client(host=url)
THREADS = 16


class Prefill:
    """A long prompt that is being read, for `with`; each has a text of its own."""

    turn = 1

    def __enter__(self):
        text = book_text(url, args.book, args.tokens, Prefill.turn)
        Prefill.turn += 2
        self.body = {"model": model, "prompt": f"{text}\n\n{FACT_QUESTION}",
                     "prompt_eval_progress": True, "options": {"temperature": 0, "num_predict": 8}}
        self.progress, self.is_read, self.is_wanted = 0, False, True
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()
        wait_until(lambda: self.progress > 0, 30, "the prefill began")
        return self

    def read(self):
        with contextlib.suppress(httpx.HTTPError), \
                httpx.stream("POST", url + "/api/generate", json=self.body, timeout=None) as reply:
            for line in map(json.loads, reply.iter_lines()):
                done = line.get("prompt_eval_completed", line.get("completed", 0))
                total = line.get("prompt_eval_total", line.get("total", 0))
                self.progress = max(self.progress, done)
                if line.get("response") or line.get("done") or (total and done >= total):
                    self.is_read = True
                if not self.is_wanted:
                    break
        self.is_read = True

    def __exit__(self, *_):
        self.is_wanted = False
        self.thread.join(60)


def prompts():
    places = ["Dover", "Calais", "London", "Paris", "Moscow", "Rome", "Deal", "Vienna"]
    made = [f"Clara Kendall lives in {p}. Where does Clara Kendall live?" for p in places]
    made += [f"{'The night was dark. ' * 40 * n}The number of house {n} is {n * 37}. What is the "
             f"number of house {n}?" for n in range(1, THREADS - len(made) + 1)]
    return made


def answer(prompt):
    reply = native.chat(model, [{"role": "user", "content": prompt}],
                        options={"temperature": 0, "num_predict": 48})
    return reply.message.content, reply.eval_count, reply.done_reason


@check(f"{THREADS} requests together get what each gets alone")
def _():
    alone = [answer(p) for p in prompts()]
    for _ in range(3):
        with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
            together = list(pool.map(answer, prompts()))
        for prompt, one, other in zip(prompts(), alone, together):
            assert one == other, f"{prompt[-60:]!r}: alone {one}, together {other}"


@check("the same, streamed, and new to the cache")
def _():
    def streamed(prompt):
        parts = list(native.chat(model, [{"role": "user", "content": prompt}], stream=True,
                                 options={"temperature": 0, "num_predict": 48}))
        return "".join(p.message.content for p in parts)

    new = ["Once more. " + p for p in prompts()]
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        together = list(pool.map(streamed, new))
    assert together == [answer(p)[0] for p in new]


@check("a short request beside a long prefill: first token within 1 s")
def _():
    with Prefill() as prefill:
        seconds = []
        for n in range(5):
            start = time.monotonic()
            stream = native.generate(model, f"Say {n}.", options={"num_predict": 4}, stream=True)
            next(part for part in stream if part.response or part.done)
            seconds.append(time.monotonic() - start)
            stream.close()
        assert not prefill.is_read, "the prefill was over too early: give more --tokens"
        before = prefill.progress
        wait_until(lambda: prefill.is_read or prefill.progress > before, 20, "the prefill goes on")
    note(", ".join(f"{s:.2f}" for s in seconds) + " s")
    assert max(seconds) <= 1 * SLACK, seconds


@check("a cancelled stream frees its slot within 1 s")
def _():
    wait_until(lambda: running(url) == 0, 10, "nothing runs")
    for path, body in {
        "/api/generate": {"prompt": "Hello", "options": {"temperature": 0, "num_predict": 20_000}},
        "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hello"}], "stream": True,
                                 "temperature": 0, "max_tokens": 20_000},
    }.items():
        with httpx.stream("POST", url + path, json=body | {"model": model}, timeout=60) as reply:
            lines = reply.iter_lines()
            for _ in range(6):
                next(lines)
            assert running(url) == 1, running(url)
        note(f"{path}: {wait_until(lambda: running(url) == 0, SLACK, 'the slot is free'):.2f} s")


@check("a cancelled prefill frees its slot within 1 s")
def _():
    with Prefill() as prefill:
        assert running(url) == 1
        prefill.is_wanted = False
        prefill.thread.join(20)
        left = wait_until(lambda: running(url) == 0, SLACK, "the slot is free")
    note(f"{left:.2f} s")


@check("embedding, and scoring a prompt, end with their client")
def _():
    wait_until(lambda: running(url) == 0, 10, "nothing runs")
    text = book_text(url, args.book, args.tokens, 0.3)
    for path, body in {
        "/api/embed": {"input": [text, text]},
        "/v1/completions": {"prompt": text, "echo": True, "logprobs": 1, "max_tokens": 1},
    }.items():
        with contextlib.suppress(httpx.TimeoutException):
            httpx.post(url + path, json=body | {"model": model}, timeout=1)
        note(f"{path}: {wait_until(lambda: running(url) == 0, 1.5 * SLACK, 'the place is free'):.2f} s")


@check("/api/tags beside a prefill: p99 of 200 within 50 ms")
def _():
    with Prefill() as prefill, httpx.Client() as client:
        client.get(url + "/api/tags")
        times = []
        for _ in range(200):
            start = time.monotonic()
            assert client.get(url + "/api/tags").status_code == 200
            times.append(time.monotonic() - start)
            time.sleep(0.01)
        assert not prefill.is_read, "the prefill was over too early: give more --tokens"
    times.sort()
    note(f"median {times[100] * 1000:.1f} ms, p99 {times[197] * 1000:.1f} ms, "
         f"longest {times[-1] * 1000:.1f} ms")
    assert times[197] <= 0.05 * SLACK, times[197]


@check("the server is well")
def _():
    assert http("GET", url + "/health")[0] == 200
    wait_until(lambda: running(url) == 0, 5, "nothing runs")


run_checks(args.only)
