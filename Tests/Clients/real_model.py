# SPDX-License-Identifier: Apache-2.0
"""Models that were made elsewhere: a small one that follows instructions, and a base model."""

import json
import re
from pathlib import Path

import httpx
import ollama
import openai

from harness import (Server, Skipped, check, get_json, note, options, raises, run_checks,
                     wait_until)

args = options(__doc__, ("--binary", dict(required=True)),
               ("--models", dict(required=True, help="folder with the files of fetch-real-models")))

GREEDY = {"temperature": 0, "num_predict": 40}
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 30},
        "kind": {"enum": ["city", "river", "hill"]},
        "place": {
            "type": "object",
            "properties": {"country": {"type": "string", "maxLength": 30},
                           "is_capital": {"type": "boolean"}},
            "required": ["country", "is_capital"],
            "additionalProperties": False,
        },
        "rivers": {"type": "array", "items": {"type": "string", "maxLength": 20},
                   "minItems": 1, "maxItems": 3},
        "people": {"type": "integer", "minimum": 0, "maximum": 99_999_999},
    },
    "required": ["name", "kind", "place", "rivers", "people"],
    "additionalProperties": False,
}
TOOLS = [{"type": "function", "function": {
    "name": "get_weather", "description": "Get the current weather of a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 40},
                       "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]}},
        "required": ["city", "unit"], "additionalProperties": False}}}]
SIZES = {"smollm2-135m": (134.5, "llama", 8192), "gemma-3-270m": (268.1, "gemma3", 32768)}


def name_of(word):
    """Name of the model whose file's name has a word; the check is left out where there is none."""
    for file in files:
        if word in file.name.lower():
            return f"{file.stem}:latest"
    raise Skipped(f"there is no {word} in {args.models}")


files = sorted(Path(args.models).glob("*.gguf"))
assert files, f"there is no GGUF file in {args.models}"
chosen = next((f for f in files if "smollm2" in f.name.lower()), files[0])


def smol():
    return name_of("smollm2")


def gemma():
    return name_of("gemma")


def post(path, **body):
    return httpx.post(url + path, json=body, timeout=300)


def said(reply):
    return reply.choices[0].message.content


def check_place(text):
    """By hand, as nothing here knows JSON schemas: SCHEMA holds for a text."""
    value = json.loads(text)
    assert set(value) == set(SCHEMA["required"]), value
    assert isinstance(value["name"], str) and len(value["name"]) <= 30, value
    assert value["kind"] in ("city", "river", "hill"), value
    place = value["place"]
    assert set(place) == {"country", "is_capital"}, place
    assert isinstance(place["country"], str) and isinstance(place["is_capital"], bool), place
    assert 1 <= len(value["rivers"]) <= 3 and all(isinstance(r, str) for r in value["rivers"])
    assert type(value["people"]) is int and 0 <= value["people"] <= 99_999_999, value
    return value


def check_call(name, arguments):
    assert name == "get_weather", name
    assert set(arguments) == {"city", "unit"} and isinstance(arguments["city"], str), arguments
    assert arguments["unit"] in ("celsius", "fahrenheit"), arguments


server = Server(args.binary, str(chosen), ["--models", args.models])
server.__enter__()
url = server.url
client = ollama.Client(host=url)
other = openai.OpenAI(base_url=url + "/v1", api_key="x", max_retries=0)


# What is listed


@check("/api/tags and /v1/models list each file once")
def _():
    tags = [m["name"] for m in get_json(url + "/api/tags")["models"]]
    ids = [m.id for m in other.models.list()]
    for file in files:
        for known in (tags, ids):
            assert known.count(f"{file.stem}:latest") == 1, (file.name, known)
    assert len(tags) == len(files), tags
    for entry in get_json(url + "/v1/models")["data"]:
        length = entry.get("max_model_len") or entry["meta"]["n_ctx_train"]
        assert length >= 2048, entry


@check("list and show: family, size, quantisation, length")
def _():
    tags = {m["name"]: m for m in get_json(url + "/api/tags")["models"]}
    for file in files:
        name = f"{file.stem}:latest"
        card = post("/api/show", model=name).json()
        for details in (tags[name]["details"], card["details"]):
            level = details["quantization_level"]
            stem = file.stem.lower().replace("-", ".")
            assert stem.endswith("." + level.lower()), (file.name, level)
            for word, (millions, family, length) in SIZES.items():
                if word in file.name.lower():
                    assert details["family"] == family and details["families"] == [family], details
                    size = float(re.fullmatch(r"([\d.]+)M", details["parameter_size"])[1])
                    assert abs(size - millions) < 0.5, details
                    assert details["context_length"] == length, details
        note(f"{name}: {card['details']['parameter_size']} {level} {card['capabilities']}")
        info = card["model_info"]
        family = info["general.architecture"]
        assert info["general.parameter_count"] > 1e8, info["general.parameter_count"]
        assert info[f"{family}.block_count"] > 10 and info[f"{family}.context_length"] >= 8192
        assert all(isinstance(v, int) for k, v in info.items() if k.endswith("_count")), \
            [k for k, v in info.items() if k.endswith("_count") and not isinstance(v, int)]
        assert tags[name]["size"] == file.stat().st_size
        assert re.fullmatch("[0-9a-f]{64}", tags[name]["digest"])
        assert client.show(name).details.format == "gguf"


@check("capabilities: what a base model without a template cannot do is not promised")
def _():
    assert "completion" in client.show(smol()).capabilities
    assert "tools" not in client.show(gemma()).capabilities


# The one that follows instructions


@check("SmolLM2 by `ollama`: the capital of France, and a second turn")
def _():
    reply = client.chat(smol(), QUESTION, options=GREEDY)
    assert "Paris" in reply.message.content, reply.message.content
    assert reply.done_reason == "stop" and "<|im" not in reply.message.content, reply
    turns = [*QUESTION, {"role": "assistant", "content": reply.message.content},
             {"role": "user", "content": "What country is this city in?"}]
    second = client.chat(smol(), turns, options=GREEDY)
    assert "France" in second.message.content, second.message.content
    assert "Paris" in client.generate(smol(), QUESTION[0]["content"], options=GREEDY).response


@check("SmolLM2 by `openai`: the capital of France, and a second turn")
def _():
    def ask(turns):
        return other.chat.completions.create(
            model=smol(), messages=turns, temperature=0, max_tokens=40)

    reply = ask(QUESTION)
    assert "Paris" in said(reply) and reply.choices[0].finish_reason == "stop", said(reply)
    turns = [*QUESTION, {"role": "assistant", "content": said(reply)},
             {"role": "user", "content": "What country is this city in?"}]
    assert "France" in said(ask(turns)), said(ask(turns))


@check("SmolLM2: its template's own system message, or the request's")
def _():
    def rendered(*messages):
        return post("/api/chat", model=smol(), messages=messages, stream=False,
                    _debug_render_only=True).json()["_debug_info"]["rendered_template"]

    plain = rendered(*QUESTION)
    assert plain.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM"), plain
    mine = rendered({"role": "system", "content": "Be brief."}, *QUESTION)
    assert mine == ("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n"
                    "What is the capital of France?<|im_end|>\n<|im_start|>assistant\n"), mine


@check("streaming equals not streaming, on both APIs, in both models")
def _():
    for question in ("Tell me a short story about a lighthouse.", "Zoë 東京 🙂: what is this?"):
        turns = [{"role": "user", "content": question}]
        whole = client.chat(smol(), turns, options=GREEDY)
        parts = list(client.chat(smol(), turns, options=GREEDY, stream=True))
        assert "".join(p.message.content for p in parts) == whole.message.content
        assert parts[-1].eval_count == whole.eval_count
        chunks = other.chat.completions.create(
            model=smol(), messages=turns, temperature=0, max_tokens=40, stream=True)
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert text == whole.message.content, (text, whole.message.content)
        for name in (smol(), gemma()):
            whole = client.generate(name, question, raw=True, options=GREEDY).response
            parts = client.generate(name, question, raw=True, options=GREEDY, stream=True)
            assert "".join(p.response for p in parts) == whole
            chunks = other.completions.create(
                model=name, prompt=question, temperature=0, max_tokens=40, stream=True)
            text = "".join(c.choices[0].text for c in chunks if c.choices)
            assert text == whole, (name, text, whole)


@check("SmolLM2: sampling obeys the seed")
def _():
    def text(seed):
        hot = {"temperature": 1.0, "num_predict": 24, "seed": seed}
        return client.generate(smol(), "Tell me a story.", options=hot).response

    assert text(1) == text(1)
    assert len({text(seed) for seed in range(4)}) > 1


@check("SmolLM2: JSON schema with an object, an array, an enum")
def _():
    turns = [{"role": "user", "content": "Describe Paris as JSON."}]
    reply = client.chat(smol(), turns, format=SCHEMA, options={"temperature": 0, "num_predict": 400})
    note(json.dumps(check_place(reply.message.content)))
    for seed in range(3):
        hot = {"temperature": 1.2, "seed": seed, "num_predict": 400}
        check_place(client.chat(smol(), turns, format=SCHEMA, options=hot).message.content)
    reply = other.chat.completions.create(
        model=smol(), messages=turns, temperature=0, max_tokens=400, response_format={
            "type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA, "strict": True}})
    check_place(said(reply))


@check("SmolLM2: tool_choice required, and by name")
def _():
    turns = [{"role": "user", "content": "What is the weather in Paris?"}]
    for choice in ("required", {"type": "function", "function": {"name": "get_weather"}}):
        for stream in (False, True):
            reply = other.chat.completions.create(
                model=smol(), messages=turns, tools=TOOLS, tool_choice=choice, temperature=0,
                max_tokens=200, stream=stream)
            if stream:
                name, text, reason = "", "", None
                for chunk in reply:
                    for call in chunk.choices[0].delta.tool_calls or []:
                        name += call.function.name or ""
                        text += call.function.arguments or ""
                    reason = chunk.choices[0].finish_reason or reason
            else:
                call = reply.choices[0].message.tool_calls[0]
                name, text = call.function.name, call.function.arguments
                reason = reply.choices[0].finish_reason
            check_call(name, json.loads(text))
            assert reason == "tool_calls", reason
            note(f"{name}({text})")


@check("SmolLM2: a tool's result, and an answer")
def _():
    turns = [
        {"role": "user", "content": "What is the weather in Paris?"},
        {"role": "assistant", "content": "", "tool_calls": [
            {"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}]},
        {"role": "tool", "content": "It rains in Paris, 9 degrees.", "tool_name": "get_weather"}]
    try:
        reply = client.chat(smol(), turns, tools=TOOLS, options=GREEDY)
    except ollama.ResponseError as error:
        assert error.status_code == 400 and "tools" in error.error, error
        assert "tools" not in client.show(smol()).capabilities
        note(error.error)
        return
    note(repr(reply.message.content))
    assert reply.done and (reply.message.content or reply.message.tool_calls)


# The base model


@check("Gemma by generate raw and /v1/completions")
def _():
    text = "Paris is the capital of"
    raw = client.generate(gemma(), text, raw=True, options={"temperature": 0, "num_predict": 8})
    assert "France" in raw.response, raw.response
    reply = other.completions.create(model=gemma(), prompt=text, temperature=0, max_tokens=8)
    assert "France" in reply.choices[0].text, reply.choices[0].text
    assert reply.usage.prompt_tokens == raw.prompt_eval_count


@check("Gemma has no template: chat is refused in words")
def _():
    if "<start_of_turn>" in (client.show(gemma()).template or ""):
        raise Skipped("it has a template")
    for path, body in (("/api/chat", {"messages": QUESTION}),
                       ("/v1/chat/completions", {"messages": QUESTION})):
        for stream in (True, False):
            reply = post(path, model=gemma(), stream=stream, **body)
            assert reply.status_code == 400, (path, reply.status_code, reply.text[:200])
            error = reply.json()["error"]
            error = error if isinstance(error, str) else error["message"]
            assert "chat" in error and len(error.split()) > 4, error
    note(error)


@check("Gemma: generate without raw answers or is refused in words")
def _():
    reply = post("/api/generate", model=gemma(), prompt="The sea is", stream=False, options=GREEDY)
    if reply.status_code == 200:
        assert reply.json()["response"], reply.text
    else:
        assert reply.status_code == 400 and len(reply.json()["error"].split()) > 4, reply.text
    note(reply.text[:200])
    with_template = post("/api/generate", model=gemma(), prompt="The sea is", stream=False,
                         options=GREEDY, template="{{ .Prompt }}")
    assert with_template.status_code == 200 and with_template.json()["response"], with_template.text


# Embeddings


@check("embeddings: length 1, and sentences that mean the same are near")
def _():
    texts = ["A cat sleeps on the sofa.", "A kitten is sleeping on the couch.",
             "The parliament passed a law on taxes.", "The assembly adopted a bill about taxation."]
    for name in (smol(), gemma()):
        for way in ("ollama", "openai"):
            if way == "ollama":
                vectors = client.embed(name, texts).embeddings
            else:
                vectors = [d.embedding for d in other.embeddings.create(model=name, input=texts).data]
            assert all(abs(sum(x * x for x in v) ** 0.5 - 1) < 1e-3 for v in vectors)

            def near(a, b):
                return sum(x * y for x, y in zip(vectors[a], vectors[b]))

            alike, unlike = [near(0, 1), near(2, 3)], [near(0, 2), near(0, 3), near(1, 2), near(1, 3)]
            assert min(alike) > max(unlike), (name, way, alike, unlike)
        note(f"{name}: alike {min(alike):.3f}, unlike {max(unlike):.3f}")


# Both at once


@check("both loaded at once; keep_alive 0 unloads one")
def _():
    for name in (smol(), gemma()):
        client.generate(name, "Hi", raw=True, options={"num_predict": 1}, keep_alive="5m")
    loaded = {m.model: m for m in client.ps().models}
    assert set(loaded) == {smol(), gemma()}, list(loaded)
    for name, entry in loaded.items():
        assert entry.size > 50_000_000 and entry.expires_at and entry.digest, entry
    client.generate(gemma(), "", keep_alive=0)
    wait_until(lambda: [m.model for m in client.ps().models] == [smol()], 5, "one unloaded")
    assert "Paris" in client.chat(smol(), QUESTION, options=GREEDY).message.content
    assert client.generate(gemma(), "The", raw=True, options={"num_predict": 1}).response


@check("both answer at once")
def _():
    from concurrent.futures import ThreadPoolExecutor

    def ask(turn):
        name = (smol(), gemma())[turn % 2]
        return name, client.generate(name, "The capital of France is", raw=True, options=GREEDY).response

    alone = dict(ask(turn) for turn in range(2))
    with ThreadPoolExecutor(8) as pool:
        for name, text in pool.map(ask, range(8)):
            assert text == alone[name], (name, text, alone[name])


@check("overflow says both numbers")
def _():
    with raises(ollama.ResponseError) as caught:
        client.chat(smol(), [{"role": "user", "content": "word " * 3000}], options={"num_ctx": 2048})
    assert caught.error.status_code == 400 and "2048" in caught.error.error, caught.error


try:
    run_checks(args.only)
finally:
    server.__exit__()
