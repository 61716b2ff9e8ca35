# SPDX-License-Identifier: Apache-2.0
"""Drives a server with the unmodified `openai` package, and its native routes by hand."""

import json
import re
from typing import Literal

import httpx
import openai
from pydantic import BaseModel

from harness import (check, events, get_json, http, metric, numbers, options, post_json, raises,
                     run_checks, running, token_ids, wait_until)

args = options(__doc__)
url, model = args.url, args.model
client = openai.OpenAI(base_url=url + "/v1", api_key="x")

TEXT = "Clara Kendall lives in Dover. Where does Clara Kendall live?"
USER = [{"role": "user", "content": TEXT}]
LONG_TEXT = "word " * 300

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Says the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "enum": ["Dover", "Calais"]},
                "days": {"type": "integer", "minimum": 1, "maximum": 7},
            },
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}
OTHER_TOOL = {
    "type": "function",
    "function": {
        "name": "clock",
        "parameters": {
            "type": "object",
            "properties": {"zone": {"enum": ["utc", "local"]}},
            "required": ["zone"],
        },
    },
}


class Visit(BaseModel):
    town: Literal["Dover", "Calais", "Deal"]
    alone: bool
    years: int


def chat(messages=USER, **more):
    return client.chat.completions.create(
        model=model, messages=messages, **{"temperature": 0, "max_tokens": 16, **more})


def complete(prompt, **more):
    return client.completions.create(
        model=model, prompt=prompt, **{"temperature": 0, "max_tokens": 8, **more})


def said(reply):
    return reply.choices[0].message.content


def streamed(chunks):
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


def sse(**body):
    """The events of a raw streamed chat, and the lines they came in."""
    full = {"model": model, "messages": USER, "temperature": 0, "max_tokens": 8, "stream": True}
    reply = httpx.post(url + "/v1/chat/completions", json=full | body, timeout=120)
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"].startswith("text/event-stream"), reply.headers
    return list(events(reply.text.splitlines())), reply.text.splitlines()


# Chat


@check("chat")
def _():
    reply = chat()
    assert "Dover" in said(reply), said(reply)
    assert reply.object == "chat.completion" and reply.id.startswith("chatcmpl-")
    assert reply.choices[0].message.role == "assistant"
    assert reply.choices[0].finish_reason in ("stop", "length")
    usage = reply.usage
    assert usage.prompt_tokens > 10 and 0 < usage.completion_tokens <= 16, usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert chat(max_tokens=openai.omit, max_completion_tokens=2).usage.completion_tokens == 2


@check("content in parts, developer and system messages")
def _():
    parts = [{"type": "text", "text": TEXT}]
    assert said(chat([{"role": "user", "content": parts}])) == said(chat())
    more = chat([{"role": "developer", "content": "Answer."}, *USER])
    assert more.usage.prompt_tokens > chat().usage.prompt_tokens
    assert "Dover" in said(chat([{"role": "system", "content": "Answer."}, *USER]))


@check("chat, streamed, says the same")
def _():
    chunks = list(chat(stream=True))
    assert streamed(chunks) == said(chat())
    assert all(c.choices for c in chunks), "a chunk without choices that nobody asked for"
    assert len({(c.id, c.created) for c in chunks}) == 1
    assert chunks[-1].choices[0].finish_reason == chat().choices[0].finish_reason
    assert all(c.usage is None for c in chunks)


@check("stream_options: usage")
def _():
    chunks = list(chat(stream=True, stream_options={"include_usage": True}))
    last = chunks[-1]
    assert last.choices == [] and last.usage.completion_tokens > 0, last
    assert last.usage.prompt_tokens == chat().usage.prompt_tokens
    assert all(c.choices for c in chunks[:-1])


@check("n = 2")
def _():
    reply = chat(n=2, temperature=1.5, seed=3)
    assert [c.index for c in reply.choices] == [0, 1]
    assert reply.usage.completion_tokens > 2
    both = {0: "", 1: ""}
    for chunk in chat(n=2, temperature=1.5, seed=3, stream=True):
        for choice in chunk.choices:
            both[choice.index] += choice.delta.content or ""
    assert [both[0], both[1]] == [c.message.content for c in reply.choices], both
    assert len({c.message.content for c in chat(n=2).choices}) == 1, "greedy choices are equal"


@check("stop")
def _():
    full = said(chat())
    cut = full[len(full) // 2:][:4]
    for stop in (cut, ["no such text", cut]):
        reply = chat(stop=stop)
        assert said(reply) == full.split(cut)[0], said(reply)
        assert reply.choices[0].finish_reason == "stop"
    assert streamed(chat(stop=cut, stream=True)) == full.split(cut)[0]


@check("seed")
def _():
    hot = {"temperature": 1.5, "top_p": 1.0}
    assert said(chat(seed=5, **hot)) == said(chat(seed=5, **hot))
    assert len({said(chat(seed=s, **hot)) for s in range(4)}) > 1


@check("penalties")
def _():
    free = said(chat([{"role": "user", "content": "Hello"}], max_tokens=48))
    held = said(chat([{"role": "user", "content": "Hello"}], max_tokens=48,
                     frequency_penalty=2.0, presence_penalty=2.0))
    assert held != free and len(set(held.split())) > len(set(free.split())), (free, held)


@check("logit_bias forces and forbids")
def _():
    sea = token_ids(url, " sea")[-1]
    wanted = post_json(url + "/detokenize", {"tokens": [sea] * 3})["content"]
    reply = chat(logit_bias={str(sea): 100}, max_tokens=3)
    assert said(reply).strip() == wanted.strip(), (said(reply), wanted)
    ids = token_ids(url, "The prince went to the", special=True)
    usual = post_json(url + "/generate", {
        "input_ids": ids, "sampling_params": {"temperature": 0, "max_new_tokens": 1}})
    first = usual["output_ids"][0]
    forbidden = post_json(url + "/detokenize", {"tokens": [first]})["content"]
    other = complete(ids, max_tokens=1, logit_bias={str(first): -100}).choices[0].text
    assert complete(ids, max_tokens=1).choices[0].text != other, forbidden


@check("logprobs and top_logprobs")
def _():
    reply = chat(logprobs=True, top_logprobs=4)
    places = reply.choices[0].logprobs.content
    assert "".join(p.token for p in places).startswith(said(reply)), places
    for place in places:
        assert place.logprob <= 1e-6 and len(place.top_logprobs) == 4
        assert place.top_logprobs[0].token == place.token, "temperature 0 takes the best"
        ranked = [t.logprob for t in place.top_logprobs]
        assert ranked == sorted(ranked, reverse=True)
        assert place.bytes is None or bytes(place.bytes).decode(errors="replace") == place.token
    assert chat().choices[0].logprobs is None
    chunks = list(chat(logprobs=True, top_logprobs=4, stream=True))
    joined = [
        p for c in chunks if c.choices[0].logprobs for p in c.choices[0].logprobs.content or []]
    assert [p.token for p in joined] == [p.token for p in places]
    assert chat(logprobs=True).choices[0].logprobs.content[0].top_logprobs == []


# Constrained answers


@check("response_format json_object")
def _():
    reply = chat(response_format={"type": "json_object"}, max_tokens=256)
    if reply.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(said(reply)), dict), said(reply)
    else:
        assert said(reply).lstrip().startswith("{"), said(reply)


@check("response_format json_schema")
def _():
    schema = {"name": "visit", "strict": True, "schema": Visit.model_json_schema() | {
        "additionalProperties": False}}
    wanted = {"type": "json_schema", "json_schema": schema}
    for seed in range(3):
        reply = chat(response_format=wanted, max_tokens=200, temperature=1.0, seed=seed)
        Visit.model_validate_json(said(reply))
    text = streamed(chat(response_format=wanted, max_tokens=200, stream=True))
    Visit.model_validate_json(text)
    with raises(openai.BadRequestError):
        chat(response_format={"type": "json_schema", "json_schema": {
            "name": "x", "schema": {"type": "no such type"}}})


@check("chat.completions.parse")
def _():
    reply = client.chat.completions.parse(
        model=model, messages=USER, response_format=Visit, temperature=0, max_tokens=200)
    assert isinstance(reply.choices[0].message.parsed, Visit), reply


def check_arguments(name, text):
    values = json.loads(text)
    if name == "weather":
        assert set(values) == {"city", "days"}, values
        assert values["city"] in ("Dover", "Calais") and 1 <= values["days"] <= 7, values
    else:
        assert name == "clock" and values["zone"] in ("utc", "local"), (name, values)


@check("tool_choice: required and a named function")
def _():
    named = {"type": "function", "function": {"name": "clock"}}
    for choice in ("required", named):
        more = {"tools": [TOOL, OTHER_TOOL], "tool_choice": choice, "max_tokens": 200}
        reply = chat(**more)
        finish = reply.choices[0].finish_reason
        assert finish == "tool_calls" or (finish == "stop" and choice is named), finish
        for call in reply.choices[0].message.tool_calls:
            assert call.id and call.type == "function"
            check_arguments(call.function.name, call.function.arguments)
            assert choice == "required" or call.function.name == "clock"
        calls = {}
        for chunk in chat(stream=True, **more):
            for part in chunk.choices[0].delta.tool_calls or []:
                call = calls.setdefault(part.index, {"id": "", "name": "", "arguments": ""})
                call["id"] += part.id or ""
                call["name"] += part.function.name or ""
                call["arguments"] += part.function.arguments or ""
        assert calls, "no tool call in the stream"
        for call in calls.values():
            assert call["id"], calls
            check_arguments(call["name"], call["arguments"])


@check("tools: auto, none, and a history of calls")
def _():
    assert chat(tools=[TOOL]).choices[0].finish_reason
    assert not chat(tools=[TOOL], tool_choice="none").choices[0].message.tool_calls
    call = {"id": "call_1", "type": "function",
            "function": {"name": "weather", "arguments": '{"city": "Dover", "days": 1}'}}
    history = [
        *USER, {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"}]
    assert chat(history, tools=[TOOL]).usage.prompt_tokens > chat().usage.prompt_tokens
    with raises(openai.BadRequestError):
        chat(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "nothing"}})


# Completions


@check("completions")
def _():
    reply = complete("The prince went to")
    assert reply.object == "text_completion" and reply.choices[0].text, reply
    chunks = complete("The prince went to", stream=True)
    assert "".join(c.choices[0].text for c in chunks) == reply.choices[0].text
    assert complete("The prince", max_tokens=openai.omit).usage.completion_tokens <= 16


@check("completions: token ids and lists")
def _():
    texts = ["The prince went to", "She looked at the"]
    ids = [token_ids(url, t, special=True) for t in texts]
    alone = [complete(t).choices[0].text for t in texts]
    assert [complete(i).choices[0].text for i in ids] == alone
    assert complete(ids[0]).usage.prompt_tokens == complete(texts[0]).usage.prompt_tokens
    for prompts in (texts, ids):
        reply = complete(prompts)
        assert [c.index for c in reply.choices] == [0, 1]
        assert [c.text for c in reply.choices] == alone, (reply, alone)
    with raises(openai.BadRequestError):
        complete([10_000_000])
    with raises(openai.BadRequestError):
        complete([-1])


@check("completions: echo and logprobs")
def _():
    text = "The prince went to Moscow"
    for count in (0, 1):
        reply = complete(text, echo=True, logprobs=2, max_tokens=count)
        made, places = reply.choices[0].text, reply.choices[0].logprobs
        assert made.startswith(text), made
        assert "".join(places.tokens).endswith(made), (places.tokens, made)
        assert places.token_logprobs[0] is None and all(p <= 1e-6 for p in places.token_logprobs[1:])
        assert len(places.tokens) == len(places.token_logprobs) == len(places.text_offset)
        assert places.text_offset == sorted(places.text_offset)
        assert all(len(top) >= 2 for top in places.top_logprobs[1:])
    places = complete(text, logprobs=1, max_tokens=4).choices[0].logprobs
    assert len(places.tokens) == 4 and None not in places.token_logprobs


# Embeddings and models


@check("embeddings")
def _():
    texts = ["The sea is blue.", "Bread."]
    packed = client.embeddings.create(model=model, input=texts)
    plain = client.embeddings.create(model=model, input=texts, encoding_format="float")
    for a, b in zip(packed.data, plain.data):
        assert a.index == b.index and len(a.embedding) == len(b.embedding) > 1
        assert max(abs(x - y) for x, y in zip(a.embedding, b.embedding)) < 1e-5
    assert packed.usage.prompt_tokens > 0
    one = client.embeddings.create(model=model, input=texts[0]).data[0].embedding
    assert max(abs(x - y) for x, y in zip(one, packed.data[0].embedding)) < 1e-3
    ids = [token_ids(url, t, special=True) for t in texts]
    for given in (ids[0], ids):
        data = client.embeddings.create(model=model, input=given).data
        assert len(data) == (1 if given is ids[0] else 2)
        assert max(abs(x - y) for x, y in zip(one, data[0].embedding)) < 1e-3
    assert len(client.embeddings.create(model=model, input="a", dimensions=16).data[0].embedding) == 16


@check("models")
def _():
    found = {m.id: m for m in client.models.list().data}
    assert found, "no models"
    for name in found:
        assert client.models.retrieve(name).id == name
    raw = get_json(url + "/v1/models")["data"]
    assert all(m["object"] == "model" and m["created"] > 0 for m in raw), raw
    assert any(m.get("max_model_len") or m.get("meta", {}).get("n_ctx_train") for m in raw), raw
    assert client.chat.completions.create(
        model=next(iter(found)), messages=USER, max_tokens=1).choices
    with raises(openai.NotFoundError):
        client.models.retrieve("no-such-model:7b-v1.5")


# Errors


@check("unknown model: 404")
def _():
    for call in (
        lambda: client.chat.completions.create(model="no-such-model", messages=USER),
        lambda: client.completions.create(model="no-such-model", prompt="a"),
        lambda: client.embeddings.create(model="no-such-model", input="a"),
    ):
        with raises(openai.NotFoundError) as caught:
            call()
        assert "no-such-model" in str(caught.error.message), caught.error
        assert caught.error.type == "not_found_error", caught.error.body


@check("too long: 400 with both numbers, not retried")
def _():
    for stream in (False, True):
        with raises(openai.BadRequestError) as caught:
            chat([{"role": "user", "content": LONG_TEXT}], extra_body={"num_ctx": 64}, stream=stream)
        error = caught.error
        assert error.code == "context_length_exceeded", error.body
        assert error.type == "invalid_request_error", error.body
        assert 64 in numbers(error.message) and max(numbers(error.message)) > 300, error.message
        assert error.body["n_ctx"] == 64 and error.body["n_prompt_tokens"] > 300, error.body
        assert error.response.headers.get("x-should-retry") == "false", error.response.headers
    with raises(openai.BadRequestError):
        chat([{"role": "user", "content": LONG_TEXT}], extra_body={"options": {"num_ctx": 64}})
    with raises(openai.BadRequestError):
        complete(LONG_TEXT, extra_body={"num_ctx": 64})


@check("bad requests: 400")
def _():
    image = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}]
    for name, call in {
        "n too large": lambda: chat(n=100_000),
        "n 0": lambda: chat(n=0),
        "logit_bias key": lambda: chat(logit_bias={"abc": 1}),
        "logit_bias id": lambda: chat(logit_bias={"99999999": 1}),
        "image": lambda: chat([{"role": "user", "content": image}]),
        "no messages": lambda: chat([]),
        "top_logprobs": lambda: chat(logprobs=True, top_logprobs=21),
        "role": lambda: chat([{"role": "nobody", "content": "a"}]),
        "temperature": lambda: chat(temperature="hot"),
        "max_tokens": lambda: chat(max_tokens=-5),
        "attention": lambda: chat(extra_body={"attention": "no-such-policy"}),
    }.items():
        try:
            call()
        except openai.BadRequestError as error:
            assert error.body["message"] and error.body["type"] == "invalid_request_error", error.body
        else:
            raise AssertionError(f"{name} was accepted")
    status, _, body = http("POST", url + "/v1/chat/completions", b"{")
    assert status == 400 and json.loads(body)["error"]["message"], body


# The wire


@check("SSE: role first, [DONE] last")
def _():
    found, _ = sse()
    assert found[0]["choices"][0]["delta"]["role"] == "assistant", found[0]
    assert found[-1] == "[DONE]" and found.count("[DONE]") == 1
    assert all(e["object"] == "chat.completion.chunk" for e in found[:-1])
    assert found[-2]["choices"][0]["finish_reason"] in ("stop", "length"), found[-2]
    assert all(e["choices"] for e in found[:-1])
    assert all(e["choices"][0]["finish_reason"] is None for e in found[:-2])


@check("SSE: return_progress")
def _():
    text = " ".join(f"The number of house {n} is {n * 3 % 1000}." for n in range(400))
    found, _ = sse(messages=[{"role": "user", "content": text}], return_progress=True,
                   stream_options={"include_usage": True})
    steps = [e["prompt_progress"] for e in found[:-1] if e.get("prompt_progress")]
    assert steps, "no prompt_progress"
    for step in steps:
        assert {"total", "processed", "cache", "time_ms"} <= set(step), step
        assert 0 <= step["processed"] <= step["total"]
    total = found[-2]["usage"]["prompt_tokens"]
    assert steps[-1]["total"] == total, (steps[-1], total)
    assert [s["processed"] for s in steps] == sorted(s["processed"] for s in steps)
    found, _ = sse(messages=[{"role": "user", "content": "Now " + text}])
    assert not any(e.get("prompt_progress") for e in found[:-1])


@check("a cancelled stream stops the work")
def _():
    stream = chat([{"role": "user", "content": "Hello"}], max_tokens=20_000, stream=True)
    for _ in zip(range(3), stream):
        pass
    stream.close()
    wait_until(lambda: running(url) == 0, 2, "no running request")


@check("CORS for the SDK in a browser")
def _():
    page = {"Origin": "http://localhost:3000"}
    reply = httpx.get(url + "/v1/models/nope", headers=page)
    assert reply.status_code == 404
    assert reply.headers["access-control-allow-origin"] == page["Origin"], reply.headers
    own = {"Origin": url}
    assert httpx.get(url + "/v1/models", headers=own).status_code == 200
    status, headers, _ = http("OPTIONS", url + "/v1/chat/completions", headers={
        "Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-stainless-lang"})
    assert status in (200, 204), status
    assert headers.get("Access-Control-Allow-Origin") in ("*", "http://localhost:3000"), headers
    assert "x-stainless-lang" in headers.get("Access-Control-Allow-Headers", "").lower() or \
        headers.get("Access-Control-Allow-Headers") == "*", headers


# Native routes


@check("tokenize and detokenize")
def _():
    text = "Zoë’s café — 東京 🙂"
    for special in (False, True):
        ids = token_ids(url, text, special=special)
        assert post_json(url + "/detokenize", {"tokens": ids})["content"].endswith(text)
    assert len(token_ids(url, text, special=True)) >= len(token_ids(url, text))
    assert token_ids(url, "") == []
    pieces = post_json(url + "/tokenize", {"content": "a b", "with_pieces": True})["tokens"]
    assert all("id" in p and "piece" in p for p in pieces), pieces


@check("health, props, metrics")
def _():
    assert get_json(url + "/health")["status"] == "ok"
    assert isinstance(get_json(url + "/props"), dict)
    status, headers, body = http("GET", url + "/metrics")
    assert status == 200 and headers["Content-Type"].startswith("text/plain")
    assert re.search(rb"^# TYPE \S*(first_token|ttft)\S* histogram", body, re.M), "time to first token"
    for word in ("running", "waiting", "kv"):
        assert metric(url, word) >= 0
    for word in ("request", "prompt", "genera", "cached"):
        assert metric(url, word, "counter") >= 0
    before = metric(url, "prompt", "counter")
    chat([{"role": "user", "content": "Counted."}])
    assert metric(url, "prompt", "counter") > before


@check("/generate of SGLang")
def _():
    sampling = {"temperature": 0, "max_new_tokens": 8}
    body = {"text": "The prince went to", "sampling_params": sampling}
    reply = post_json(url + "/generate", body)
    meta = reply["meta_info"]
    assert reply["text"] and len(reply["output_ids"]) == meta["completion_tokens"] == 8, reply
    assert meta["finish_reason"]["type"] == "length" and meta["prompt_tokens"] >= 4, meta
    assert reply["text"] == complete("The prince went to").choices[0].text
    ids = token_ids(url, body["text"], special=True)
    assert post_json(url + "/generate", {"input_ids": ids, "sampling_params": sampling})[
        "text"] == reply["text"]
    several = post_json(url + "/generate", body | {"text": [body["text"], "She"]})
    assert len(several) == 2 and several[0]["text"] == reply["text"]
    raw = httpx.post(url + "/generate", json=body | {"stream": True}, timeout=60)
    found = list(events(raw.text.splitlines()))
    assert found[-1] == "[DONE]"
    texts = [e["text"] for e in found[:-1]]
    assert all(b.startswith(a) for a, b in zip(texts, texts[1:])), "text is cumulative"
    assert texts[-1] == reply["text"], (texts[-1], reply["text"])
    assert all(e["meta_info"]["finish_reason"] is None for e in found[:-2])
    with_logprobs = post_json(url + "/generate", body | {"return_logprob": True})
    logprobs = with_logprobs["meta_info"]["output_token_logprobs"]
    assert [p[1] for p in logprobs] == reply["output_ids"] and all(p[0] <= 1e-6 for p in logprobs)
    status, _, body = http("POST", url + "/generate", {"sampling_params": {}})
    assert status == 400 and json.loads(body)["error"]["message"], body


@check("extra members: attention and budget")
def _():
    for more in ({"attention": "dense"}, {"attention": "infinitehip"}, {"attention": "auto"},
                 {"budget": 2048}, {"attention": "infinitehip", "budget": 1024}):
        assert "Dover" in said(chat(extra_body=more)), more


run_checks(args.only)
