# SPDX-License-Identifier: Apache-2.0
"""Sends prompts of a book's length: signs of life, answers from the cache, limits, disconnects."""

import json
import time

import httpx
import ollama
import openai

from harness import (SLACK, FACT_QUESTION, book_text, check, events, metric, note, numbers, options,
                     raises, run_checks, running, wait_until)

args = options(
    __doc__, ("--tokens", dict(type=int, default=60_000)), ("--book", dict(required=True)))
url, model = args.url, args.model
SILENCE = 10  # seconds
SECOND_ANSWER = 2 * SLACK  # seconds


class Wire(httpx.HTTPTransport):
    """A client's own transport, which notes when bytes came."""

    def __init__(self):
        super().__init__()
        self.times = []

    def handle_request(self, request):
        self.times = [time.monotonic()]
        reply = super().handle_request(request)
        self.times.append(time.monotonic())
        reply.stream = WatchedStream(reply.stream, self.times)
        return reply

    @property
    def silence(self):
        return max(b - a for a, b in zip(self.times, self.times[1:]))


class WatchedStream(httpx.SyncByteStream):
    def __init__(self, stream, times):
        self.stream, self.times = stream, times

    def __iter__(self):
        for part in self.stream:
            self.times.append(time.monotonic())
            yield part

    def close(self):
        self.stream.close()


openai_wire, ollama_wire = Wire(), Wire()
client = openai.OpenAI(base_url=url + "/v1", api_key="x",
                       http_client=openai.DefaultHttpxClient(transport=openai_wire))
native = ollama.Client(host=url, transport=ollama_wire)


def text(turn, tokens=args.tokens):
    return book_text(url, args.book, tokens, turn)


def messages(book, question=FACT_QUESTION):
    return [{"role": "user", "content": f"{book}\n\n{question}"}]


def chat(book, question=FACT_QUESTION, tokens=24, **more):
    return client.chat.completions.create(
        model=model, messages=messages(book, question), temperature=0, max_tokens=tokens, **more)


def cached(usage):
    return usage.prompt_tokens_details.cached_tokens


@check("openai: a long prompt, streamed, with the client's own time-outs")
def _():
    book, start = text(0), time.monotonic()
    chunks = list(chat(book, stream=True, stream_options={"include_usage": True}))
    answer = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    usage = chunks[-1].usage
    note(f"{usage.prompt_tokens} tokens in {time.monotonic() - start:.1f} s, longest silence "
         f"{openai_wire.silence:.1f} s, answer: {answer!r}")
    assert answer and usage.prompt_tokens > 0.9 * args.tokens
    assert openai_wire.silence <= SILENCE, openai_wire.silence


@check("openai: a second question on the same text")
def _():
    book = text(0)
    start = time.monotonic()
    reply = chat(book, "Who is the prince?", tokens=8)
    seconds = time.monotonic() - start
    note(f"{seconds:.2f} s, {cached(reply.usage)} of {reply.usage.prompt_tokens} tokens cached, "
         f"answer: {reply.choices[0].message.content!r}")
    assert cached(reply.usage) > 0, reply.usage
    assert seconds <= SECOND_ANSWER, seconds
    assert metric(url, "cached", "counter") > 0


@check("NDJSON: progress while a long prompt is read")
def _():
    body = {"model": model, "messages": messages(text(2)), "prompt_eval_progress": True,
            "options": {"temperature": 0, "num_predict": 24}}
    last, silence, steps, rest, answer = time.monotonic(), 0, [], b"", ""
    with httpx.stream("POST", url + "/api/chat", json=body, timeout=None) as reply:
        assert reply.status_code == 200, reply.read()
        for part in reply.iter_raw():
            silence, last = max(silence, time.monotonic() - last), time.monotonic()
            *lines, rest = (rest + part).split(b"\n")
            for line in map(json.loads, lines):
                assert "error" not in line, line
                if total := line.get("prompt_eval_total", line.get("total")):
                    steps.append((line.get("prompt_eval_completed", line.get("completed", 0)), total))
                answer += line["message"]["content"]
    note(f"{len(steps)} steps, longest silence {silence:.1f} s, answer: {answer!r}")
    assert silence <= SILENCE, silence
    assert len(steps) >= 3 and steps == sorted(steps), steps[:10]
    assert line["done"] and line["prompt_eval_count"] > 0.9 * args.tokens, line


@check("ollama: a long prompt, streamed, with the client's own time-outs")
def _():
    book, few = text(4), {"temperature": 0, "num_predict": 24}
    parts = list(native.chat(model, messages(book), options=few, stream=True))
    answer = "".join(p.message.content for p in parts)
    note(f"longest silence {ollama_wire.silence:.1f} s, answer: {answer!r}")
    assert answer and parts[-1].prompt_eval_count > 0.9 * args.tokens
    start, few["num_predict"] = time.monotonic(), 8
    native.chat(model, messages(book, "Who is the prince?"), options=few)
    seconds = time.monotonic() - start
    note(f"second question: {seconds:.2f} s")
    assert seconds <= SECOND_ANSWER, seconds


@check("over the limit: 400 with both numbers through both clients")
def _():
    book = text(6)
    limit = args.tokens // 2
    start = time.monotonic()
    with raises(openai.BadRequestError) as caught:
        chat(book, extra_body={"num_ctx": limit})
    found = numbers(caught.error.message)
    assert limit in found and max(found) > 0.9 * args.tokens, caught.error.message
    for stream in (False, True):
        with raises(ollama.ResponseError) as caught:
            list(native.chat(model, messages(book), options={"num_ctx": limit}, stream=stream))
        found = numbers(caught.error.error)
        assert caught.error.status_code == 400, caught.error
        assert limit in found and max(found) > 0.9 * args.tokens, caught.error.error
    assert time.monotonic() - start < 10, "refusals need no prefill"


@check("a client that leaves at half of the prefill and comes back")
def _():
    book = text(8)
    body = {"model": model, "messages": messages(book), "max_tokens": 8, "temperature": 0,
            "stream": True, "return_progress": True}
    with httpx.stream("POST", url + "/v1/chat/completions", json=body, timeout=None) as reply:
        for event in events(reply.iter_lines()):
            step = event != "[DONE]" and event.get("prompt_progress")
            if step and step["processed"] >= step["total"] / 2:
                break
        else:
            raise AssertionError("the stream ended without progress up to a half")
    gone = wait_until(lambda: running(url) == 0, 5, "the work of the one who left stops")
    reply = chat(book, tokens=8)
    note(f"stopped after {gone:.2f} s, left at {step['processed']} of {step['total']}, then "
         f"{cached(reply.usage)} of {reply.usage.prompt_tokens} tokens cached")
    assert cached(reply.usage) > 0.4 * reply.usage.prompt_tokens, reply.usage


run_checks(args.only)
