# SPDX-License-Identifier: Apache-2.0
"""A store as Ollama keeps it, made by hand: what is in it is served, and nothing in it changes."""

import atexit
import hashlib
import json
import re
import shutil
import tempfile
from pathlib import Path

import httpx
import ollama
import openai

from harness import Server, check, numbers, options, raises, run_checks, wait_until

args = options(__doc__, ("--binary", dict(required=True)),
               ("--model-file", dict(required=True, help="a GGUF file that speaks ChatML")))

CHATML = """{{- if .Messages }}
{{- if or .System .Tools }}<|im_start|>system
{{- if .System }}
{{ .System }}
{{- end }}
{{- if .Tools }}

You may call one or more functions. These are their signatures:
<tools>
{{- range .Tools }}
{"type": "function", "function": {{ .Function }}}
{{- end }}
</tools>

For each call, return a JSON object within <tool_call></tool_call>:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call>
{{- end }}<|im_end|>
{{ end }}
{{- range $i, $_ := .Messages }}
{{- $last := eq (len (slice $.Messages $i)) 1 -}}
{{- if eq .Role "user" }}<|im_start|>user
{{ .Content }}<|im_end|>
{{ else if eq .Role "assistant" }}<|im_start|>assistant
{{ if .Content }}{{ .Content }}
{{- else if .ToolCalls }}<tool_call>
{{ range .ToolCalls }}{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}
{{ end }}</tool_call>
{{- end }}{{ if not $last }}<|im_end|>
{{ end }}
{{- else if eq .Role "tool" }}<|im_start|>user
<tool_response>
{{ .Content }}
</tool_response><|im_end|>
{{ end }}
{{- if and (ne .Role "assistant") $last }}<|im_start|>assistant
{{ end }}
{{- end }}
{{- else }}
{{- if .System }}<|im_start|>system
{{ .System }}<|im_end|>
{{ end }}{{ if .Prompt }}<|im_start|>user
{{ .Prompt }}<|im_end|>
{{ end }}<|im_start|>assistant
{{ end }}{{ .Response }}{{ if .Response }}<|im_end|>{{ end }}"""
LEGACY = """{{ if .System }}<|im_start|>system
{{ .System }}<|im_end|>
{{ end }}{{ if .Prompt }}<|im_start|>user
{{ .Prompt }}<|im_end|>
{{ end }}<|im_start|>assistant
{{ .Response }}<|im_end|>
"""
BROKEN = {
    "unclosed": "{{ if .Messages }}{{ range",
    "unknown-function": "{{ noSuchFunction .Prompt }}",
    "fails": "{{ range .Messages }}{{ .Content.No.Such.Member }}{{ end }}",
    "index": "{{ (index .Messages 99).Content }}",
}
HOSTILE = {
    "recursive": '{{ define "a" }}{{ template "a" . }}{{ end }}{{ template "a" . }}{{ .Prompt }}',
    "wide": '{{ printf "%2000000000d" 1 }}{{ .Prompt }}',
    "nested": "{{ if .Prompt }}" * 20_000 + "a" + "{{ end }}" * 20_000,
    "parentheses": "{{ " + "(" * 100_000 + ".Prompt" + ")" * 100_000 + " }}",
}
SYSTEM = "You are a keeper of a lighthouse."
MESSAGES = [{"role": "user", "content": "Say A."}, {"role": "assistant", "content": "A."}]
PARAMS = {"temperature": 0, "num_predict": 12, "num_ctx": 1024, "stop": ["<|im_end|>", "<|stop|>"]}
LICENSE = "Apache License\nVersion 2.0"
TEXT = "Clara Kendall lives in Dover. Where does Clara Kendall live?"
USER = [{"role": "user", "content": TEXT}]
NAME = "lantern:chat"
TOOL = {"type": "function", "function": {
    "name": "weather", "description": "Says the weather.", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}


class Store:
    """Manifests and blobs in a folder."""

    def __init__(self, root):
        self.root = Path(root)

    def blob(self, data, there=True):
        """The digest of bytes, or of a file, which is put in, or left out."""
        whole = data.read_bytes() if isinstance(data, Path) else data
        digest = hashlib.sha256(whole).hexdigest()
        path = self.root / "blobs" / f"sha256-{digest}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if there and not path.exists():
            path.write_bytes(whole)
        return {"digest": f"sha256:{digest}", "size": len(whole)}

    def layer(self, kind, data, there=True):
        data = data.encode() if isinstance(data, str) else data
        return {"mediaType": f"application/vnd.ollama.image.{kind}", **self.blob(data, there)}

    def manifest(self, layers):
        config = self.blob(json.dumps({
            "model_format": "gguf", "model_family": "llama", "model_families": ["llama"],
            "model_type": "1M", "file_type": "Q8_0", "architecture": "amd64", "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
        }).encode())
        return json.dumps({
            "schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {"mediaType": "application/vnd.docker.container.image.v1+json", **config},
            "layers": layers}, indent=1).encode()

    def add(self, name, layers, host="registry.example.org"):
        """Writes a manifest, given as layers or as bytes; gives the bytes."""
        data = layers if isinstance(layers, bytes) else self.manifest(layers)
        path, tag = name.split(":")
        path = path if "/" in path else f"library/{path}"
        file = self.root / "manifests" / host / path / tag
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        return data

    def contents(self):
        """Every path with its kind, size, time and digest."""
        found = {}
        for path in sorted(self.root.rglob("*")):
            status = path.lstat()
            digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            found[str(path.relative_to(self.root))] = (
                status.st_mode, status.st_size, status.st_mtime_ns, digest)
        return found


folder = tempfile.mkdtemp()
atexit.register(shutil.rmtree, folder, True)
store = Store(f"{folder}/ollama")
own = Path(f"{folder}/own")
gguf = store.layer("model", Path(args.model_file))
whole = [gguf, store.layer("template", CHATML), store.layer("system", SYSTEM),
         store.layer("params", json.dumps(PARAMS)), store.layer("messages", json.dumps(MESSAGES)),
         store.layer("license", LICENSE)]
manifest = store.add(NAME, whole)
store.add("lantern:legacy", [gguf, store.layer("template", LEGACY), store.layer("system", SYSTEM)])
store.add("lantern:plain", [gguf, store.layer("prompt", "{{ .System }} {{ .Prompt }}"),
                            store.layer("system", SYSTEM)])
store.add("lantern:own", [gguf])
store.add("someone/lantern:latest", [gguf, store.layer("system", SYSTEM)], "other.example.org")
for kind, text in (BROKEN | HOSTILE).items():
    store.add(f"broken:{kind}", [gguf, store.layer("template", text)])
lost = store.layer("model", b"a blob that is not there", there=False)
DAMAGED = {
    "no-blob": [lost],
    "no-template-blob": [gguf, store.layer("template", "{{ .Prompt }} lost", there=False)],
    "no-system-blob": [gguf, store.layer("system", "lost, too", there=False)],
    "garbage": [store.layer("model", b"\x93garbage" * 1000)],
    "empty": [store.layer("model", b"")],
    "magic": [store.layer("model", b"GGUF\3\0\0\0" + b"\xff" * 500)],
    "cut": [store.layer("model", Path(args.model_file).read_bytes()[:1_000_000])],
    "no-model": [store.layer("system", SYSTEM)],
    "bad-params": [gguf, store.layer("params", "{no JSON")],
}
NO_MANIFESTS = {
    "text": b"this is no JSON", "list": b"[1, 2]", "nothing": b"", "binary": b"\xff\xfe\0" * 99,
    "layers": b'{"schemaVersion": 2, "config": 5, "layers": {"a": 1}}',
    "deep": b"[" * 100_000,
    "leads-out": json.dumps({"config": {"digest": "sha256:../../x", "size": 1}, "layers": [
        {"mediaType": gguf["mediaType"], "digest": "sha256:../../../../etc/passwd", "size": 1}]}).encode(),
}
for kind, layers in DAMAGED.items():
    store.add(f"damaged:{kind}", layers)
for kind, data in NO_MANIFESTS.items():
    store.add(f"unreadable:{kind}", data)
(store.root / "manifests/registry.example.org/library/a-folder/tag").mkdir(parents=True)
(store.root / "manifests/stray-file").write_text("stray")
(store.root / "blobs" / "sha256-0000-partial").write_text("part")
before = store.contents()

server = Server(args.binary, args.model_file, ["--store", str(own)], {"OLLAMA_MODELS": str(store.root)})
server.__enter__()
atexit.register(server.__exit__)
url = server.url
client = ollama.Client(host=url)
other = openai.OpenAI(base_url=url + "/v1", api_key="x", max_retries=0)


def post(path, **body):
    return httpx.post(url + path, json=body, timeout=120)


def rendered(path, model=NAME, **more):
    """The prompt that the server makes of a request, without the begin token."""
    reply = post(path, model=model, stream=False, _debug_render_only=True, **more)
    assert reply.status_code == 200, reply.text
    text = reply.json()["_debug_info"]["rendered_template"]
    return text.removeprefix("<|endoftext|>").removeprefix("<s>").removeprefix("<bos>")


def same(found, expected):
    assert found == expected, f"{found!r} is not {expected!r}"


def chatml(*turns, end="<|im_start|>assistant\n"):
    return "".join(f"<|im_start|>{r}\n{c}<|im_end|>\n" for r, c in turns) + end


def error_of(reply, *statuses):
    """The words of an error reply."""
    assert reply.status_code in (statuses or range(400, 600)), (reply.status_code, reply.text[:300])
    text = reply.json()["error"]
    text = text if isinstance(text, str) else text["message"]
    assert len(text.split()) >= 3, f"an error in words: {text!r}"
    return text


def is_alive():
    assert server.process.poll() is None, f"the server ended: {server.log_text()[-300:]}"
    assert client.chat(NAME, USER).message.content, "still answers"


BEGIN = [("system", SYSTEM), ("user", "Say A."), ("assistant", "A.")]


# What is there


@check("tags and /v1/models list it")
def _():
    found = {m["name"]: m for m in httpx.get(url + "/api/tags", timeout=60).json()["models"]}
    for name in (NAME, "lantern:legacy", "lantern:plain", "other.example.org/someone/lantern:latest"):
        assert name in found, (name, list(found))
    mine = found[NAME]
    assert mine["digest"] == hashlib.sha256(manifest).hexdigest(), mine["digest"]
    size = sum(layer["size"] for layer in whole)
    config = json.loads(manifest)["config"]["size"]
    assert mine["size"] in (size, size + config), (mine["size"], size, config)
    details = mine["details"]
    assert details["format"] == "gguf" and details["family"] == "llama", details
    assert details["families"] == ["llama"] and re.match(r"[\d.]+M$", details["parameter_size"])
    assert details["quantization_level"].startswith("Q"), details
    assert mine["capabilities"] and "tools" in mine["capabilities"], mine
    ids = [m.id for m in other.models.list()]
    assert NAME in ids and "other.example.org/someone/lantern:latest" in ids, ids
    assert other.models.retrieve(NAME).id == NAME
    assert NAME in [m.model for m in client.list().models]


@check("names: letters great and small, with a host, without the tag")
def _():
    for name in ("LANTERN:Chat", "registry.example.org/library/lantern:chat", "library/lantern:chat"):
        assert post("/api/show", model=name).json().get("system") == SYSTEM, name
    assert post("/api/show", model="someone/lantern").json()["system"] == SYSTEM
    assert error_of(post("/api/show", model="lantern"), 404) == "model 'lantern' not found"


@check("show")
def _():
    card = post("/api/show", model=NAME).json()
    same(card["template"], CHATML)
    same(card["system"], SYSTEM)
    same(card["license"], LICENSE)
    lines = card["parameters"].splitlines()
    for line in ("temperature                    0", "num_ctx                        1024",
                 'stop                           "<|im_end|>"',
                 'stop                           "<|stop|>"'):
        assert line in lines, (line, lines)
    assert len(lines) == 5, lines
    assert isinstance(card["model_info"], dict)
    assert card["model_info"]["general.architecture"] == "llama", card["model_info"]
    assert {"completion", "tools"} <= set(card["capabilities"]), card["capabilities"]
    assert card["modelfile"].startswith('# Modelfile generated by "ollama show"')
    same([(m["role"], m["content"]) for m in card["messages"]], BEGIN[1:])
    assert card["details"]["format"] == "gguf" and card["modified_at"]
    assert client.show(NAME).template == CHATML


# Conversations


@check("chat and generate through both packages")
def _():
    said = client.chat(NAME, USER)
    assert said.message.content and said.done and said.model == NAME, said
    assert client.generate(NAME, TEXT).response
    parts = list(client.chat(NAME, USER, stream=True))
    same("".join(p.message.content for p in parts), said.message.content)
    reply = other.chat.completions.create(model=NAME, messages=USER)
    assert reply.choices[0].message.content, reply
    assert other.completions.create(model=NAME, prompt="The sea is", max_tokens=4).choices[0].text
    assert len(client.embed(NAME, "The sea.").embeddings) == 1


@check("chat: template, system and messages layers")
def _():
    same(rendered("/api/chat", messages=USER), chatml(*BEGIN, ("user", TEXT)))
    history = [*USER, {"role": "assistant", "content": "In Dover."}, {"role": "user", "content": "Why?"}]
    same(rendered("/api/chat", messages=history), chatml(
        *BEGIN, ("user", TEXT), ("assistant", "In Dover."), ("user", "Why?")))


@check("generate: template, system and messages layers")
def _():
    same(rendered("/api/generate", prompt=TEXT), chatml(*BEGIN, ("user", TEXT)))


@check("a system message of the request's own")
def _():
    mine = {"role": "system", "content": "Be brief."}
    wanted = chatml(("system", "Be brief."), *BEGIN[1:], ("user", TEXT))
    same(rendered("/api/chat", messages=[mine, *USER]), wanted)
    same(rendered("/api/generate", prompt=TEXT, system="Be brief."), wanted)


@check("a template of the request's own")
def _():
    found = rendered("/api/generate", prompt="Hi", template="{{ .System }}|{{ .Prompt }}|")
    assert found.endswith("Hi|") and SYSTEM in found and "im_start" not in found, found
    found = rendered("/api/generate", prompt="Hi", system="Be brief.",
                     template="{{ .System }}|{{ .Prompt }}|")
    assert found.endswith("Hi|") and "Be brief." in found and SYSTEM not in found, found
    error_of(post("/api/generate", model=NAME, prompt="Hi", template="{{ if"), 400)


@check("tools in the template")
def _():
    found = rendered("/api/chat", messages=USER, tools=[TOOL])
    head = f"<|im_start|>system\n{SYSTEM}\n\nYou may call one or more functions."
    assert found.startswith(head), found
    line = next(line for line in found.splitlines() if line.startswith('{"type": "function"'))
    assert json.loads(line)["function"]["parameters"]["required"] == ["city"], line
    history = [
        {"role": "user", "content": "How is the weather?"},
        {"role": "assistant", "content": "", "tool_calls": [
            {"function": {"name": "weather", "arguments": {"city": "Dover"}}}]},
        {"role": "tool", "tool_name": "weather", "content": "rain"}]
    found = rendered("/api/chat", messages=history, tools=[TOOL])
    end = ('<tool_call>\n{"name": "weather", "arguments": {"city":"Dover"}}\n</tool_call><|im_end|>\n'
           "<|im_start|>user\n<tool_response>\nrain\n</tool_response><|im_end|>\n"
           "<|im_start|>assistant\n")
    assert found.replace('"city": ', '"city":').endswith(end), found
    assert client.chat(NAME, USER, tools=[TOOL]).done


@check("params: temperature 0, num_predict")
def _():
    runs = [client.generate(NAME, "Tell a story.") for _ in range(3)]
    assert len({r.response for r in runs}) == 1, [r.response for r in runs]
    assert all(r.eval_count <= 12 for r in runs)
    ways = {other.chat.completions.create(model=NAME, messages=USER).choices[0].message.content
            for _ in range(3)}
    assert len(ways) == 1, f"temperature 0 through /v1 too: {ways}"


@check("params: stop")
def _():
    full = client.generate(NAME, "Tell a story.").response
    cut = full[len(full) // 2:][:4]
    store_stop = client.generate(NAME, "Tell a story.", options={"stop": [cut]}).response
    same(store_stop, full.split(cut)[0])
    assert "<|im_end|>" not in full


@check("params: a request's options override them")
def _():
    hot = {"temperature": 2.0, "top_k": 0, "top_p": 1.0}
    texts = {client.generate(NAME, "Tell a story.", options={**hot, "seed": s}).response
             for s in range(4)}
    assert len(texts) > 1, texts
    assert client.generate(NAME, "Tell a story.", options={"num_predict": 3}).eval_count == 3
    long = "word " * 1500
    reply = client.generate(NAME, long, options={"num_ctx": 4096, "num_predict": 1})
    assert reply.prompt_eval_count > 1024, reply


@check("params: num_ctx, 400 with both numbers")
def _():
    text = "word " * 1500
    message = [{"role": "user", "content": text}]
    for reply in (post("/api/generate", model=NAME, prompt=text),
                  post("/api/chat", model=NAME, messages=message),
                  post("/v1/chat/completions", model=NAME, messages=message),
                  post("/v1/completions", model=NAME, prompt=text)):
        found = numbers(error_of(reply, 400))
        assert 1024 in found and any(n > 1400 for n in found), reply.text


@check("params: num_ctx in ps")
def _():
    client.generate(NAME, "")
    shown = {m.model: m for m in client.ps().models}[NAME]
    assert shown.context_length == 1024, f"ps: context_length {shown.context_length}"


@check("ps and unload")
def _():
    client.generate(NAME, "")
    loaded = {m.model: m for m in client.ps().models}
    assert loaded[NAME].digest == hashlib.sha256(manifest).hexdigest(), loaded
    assert client.generate(NAME, "", keep_alive=0).done_reason == "unload"
    wait_until(lambda: NAME not in [m.model for m in client.ps().models], 5, "unloaded")


# Other templates


@check("a legacy template, run once a turn")
def _():
    name = "lantern:legacy"
    history = [*USER, {"role": "assistant", "content": "In Dover."}, {"role": "user", "content": "Why?"}]
    same(rendered("/api/chat", name, messages=USER), chatml(("system", SYSTEM), ("user", TEXT)))
    same(rendered("/api/generate", name, prompt=TEXT), chatml(("system", SYSTEM), ("user", TEXT)))
    same(rendered("/api/chat", name, messages=history), chatml(
        ("system", SYSTEM), ("user", TEXT), ("assistant", "In Dover."), ("user", "Why?")))
    few = {"num_predict": 8, "temperature": 0}
    assert client.chat(name, USER, options=few).message.content
    assert client.generate(name, TEXT, options=few).response


@check("a template without a place for the answer, under its old media type")
def _():
    same(rendered("/api/generate", "lantern:plain", prompt="Hi"), f"{SYSTEM} Hi")
    same(rendered("/api/chat", "lantern:plain", messages=[{"role": "user", "content": "Hi"}]),
         f"{SYSTEM} Hi")
    same(post("/api/show", model="lantern:plain").json()["template"], "{{ .System }} {{ .Prompt }}")


@check("no template layer: the file's own template")
def _():
    found = rendered("/api/chat", "lantern:own", messages=USER)
    assert "<|im_start|>user\n" + TEXT in found and found.endswith("<|im_start|>assistant\n"), found
    assert SYSTEM in rendered("/api/chat", "someone/lantern", messages=USER)


@check("a broken template: chat says why, raw still works")
def _():
    for kind in BROKEN:
        name = f"broken:{kind}"
        words = [error_of(post("/api/chat", model=name, messages=USER)),
                 error_of(post("/v1/chat/completions", model=name, messages=USER)),
                 error_of(post("/api/generate", model=name, prompt="Hi"))]
        assert all("not found" not in text for text in words), words
        reply = post("/api/generate", model=name, prompt="The sea", raw=True, stream=False,
                     options={"num_predict": 4, "temperature": 0})
        assert reply.status_code == 200 and reply.json()["response"], (kind, reply.text)
        assert post("/api/show", model=name).json()["template"] == BROKEN[kind]


# Damage


@check("damaged models: errors in words, and the server goes on")
def _():
    known = [m["name"] for m in httpx.get(url + "/api/tags", timeout=60).json()["models"]]
    assert NAME in known
    silent = []
    for kind in DAMAGED:
        name = f"damaged:{kind}"
        for path, body in (("/api/chat", {"messages": USER}), ("/api/generate", {"prompt": "Hi"}),
                           ("/v1/chat/completions", {"messages": USER}),
                           ("/api/embed", {"input": "Hi"})):
            reply = post(path, model=name, options={"num_predict": 2}, **body)
            if reply.status_code == 200:
                if path == "/api/chat":
                    silent.append(kind)
                continue
            error_of(reply)
        if kind not in silent and post("/api/show", model=name).status_code != 200:
            error_of(post("/api/show", model=name))
    is_alive()
    assert not silent, f"answers as if nothing were missing: {silent}"


@check("manifests that are none: the server goes on")
def _():
    for kind in NO_MANIFESTS:
        for path, body in (("/api/chat", {"messages": USER}), ("/api/show", {})):
            error_of(post(path, model=f"unreadable:{kind}", **body))
    assert NAME in [m.model for m in client.list().models]
    is_alive()


# Changes are made elsewhere


@check("delete is refused")
def _():
    reply = httpx.request("DELETE", url + "/api/delete", json={"model": NAME})
    error_of(reply, 403)
    with raises(ollama.ResponseError) as caught:
        client.delete("damaged:no-blob")
    assert caught.error.status_code == 403, caught.error
    assert NAME in [m.model for m in client.list().models]


@check("copy into the own store, and delete that")
def _():
    client.copy(NAME, "twin:one")
    same(rendered("/api/chat", "twin:one", messages=USER), chatml(*BEGIN, ("user", TEXT)))
    said = client.chat("twin:one", USER).message.content
    same(said, client.chat(NAME, USER).message.content)
    card, twin = (post("/api/show", model=n).json() for n in (NAME, "twin:one"))
    for key in ("template", "system", "parameters", "license", "messages", "capabilities"):
        same(twin[key], card[key])
    assert any(own.rglob("*")), "the copy lies in the own store"
    client.delete("twin:one")
    assert "twin:one" not in [m.model for m in client.list().models]
    assert client.chat(NAME, USER).message.content


@check("copy and create of what is damaged: errors say what is wrong, and nothing is made")
def _():
    before_all = [m.model for m in client.list().models]
    text = error_of(post("/api/copy", source="damaged:no-blob", destination="twin:lost"))
    assert lost["digest"][7:] in text, f"the blob that is missing is not named: {text}"
    error_of(post("/api/create", model="twin:bad", **{"from": "damaged:garbage"}))
    assert [m.model for m in client.list().models] == before_all


@check("create with a broken template is refused")
def _():
    reply = post("/api/create", model="twin:bad", template="{{ if", stream=False, **{"from": NAME})
    if reply.status_code == 200:
        client.delete("twin:bad")
    error_of(reply, 400)


@check("create from it, with another system")
def _():
    steps = list(client.create(model="twin:two", from_=NAME, system="Be kind.",
                               parameters={"num_predict": 5}, stream=True))
    assert steps[-1].status == "success", steps
    same(rendered("/api/chat", "twin:two", messages=USER),
         chatml(("system", "Be kind."), *BEGIN[1:], ("user", TEXT)))
    card = post("/api/show", model="twin:two").json()
    same((card["system"], card["template"], card["license"]), ("Be kind.", CHATML, LICENSE))
    assert "num_ctx                        1024" in card["parameters"], card["parameters"]
    assert client.chat("twin:two", USER).eval_count <= 5
    client.delete("twin:two")


@check("a model of one's own hides one of the same name until it is deleted")
def _():
    client.create(model=NAME, from_=NAME, system="Mine.")
    same(post("/api/show", model=NAME).json()["system"], "Mine.")
    same(rendered("/api/chat", messages=USER), chatml(
        ("system", "Mine."), *BEGIN[1:], ("user", TEXT)))
    assert [m.model for m in client.list().models].count(NAME) == 1
    client.delete(NAME)
    same(post("/api/show", model=NAME).json()["system"], SYSTEM)
    assert client.chat(NAME, USER).message.content


@check("a model that comes while the server runs")
def _():
    global before
    same(store.contents(), before)
    store.add("later:new", [gguf, store.layer("system", "I came later.")])
    before = store.contents()
    assert "later:new" in [m.model for m in client.list().models]
    assert "I came later." in rendered("/api/chat", "later:new", messages=USER)


@check("--ollama-store")
def _():
    arguments = ["--store", f"{folder}/own2", "--ollama-store", str(store.root)]
    with Server(args.binary, args.model_file, arguments, {"OLLAMA_MODELS": f"{folder}/none"}) as second:
        native = ollama.Client(host=second.url)
        assert NAME in [m.model for m in native.list().models]
        assert native.chat(NAME, USER).message.content
        assert not Path(f"{folder}/none").exists()


@check("serve --model with a name of the store")
def _():
    with Server(args.binary, NAME, ["--store", f"{folder}/own3"],
                {"OLLAMA_MODELS": str(store.root)}) as second:
        assert ollama.Client(host=second.url).chat(NAME, USER).message.content


def hostile(kind):
    """The server may refuse, or answer, but not end."""
    name = f"broken:{kind}"
    if server.process.poll() is not None:
        server.__exit__()
        server.__enter__()
    try:
        for path, body in (("/api/show", {}), ("/api/chat", {"messages": USER})):
            reply = post(path, model=name, options={"num_predict": 2}, **body)
            if reply.status_code != 200:
                error_of(reply)
    except httpx.HTTPError as error:
        raise AssertionError(f"{error!r}; server: {server.process.poll()}") from error
    is_alive()


for kind in HOSTILE:
    check(f"a hostile template: {kind}")(lambda kind=kind: hostile(kind))


@check("nothing in the store has changed")
def _():
    after = store.contents()
    changed = [path for path in before | after if before.get(path) != after.get(path)]
    assert not changed, changed


run_checks(args.only)
