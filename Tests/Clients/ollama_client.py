# SPDX-License-Identifier: Apache-2.0
"""Drives a server with the unmodified `ollama` package."""

import json
import re
from typing import Literal

import httpx
import ollama
from pydantic import BaseModel, Field

from harness import (Skipped, check, http, note, numbers, options, raises, run_checks, running,
                     wait_until)

args = options(__doc__, ("--model-file", dict(help="GGUF file that a model is created from")))
url, model = args.url, args.model
client = ollama.Client(host=url)

FEW = {"temperature": 0, "num_predict": 16}
LONG = {"temperature": 0, "num_predict": 20_000}
TEXT = "Clara Kendall lives in Dover. Where does Clara Kendall live?"
USER = [{"role": "user", "content": TEXT}]


class Visit(BaseModel):
    town: Literal["Dover", "Calais", "Deal"]
    years: int = Field(ge=0, le=99)
    alone: bool


def ask(**more):
    return client.chat(model, USER, **{"options": FEW, **more})


def post(path, **body):
    return httpx.post(url + path, json=body, timeout=120)


def refused(status, **body):
    """The error text of a request to /api/generate that must be refused."""
    with raises(ollama.ResponseError) as caught:
        client.generate(model=body.pop("model", model), **body)
    assert caught.error.status_code == status, caught.error
    return caught.error.error


# The server and its models


@check("GET and HEAD /")
def _():
    reply = httpx.get(url + "/")
    assert reply.text == "Ollama is running", reply.text
    assert reply.headers["content-type"].startswith("text/plain")
    for path in ("/", "/api/version", "/api/tags"):
        reply = httpx.head(url + path)
        assert (reply.status_code, reply.content) == (200, b""), (path, reply)


@check("version")
def _():
    version = httpx.get(url + "/api/version").json()["version"]
    assert re.match(r"\d+\.\d+\.\d+", version), version


@check("list")
def _():
    found = {m.model: m for m in client.list().models}[model]
    assert found.size > 0 and re.fullmatch("[0-9a-f]{64}", found.digest), found
    assert found.details.format == "gguf" and found.details.quantization_level, found.details
    raw = httpx.get(url + "/api/tags").json()["models"]
    assert all(m["name"] == m["model"] and "modified_at" in m for m in raw)


@check("show")
def _():
    card = client.show(model)
    assert card.modelinfo["general.architecture"] == "llama", card.modelinfo
    assert "tokenizer.chat_template" not in card.modelinfo
    assert "completion" in card.capabilities, card.capabilities
    raw = post("/api/show", model=model).json()
    assert raw["model_info"].get("tokenizer.ggml.tokens", []) in ([], None)
    verbose = post("/api/show", model=model, verbose=True).json()
    assert len(verbose["model_info"]["tokenizer.ggml.tokens"]) > 1000
    assert post("/api/show", name=model).status_code == 200, "the old member `name`"


@check("empty prompt loads, ps shows it, keep_alive 0 unloads")
def _():
    reply = client.generate(model, "")
    assert (reply.done, reply.done_reason, reply.response) == (True, "load", ""), reply
    loaded = {m.model: m for m in client.ps().models}
    assert model in loaded, loaded
    assert loaded[model].context_length > 0 and loaded[model].expires_at
    reply = client.generate(model, "", keep_alive=0)
    assert reply.done_reason == "unload", reply
    wait_until(lambda: model not in [m.model for m in client.ps().models], 5, "unloaded")
    reply = client.chat(model, [])
    assert (reply.done_reason, reply.message.content) == ("load", ""), reply
    for keep in ("5m", "1h30m", -1, "-1m", 300, 0.5):
        client.generate(model, "", keep_alive=keep)
    client.generate(model, "", keep_alive="5m")


# Generate


@check("generate")
def _():
    reply = client.generate(model, TEXT, options=FEW)
    assert "Dover" in reply.response, reply.response
    assert reply.done and reply.done_reason in ("stop", "length")
    assert reply.prompt_eval_count > 10 and 0 < reply.eval_count <= 16
    assert reply.total_duration >= reply.eval_duration > 0, reply
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", reply.created_at)


@check("generate, streamed, says the same")
def _():
    parts = list(client.generate(model, TEXT, options=FEW, stream=True))
    assert "".join(p.response for p in parts) == client.generate(model, TEXT, options=FEW).response
    assert [p.done for p in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1].done_reason and parts[-1].eval_count and len(parts) > 3
    reply = post("/api/generate", model=model, prompt=TEXT, options=FEW)
    assert reply.headers["content-type"] == "application/x-ndjson", reply.headers
    assert all(json.loads(line) for line in reply.text.splitlines())


@check("system, template and raw")
def _():
    def prompt(**more):
        return client.generate(model, TEXT, options=FEW, **more)

    plain = prompt().prompt_eval_count
    assert prompt(system="You are a helpful person who answers.").prompt_eval_count > plain
    assert prompt(raw=True).prompt_eval_count < plain
    assert prompt(raw=True).context is None
    assert prompt(template="{{ .Prompt }}").prompt_eval_count < plain
    for more in ({"system": "a"}, {"template": "{{ .Prompt }}"}, {"context": [1, 2]}):
        text = refused(400, prompt=TEXT, raw=True, **more)
        assert text == "raw mode does not support template, system, or context", text


@check("context goes on where it was")
def _():
    first = client.generate(model, TEXT, options=FEW)
    assert len(first.context) > first.prompt_eval_count, first.context
    second = client.generate(model, "And who lives there?", options=FEW, context=first.context)
    assert second.prompt_eval_count > first.prompt_eval_count + first.eval_count
    assert list(second.context[:10]) == list(first.context[:10])


# Chat


@check("chat, streamed and not")
def _():
    reply = ask()
    assert reply.message.role == "assistant" and "Dover" in reply.message.content, reply
    assert reply.done and reply.prompt_eval_count and reply.eval_count
    parts = list(ask(stream=True))
    assert all(p.message.role == "assistant" for p in parts)
    assert "".join(p.message.content for p in parts) == reply.message.content
    assert parts[-1].done_reason == reply.done_reason
    assert parts[-1].prompt_eval_count == reply.prompt_eval_count


@check("chat with a history and a system message")
def _():
    messages = [
        {"role": "System", "content": "Answer."},
        {"role": "user", "content": "Clara Kendall lives in Dover."},
        {"role": "assistant", "content": "I see."},
        {"role": "user", "content": "Where does Clara Kendall live?"},
    ]
    assert "Dover" in client.chat(model, messages, options=FEW).message.content


@check("an asynchronous client")
def _():
    import asyncio

    async def both():
        other = ollama.AsyncClient(host=url)
        return await asyncio.gather(*(other.chat(model, USER, options=FEW) for _ in range(4)))

    assert len({r.message.content for r in asyncio.run(both())}) == 1


# Options


@check("num_predict and stop")
def _():
    reply = ask(options={"temperature": 0, "num_predict": 3})
    assert (reply.eval_count, reply.done_reason) == (3, "length"), reply
    full = ask().message.content
    cut = full[len(full) // 2:][:4]
    short = ask(options={**FEW, "stop": [cut]})
    assert short.message.content == full.split(cut)[0], (full, short.message.content)
    assert short.done_reason == "stop"


@check("temperature, seed and samplers")
def _():
    def text(**more):
        return client.generate(model, "Tell a story.", options={"num_predict": 12, **more}).response

    hot = {"temperature": 1.5, "top_k": 0, "top_p": 1.0}
    assert text(**hot, seed=7) == text(**hot, seed=7)
    assert len({text(**hot, seed=s) for s in range(4)}) > 1
    assert text(temperature=2.0, top_k=1) == text(temperature=0)
    assert text(temperature=2.0, top_k=0, top_p=0.000001) == text(temperature=0)
    assert text(temperature=2.0, top_k=0, min_p=1.0) == text(temperature=0)


@check("all options, old and unknown ones too")
def _():
    everything = {
        "num_ctx": 4096, "num_batch": 512, "num_gpu": -1, "main_gpu": 0, "use_mmap": True,
        "num_thread": 0, "num_keep": 4, "seed": 1, "num_predict": 2, "top_k": 40, "top_p": 0.9,
        "min_p": 0.0, "typical_p": 1.0, "repeat_last_n": 64, "temperature": 0.8,
        "repeat_penalty": 1.1, "presence_penalty": 0.1, "frequency_penalty": 0.1, "stop": ["x"],
        "penalize_newline": True, "numa": False, "mirostat": 0, "no_such_option": {"a": 1},
    }
    assert client.generate(model, TEXT, options=everything).done
    assert client.generate(model, TEXT, options={"num_predict": 2.9}).eval_count <= 2


@check("options of the wrong type")
def _():
    for key, value, kind in (
        ("num_ctx", "4096", "integer"), ("seed", [1], "integer"), ("temperature", "hot", "float32"),
        ("top_p", True, "float32"), ("use_mmap", 1, "boolean"),
    ):
        reply = post("/api/generate", model=model, prompt="a", options={key: value})
        expected = f'option "{key}" must be of type {kind}'
        assert (reply.status_code, reply.json()["error"]) == (400, expected), reply.text
    for value in (5, [1]):
        reply = post("/api/generate", model=model, prompt="a", options={"stop": value})
        assert reply.status_code == 400, reply.text
        assert 'option "stop" must be of' in reply.json()["error"], reply.text


# Formats, tools, thinking


@check("format json")
def _():
    reply = client.generate(
        model, TEXT, format="json", options={"temperature": 0, "num_predict": 256})
    if reply.done_reason == "stop":
        assert isinstance(json.loads(reply.response), (dict, list)), reply.response
    else:
        assert reply.response.lstrip()[0] in "{[", reply.response


@check("format with a JSON schema")
def _():
    for seed in range(3):
        hot = {"temperature": 1.0, "seed": seed, "num_predict": 200}
        reply = client.chat(model, USER, format=Visit.model_json_schema(), options=hot)
        Visit.model_validate_json(reply.message.content)
    bad = post("/api/chat", model=model, messages=USER, format={"type": "no such type"})
    assert bad.status_code == 400 and bad.json()["error"], bad.text


def weather(city: str) -> str:
    """Says the weather.

    Args:
      city: a city
    """
    return f"rain in {city}"


@check("tools")
def _():
    call = {"function": {"name": "weather", "arguments": {"city": "Dover"}}}
    messages = [
        {"role": "user", "content": "What is the weather in Dover?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "rain in Dover", "tool_name": "weather"},
    ]
    can = "tools" in client.show(model).capabilities
    for count in (1, 3):
        for stream in (False, True):
            try:
                reply = client.chat(
                    model, messages[:count], tools=[weather], options=FEW, stream=stream)
                parts = list(reply) if stream else [reply]
            except ollama.ResponseError as error:
                assert not can and error.status_code == 400, error
                assert "does not support tools" in error.error, error
                continue
            assert parts[-1].done, parts
            for made in [c for p in parts for c in p.message.tool_calls or []]:
                assert made.function.name == "weather" and "city" in made.function.arguments
    client.chat(model, messages, options=FEW)


@check("think")
def _():
    assert "Dover" in ask(think=False).message.content
    if "thinking" in client.show(model).capabilities:
        assert ask(think=True).message.thinking
        return
    text = refused(400, prompt=TEXT, think=True)
    assert "does not support thinking" in text, text


@check("logprobs")
def _():
    reply = ask(logprobs=True, top_logprobs=3)
    assert len(reply.logprobs) in (reply.eval_count, reply.eval_count - 1), reply.eval_count
    assert "".join(p.token for p in reply.logprobs).startswith(reply.message.content)
    for place in reply.logprobs:
        assert place.logprob <= 1e-6 and len(place.top_logprobs) == 3
        assert abs(place.top_logprobs[0].logprob - place.logprob) < 1e-4, "temperature 0"
    streamed = [p for part in ask(logprobs=True, stream=True) for p in part.logprobs or []]
    assert [p.token for p in streamed] == [p.token for p in reply.logprobs]
    assert "top_logprobs must be between 0 and 20" in refused(
        400, prompt=TEXT, logprobs=True, top_logprobs=21)


# Embeddings


@check("embed and embeddings")
def _():
    def length(vector):
        return sum(x * x for x in vector) ** 0.5

    one = client.embed(model, "The sea is blue.")
    three = client.embed(model, ["The sea is blue.", "A ship.", "Bread."])
    assert len(one.embeddings) == 1 and len(three.embeddings) == 3
    assert all(abs(length(v) - 1) < 1e-3 for v in three.embeddings)
    assert three.prompt_eval_count > one.prompt_eval_count > 0
    close = max(abs(a - b) for a, b in zip(one.embeddings[0], three.embeddings[0]))
    assert close < 1e-3, close
    old = client.embeddings(model, "The sea is blue.").embedding
    assert len(old) == len(one.embeddings[0])
    scaled = [x / length(old) for x in old]
    assert max(abs(a - b) for a, b in zip(scaled, one.embeddings[0])) < 1e-3
    assert len(client.embed(model, []).embeddings) == 0
    assert len(client.embed(model, "a", dimensions=16).embeddings[0]) == 16


# Progress, overflow, cancellation


@check("progress lines")
def _():
    text = " ".join(f"The number of house {n} is {n * 7 % 1000}." for n in range(400))
    for asked in ({"prompt_eval_progress": True}, {"return_progress": True}):
        for path, body in (("generate", {"prompt": f"{asked} {text}"}), ("chat", {"messages": [
                {"role": "user", "content": f"{text} {asked}"}]})):
            reply = post(f"/api/{path}", model=model, options={"num_predict": 2}, **asked, **body)
            lines = [json.loads(line) for line in reply.text.splitlines()]
            seen = []
            for line in lines[:-1]:
                completed = line.get("prompt_eval_completed", line.get("completed"))
                total = line.get("prompt_eval_total", line.get("total"))
                if total is not None:
                    seen.append((completed or 0, total))
                assert line["done"] is False
                if path == "chat":
                    assert line["message"]["role"] == "assistant"
            assert seen, f"no progress on /api/{path} by {asked}"
            assert seen == sorted(seen) and all(c <= t for c, t in seen), seen
            assert seen[-1][1] == lines[-1]["prompt_eval_count"], (seen[-1], lines[-1])
    reply = post("/api/generate", model=model, prompt="Now " + text, options={"num_predict": 2})
    assert "completed" not in reply.text, "progress only where it was asked for"


@check("overflow: 400 with both numbers")
def _():
    text = "word " * 300
    small = {"num_ctx": 64, "num_predict": 4}
    for call in (
        lambda: client.generate(model, text, options=small),
        lambda: client.chat(model, [{"role": "user", "content": text}], options=small),
        lambda: list(client.generate(model, text, options=small, stream=True)),
    ):
        with raises(ollama.ResponseError) as caught:
            call()
        assert caught.error.status_code == 400, caught.error
        found = numbers(caught.error.error)
        assert 64 in found and any(n > 300 for n in found), caught.error.error
        lower = caught.error.error.lower()
        assert "context" in lower
        assert any(w in lower for w in ("exceed", "too large", "longer", "too long")), lower


@check("never cut silently")
def _():
    reply = post("/api/generate", model=model, prompt="word " * 300, stream=False, truncate=True,
                 options={"num_ctx": 64, "num_predict": 4})
    if reply.status_code == 200:
        assert reply.json().get("prompt_truncated"), reply.text
    else:
        assert reply.status_code == 400, reply.text


@check("a cancelled stream stops the work")
def _():
    stream = client.generate(model, "Hello", options=LONG, stream=True)
    for _ in zip(range(3), stream):
        pass
    assert running(url) >= 1
    stream.close()
    note(f"gauge at 0 after {wait_until(lambda: running(url) == 0, 2, 'no running request'):.2f} s")


# Errors


@check("unknown model: 404")
def _():
    for call in (
        lambda: client.generate("no-such-model", "a"),
        lambda: client.chat("no-such-model", USER),
        lambda: client.show("no-such-model"),
        lambda: client.embed("no-such-model", "a"),
        lambda: client.delete("no-such-model"),
        lambda: client.copy("no-such-model", "b"),
        lambda: list(client.chat("no-such-model", USER, stream=True)),
    ):
        with raises(ollama.ResponseError) as caught:
            call()
        assert caught.error.status_code == 404, caught.error
        assert re.search("model ['\"]no-such-model['\"] not found", caught.error.error), caught.error


@check("bad requests")
def _():
    for path in ("/api/generate", "/api/chat", "/api/show", "/api/embed", "/api/create"):
        status, _, body = http("POST", url + path, b"")
        assert (status, json.loads(body)) == (400, {"error": "missing request body"}), (path, body)
        status, _, body = http("POST", url + path, b'{"model": ')
        assert status == 400 and json.loads(body)["error"], (path, body)
        assert http("GET", url + path)[0] == 405, path
    assert http("POST", url + "/api/tags", b"{}")[0] == 405
    for path in ("/api/me", "/api/signout", "/api/experimental/x", "/v1/systemone", "/nowhere"):
        status, _, body = http("POST", url + path, b"{}")
        assert status == 404 and json.loads(body)["error"], (path, status, body)
    reply = post("/api/chat", messages=USER)
    assert (reply.status_code, reply.json()["error"]) == (400, "model is required"), reply.text
    reply = post("/api/show")
    assert (reply.status_code, reply.json()["error"]) == (400, "model is required"), reply.text
    assert post("/api/generate", model=model, prompt=5).status_code == 400
    for time in ("nan", "inf", "1e400", "0x10", "soon"):
        assert post("/api/generate", model=model, keep_alive=time).status_code == 400, time
    assert post("/api/generate", model=model, keep_alive=1e300).status_code == 200
    assert http("GET", url + "/api/ps")[0] == 200
    post("/api/generate", model=model, keep_alive="5m")
    for body in ({"num_ctx": 2}, {"options": {"num_ctx": 2}}):
        reply = post("/api/generate", model=model, prompt="one two three", **body)
        assert reply.status_code == 400 and "2 tokens" in reply.json()["error"], reply.text
    assert refused(400, prompt="a", images=[b"\x89PNG\r\n\x1a\n" + b"0" * 64])


# Making models


@check("create from a blob, copy, delete")
def _():
    if not args.model_file:
        raise Skipped("needs --model-file")
    names = ["client-test", "client-test-copy:v1.0"]
    try:
        digest = client.create_blob(args.model_file)
        assert http("HEAD", f"{url}/api/blobs/{digest}")[0] == 200
        assert http("HEAD", f"{url}/api/blobs/sha256:{'0' * 64}")[0] == 404
        status, _, body = http("POST", f"{url}/api/blobs/sha256:{'0' * 64}", b"other")
        assert status == 400 and b"digest mismatch" in body, body
        steps = list(client.create(
            model=names[0], files={"model.gguf": digest}, system="Answer.",
            parameters={"temperature": 0, "num_ctx": 2048, "stop": ["<|im_end|>"]}, stream=True))
        assert steps[-1].status == "success", steps
        card = client.show(names[0])
        assert card.system == "Answer." if hasattr(card, "system") else True
        assert re.search(r"^num_ctx {24}2048$", card.parameters, re.M), card.parameters
        assert '"<|im_end|>"' in card.parameters
        assert "Dover" in client.chat(names[0], USER, options=FEW).message.content
        client.copy(names[0], names[1])
        found = [m.model for m in client.list().models]
        assert names[0] + ":latest" in found and names[1] in found, found
        assert "Dover" in client.chat(names[1], USER, options=FEW).message.content
        with raises(ollama.ResponseError) as caught:
            client.generate(names[0], "word " * 3000, options={"num_predict": 1})
        assert 2048 in numbers(caught.error.error), caught.error
        assert client.create(model=names[0], from_=model, system="Other.").status == "success"
    finally:
        for name in names:
            try:
                client.delete(name)
            except ollama.ResponseError:
                pass
    assert not set(names) & {m.model.removesuffix(":latest") for m in client.list().models}
    reply = post("/api/create", model="client-test")
    assert reply.status_code == 400, reply.text
    assert reply.json()["error"] == "neither 'from' or 'files' was specified", reply.text


run_checks(args.only)
