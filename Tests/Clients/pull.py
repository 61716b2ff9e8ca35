# SPDX-License-Identifier: Apache-2.0
"""Pulls models out of a registry that this script plays, with all that can go wrong."""

import atexit
import collections
import hashlib
import json
import re
import shutil
import socket
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import ollama

from harness import Server, check, free_port, note, options, raises, run_checks, wait_until

args = options(__doc__, ("--binary", dict(required=True)),
               ("--model-file", dict(required=True, help="a GGUF file that speaks ChatML")))

TEMPLATE = """{{ if .System }}<|im_start|>system
{{ .System }}<|im_end|>
{{ end }}{{ if .Prompt }}<|im_start|>user
{{ .Prompt }}<|im_end|>
{{ end }}<|im_start|>assistant
{{ .Response }}<|im_end|>
"""
USER = [{"role": "user", "content": "Clara Kendall lives in Dover. Where does she live?"}]
FEW = {"temperature": 0, "num_predict": 8}


class Registry(ThreadingHTTPServer):
    """Manifests and blobs, and for each model how its blobs are sent."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server_port}"
        self.url = f"http://{self.host}"
        self.blobs, self.manifests, self.how = {}, {}, {}
        self.served = collections.Counter()  # bytes of each digest
        self.asked = []  # method, path and Range of each request
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_):
        pass

    def blob(self, data, size=None):
        data = data.encode() if isinstance(data, str) else data
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        return {"digest": digest, "size": len(data) if size is None else size}

    def add(self, model, data, system="You are brief.", how=None, size=None):
        """A model `library/NAME:TAG`; gives the digest of its GGUF file."""
        kind = "application/vnd.ollama.image."
        layers = [{"mediaType": kind + "model", **self.blob(data, size)},
                  {"mediaType": kind + "template", **self.blob(TEMPLATE)},
                  {"mediaType": kind + "system", **self.blob(system)},
                  {"mediaType": kind + "params", **self.blob(json.dumps({"temperature": 0}))}]
        config = {"mediaType": "application/vnd.docker.container.image.v1+json",
                  **self.blob(json.dumps({"model_format": "gguf", "model_family": "llama"}))}
        self.put(model, {"schemaVersion": 2, "config": config, "layers": layers}, how)
        return layers[0]["digest"]

    def put(self, model, manifest, how=None):
        self.manifests[model] = manifest if isinstance(manifest, bytes) else json.dumps({
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json", **manifest}).encode()
        self.how[model.split(":")[0]] = how

    def digests(self, model):
        manifest = json.loads(self.manifests[model])
        return [layer["digest"] for layer in manifest["layers"] + [manifest["config"]]]

    def ranges(self, digest, under="/"):
        """The Range of each request for a blob."""
        return [span for _, path, span in self.asked if digest in path and path.startswith(under)]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        registry = self.server
        registry.asked.append((self.command, self.path, self.headers.get("Range")))
        if found := re.fullmatch(r"/v2/(.+)/manifests/([^/]+)", self.path):
            model = f"{found[1].removeprefix('library/')}:{found[2]}"
            host = self.headers.get("Host", "")
            data = registry.manifests.get(f"{host} {model}", registry.manifests.get(model))
            how = registry.how.get(model.split(":")[0])
            if isinstance(how, int):
                self.whole(how, b'{"errors": [{"code": "DENIED"}]}')
            elif data is None:
                self.whole(404, b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}')
            else:
                self.whole(200, data)
        elif found := re.fullmatch(r"/v2/(.+)/blobs/(sha256:[0-9a-f]{64})", self.path):
            how = registry.how.get(found[1].removeprefix("library/"))
            if how == "loop":
                self.redirect(self.path)
            elif how and how.startswith("redirect"):
                self.redirect(f"/elsewhere/{how.removeprefix('redirect') or 'plain'}/{found[2]}")
            else:
                self.blob(found[2], how)
        elif found := re.fullmatch(r"/elsewhere/(\w+)/(sha256:[0-9a-f]{64})", self.path):
            self.blob(found[2], found[1])
        else:
            self.whole(404, b"{}")

    def whole(self, status, data, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def redirect(self, place):
        self.whole(307, b"", Location=place)

    def blob(self, digest, how):
        registry = self.server
        data = registry.blobs.get(digest)
        if data is None:
            return self.whole(404, b"{}")
        is_big = len(data) > 100_000
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        first, last = 0, len(data) - 1
        if span and how != "no_range":
            first = int(span[1])
            last = min(last, int(span[2]) if span[2] else last)
            if first > last:
                return self.whole(416, b"")
            self.send_response(206)
            if how == "wrong_place":
                last, first = last - first, 0
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        else:
            self.send_response(200)
        part = data[first:last + 1]
        if is_big and how == "other":
            part = bytes(len(part))
        if is_big and how == "endless":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                for _ in range(400):
                    self.wfile.write(b"100000\r\n" + bytes(1 << 20) + b"\r\n")
                    registry.served[digest] += 1 << 20
            finally:
                self.close_connection = True
            return
        if is_big and how == "more":
            part += bytes(1000)
        if is_big and how == "less":
            part = part[:-1000]
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if is_big and how in ("half", "slow"):
            part, rest = part[:len(part) // 2 or 1], part[len(part) // 2:]
            self.send(digest, part)
            if how == "half":
                time.sleep(0.5)  # all of it arrives before the end does
                self.connection.shutdown(socket.SHUT_WR)
                self.close_connection = True
                return
            for start in range(0, len(rest), len(rest) // 20 + 1):
                time.sleep(0.1)
                self.send(digest, rest[start:start + len(rest) // 20 + 1])
            return
        self.send(digest, part)

    def send(self, digest, part):
        for start in range(0, len(part), 1 << 16):
            piece = part[start:start + (1 << 16)]
            self.wfile.write(piece)
            self.server.served[digest] += len(piece)


def variant(number):
    """The GGUF file with another name in it, so that its digest is another one."""
    data = bytearray(Path(args.model_file).read_bytes())
    key = b"general.name"
    place = data.index(key) + len(key) + 4 + 8
    data[place] = ord("A") + number
    return bytes(data)


folder = tempfile.mkdtemp()
atexit.register(shutil.rmtree, folder, True)
own = Path(f"{folder}/home/own")
registry = Registry()
server = Server(args.binary, args.model_file,
                ["--store", str(own), "--registry", registry.url, "--loaded-models", "1"])
server.__enter__()
atexit.register(server.__exit__)
url = server.url
client = ollama.Client(host=url)


def pull(model, **more):
    """Status and lines of a streamed pull."""
    reply = httpx.post(url + "/api/pull", json={"model": model, **more}, timeout=120)
    if reply.status_code != 200:
        return reply.status_code, [reply.json()]
    assert reply.headers["content-type"] == "application/x-ndjson", reply.headers
    return 200, [json.loads(line) for line in reply.text.splitlines()]


def pulled(model):
    status, lines = pull(model)
    assert status == 200 and lines[-1] == {"status": "success"}, lines[-1]
    return lines


def fails(model):
    """The words of a pull that must fail, and leave no model."""
    status, lines = pull(model)
    text = lines[-1].get("error")
    assert text, f"no error: {lines[-1]}"
    assert isinstance(text, str) and len(text.split()) >= 3, f"an error in words: {text!r}"
    assert {"status": "success"} not in lines
    short = model.rsplit("/", 1)[-1]
    assert not [n for n in listed() if n.endswith(short)], listed()
    return text


def each_fails(models):
    """All of them are pulled; those that don't fail as they should are told together."""
    wrong = []
    for model in models:
        try:
            fails(model)
        except AssertionError as error:
            wrong.append(f"{model}: {error}")
    assert not wrong, "; ".join(wrong)


def listed():
    return [m.model for m in client.list().models]


def blob_names():
    return sorted(p.name for p in own.glob("blobs/*"))


def has(digest):
    return digest.replace(":", "-") in blob_names()


def chats(model):
    reply = client.chat(model, USER, options=FEW)
    assert reply.message.content, reply
    return reply.message.content


# As it should be


@check("pull, streamed")
def _():
    name = f"{registry.host}/library/first:v1"
    digest = registry.add("first:v1", variant(0))
    lines = pulled(name)
    statuses = [line["status"] for line in lines]
    assert statuses[0] == "pulling manifest", statuses[0]
    assert statuses[-3:] == ["verifying sha256 digest", "writing manifest", "success"], statuses
    layers = lines[1:-3]
    seen = {}
    for line in layers:
        if line["status"] == "pulling manifest":
            continue
        assert line["status"] == f"pulling {line['digest'].split(':')[1][:12]}", line
        assert 0 <= line.get("completed", 0) <= line["total"], line
        assert line.get("completed", 0) >= seen.get(line["digest"], (0,))[0], line
        seen[line["digest"]] = (line.get("completed", 0), line["total"])
    assert set(seen) == set(registry.digests("first:v1")), seen
    assert all(completed == total for completed, total in seen.values()), seen
    assert len([line for line in layers if line.get("digest") == digest]) > 5, "tells how far it is"
    assert registry.served[digest] == len(registry.blobs[digest])
    assert any(n in (name, "first:v1") for n in listed()), listed()
    for known in (name, "first:v1"):
        assert chats(known), known


@check("what is pulled is as the registry has it")
def _():
    for digest in registry.digests("first:v1"):
        data = (own / "blobs" / digest.replace(":", "-")).read_bytes()
        assert "sha256:" + hashlib.sha256(data).hexdigest() == digest
    files = [p for p in own.rglob("manifests/**/*") if p.is_file()]
    assert registry.manifests["first:v1"] in [p.read_bytes() for p in files], \
        "the manifest is kept byte by byte: its digest is the one of the registry"
    found = {m["name"]: m for m in httpx.get(url + "/api/tags").json()["models"]}
    wanted = hashlib.sha256(registry.manifests["first:v1"]).hexdigest()
    assert wanted in [m["digest"] for m in found.values()], found
    card = httpx.post(url + "/api/show", json={"model": "first:v1"}).json()
    assert (card["template"], card["system"]) == (TEMPLATE, "You are brief."), card["template"]
    assert not [n for n in blob_names() if "partial" in n], blob_names()


@check("pulling again fetches nothing")
def _():
    count, asked = sum(registry.served.values()), len(registry.asked)
    pulled(f"{registry.host}/library/first:v1")
    assert sum(registry.served.values()) == count
    assert not [a for a in registry.asked[asked:] if "/blobs/" in a[1]], registry.asked[asked:]


@check("pull, not streamed")
def _():
    registry.add("whole:v1", variant(1))
    reply = httpx.post(url + "/api/pull", timeout=120, json={
        "name": f"{registry.host}/library/whole:v1", "stream": False})
    assert reply.headers["content-type"].startswith("application/json"), reply.headers
    assert (reply.status_code, reply.json()) == (200, {"status": "success"}), reply.text
    assert chats("whole:v1")


@check("a name without a host, by the `ollama` package, with --registry")
def _():
    registry.add("plain:latest", variant(2))
    steps = list(client.pull("plain", stream=True))
    assert steps[0].status == "pulling manifest" and steps[-1].status == "success", steps[-1]
    assert any(s.digest and s.total and s.completed for s in steps)
    assert "plain:latest" in listed(), listed()
    assert chats("plain")
    assert client.pull("plain").status == "success"
    registry.manifests["someone/plain:v2"] = registry.manifests["plain:latest"]
    assert client.pull("someone/plain:v2").status == "success"
    assert "someone/plain:v2" in listed() and chats("someone/plain:v2")


@check("blobs that are elsewhere: 307")
def _():
    digest = registry.add("moved:v1", variant(3), how="redirect")
    pulled("moved:v1")
    assert registry.served[digest] == len(registry.blobs[digest])
    assert any(path.startswith("/elsewhere/") for _, path, _ in registry.asked)
    assert chats("moved:v1")


@check("a tag that names other layers later")
def _():
    registry.add("plain:latest", variant(2), system="You are long.")
    pulled("plain")
    assert httpx.post(url + "/api/show", json={"model": "plain"}).json()["system"] == "You are long."


@check("models of equal names from two hosts are two")
def _():
    one, two = registry.host, registry.host.replace("127.0.0.1", "localhost")
    for host, text in ((one, "I am one."), (two, "I am two.")):
        registry.add("same:v1", variant(0), system=text)
        registry.manifests[f"{host} same:v1"] = registry.manifests["same:v1"]
        pulled(f"{host}/library/same:v1")
    for host, text in ((one, "I am one."), (two, "I am two.")):
        found = httpx.post(url + "/api/show", json={"model": f"{host}/library/same:v1"}).json()
        assert found["system"] == text, f"{host} gives {found['system']!r}"


@check("a pulled model is copied and deleted")
def _():
    client.copy(f"{registry.host}/library/first:v1", "mine:v1")
    assert chats("mine:v1")
    client.delete("mine:v1")
    client.delete("someone/plain:v2")
    client.delete(f"{registry.host}/library/first:v1")
    assert not {"mine:v1", "someone/plain:v2", "first:v1"} & set(listed()), listed()


# Connections that break


@check("the connection breaks: an error, and the next pull goes on")
def _():
    digest = registry.add("broken:v1", variant(4), how="half")
    size = len(registry.blobs[digest])
    note(fails("broken:v1"))
    assert not has(digest)
    sent = registry.served[digest]
    assert 0 < sent < size, sent
    registry.how["broken"] = None
    lines = pulled("broken:v1")
    first = next(line for line in lines if line.get("digest") == digest)
    assert first["completed"] == sent, (first, sent)
    assert registry.ranges(digest)[-1] == f"bytes={sent}-", registry.ranges(digest)
    assert registry.served[digest] == size, (registry.served[digest], size)
    assert chats("broken:v1")


@check("it breaks again and again, behind a redirect")
def _():
    digest = registry.add("often:v1", variant(5), how="redirecthalf")
    for _ in range(4):
        fails("often:v1")
    registry.how["often"] = "redirect"
    pulled("often:v1")
    spans = [int(s[6:-1]) if s else 0 for s in registry.ranges(digest, "/elsewhere")]
    assert spans == sorted(set(spans)) and len(spans) == 5, spans
    twice = registry.served[digest] - len(registry.blobs[digest])
    assert twice == 0, f"{twice} bytes were fetched twice"
    assert chats("often:v1")


@check("a registry that knows no Range: from the start")
def _():
    digest = registry.add("norange:v1", variant(6), how="half")
    fails("norange:v1")
    sent = registry.served[digest]
    registry.how["norange"] = "no_range"
    pulled("norange:v1")
    assert registry.served[digest] == sent + len(registry.blobs[digest])
    assert chats("norange:v1")


@check("a registry that sends another range than it was asked for")
def _():
    digest = registry.add("askew:v1", variant(7), how="half")
    fails("askew:v1")
    registry.how["askew"] = "wrong_place"
    status, lines = pull("askew:v1")
    if "error" in lines[-1]:
        assert not has(digest) and "askew:v1" not in listed()
    registry.how["askew"] = None
    pulled("askew:v1")
    assert chats("askew:v1")


@check("a client that goes away: the pull ends, and the next goes on")
def _():
    digest = registry.add("left:v1", variant(8), how="slow")
    size = len(registry.blobs[digest])
    with httpx.stream("POST", url + "/api/pull", json={"model": "left:v1"}, timeout=30) as reply:
        for line in reply.iter_lines():
            if json.loads(line).get("completed", 0) > size // 4:
                break
    time.sleep(4)
    assert registry.served[digest] < size, "the pull went on alone"
    assert "left:v1" not in listed()
    registry.how["left"] = None
    pulled("left:v1")
    assert registry.ranges(digest)[-1] != "bytes=0-" and registry.ranges(digest)[-1], "resumed"
    assert chats("left:v1")


@check("the same model twice at once")
def _():
    digest = registry.add("both:v1", variant(9), how="slow")
    results = []
    threads = [threading.Thread(target=lambda: results.append(pull("both:v1"))) for _ in range(2)]
    for thread in threads:
        thread.start()
        time.sleep(0.7)
    for thread in threads:
        thread.join(60)
    ends = [lines[-1] for _, lines in results]
    data = own / "blobs" / digest.replace(":", "-")
    if {"status": "success"} in ends:
        assert hashlib.sha256(data.read_bytes()).hexdigest() == digest[7:]
    assert ends == [{"status": "success"}] * 2, ends
    assert chats("both:v1")


# Registries that lie


@check("a wrong digest: no model, no blob")
def _():
    data = bytes(range(256)) * 4000
    digest = registry.add("other:v1", data, how="other")
    text = fails("other:v1")
    assert "digest" in text, text
    assert not [n for n in blob_names() if digest[7:] in n], blob_names()


@check("more and fewer bytes than the manifest says")
def _():
    for number, how in enumerate(("more", "less")):
        digest = registry.add(f"{how}:v1", bytes([number]) * 3_000_000, how=how)
        note(f"{how}: {fails(f'{how}:v1')}")
        assert not has(digest)
    digest = registry.add("endless:v1", b"endless" * 100_000, how="endless")
    note(f"endless: {fails('endless:v1')}")
    assert registry.served[digest] < 50 << 20, f"{registry.served[digest]} bytes were taken"
    left = [p for p in own.glob("blobs/*partial*") if p.stat().st_size > 4_000_000]
    assert not left, left
    digest = registry.add("size:v1", b"small" * 100_000, size=10)
    fails("size:v1")
    assert not has(digest)


@check("sizes that are none")
def _():
    for number, size in enumerate((-5, 1 << 62, "many", None, 1.5)):
        name = f"size{number}:v1"
        registry.add(name, b"size%d" % number * 30_000)
        manifest = json.loads(registry.manifests[name])
        manifest["layers"][0]["size"] = size
        registry.put(name, manifest)
    each_fails(f"size{number}:v1" for number in range(5))


@check("an unknown model")
def _():
    assert fails(f"{registry.host}/library/nobody:v1") == "pull model manifest: file does not exist"
    assert pull("nobody")[0] == 200, "an error line of a stream"
    with raises(ollama.ResponseError) as caught:
        list(client.pull("nobody", stream=True))
    assert "pull model manifest: file does not exist" in caught.error.error
    with raises(ollama.ResponseError) as caught:
        client.pull("nobody")
    assert caught.error.status_code in (404, 500, 502), caught.error


@check("answers that are no manifest")
def _():
    data = (b"<html>no</html>", b"", b"[]", b"{}", b"[" * 100_000, b"\xff" * 9, bytes(8 << 20))
    for number, odd in enumerate(data):
        registry.put(f"odd{number}:v1", odd)
    statuses = (400, 401, 403, 429, 500, 503)
    for status in statuses:
        registry.put(f"status{status}:v1", b"{}", how=status)
    each_fails([f"odd{number}:v1" for number in range(len(data))]
               + [f"status{status}:v1" for status in statuses])
    assert not list(own.rglob("*odd*")) and not list(own.rglob("*status*"))


@check("a manifest whose blobs are not there, and one that leads out")
def _():
    lost = registry.add("lost:v1", b"lost" * 40_000)
    del registry.blobs[lost]
    fails("lost:v1")
    for number, digest in enumerate(("sha256:../../../../evil", "sha256:" + "A" * 64, "../evil",
                                     "sha512:" + "0" * 64, "", 5)):
        layer = {"mediaType": "application/vnd.ollama.image.model", "digest": digest, "size": 3}
        registry.put(f"evil{number}:v1", {
            "schemaVersion": 2, "config": registry.blob("{}"), "layers": [layer]})
        fails(f"evil{number}:v1")
    assert not [p for p in Path(folder).rglob("*") if p.name == "evil"]


@check("a redirect that goes in circles")
def _():
    registry.add("loop:v1", b"loop" * 40_000, how="loop")
    begin = time.monotonic()
    note(fails("loop:v1"))
    assert time.monotonic() - begin < 20


@check("a registry that is not there")
def _():
    place = f"127.0.0.1:{free_port()}"
    begin = time.monotonic()
    text = fails(f"{place}/library/gone:v1")
    note(f"after {time.monotonic() - begin:.1f} s: {text}")
    assert time.monotonic() - begin < 5, "a refusal is known at once"
    assert place in text, f"the registry is not named: {text}"


# Names


@check("names that lead out")
def _():
    before = sorted(str(p) for p in Path(folder).rglob("*"))
    host = registry.host
    for name in ("../..", "../../etc/passwd", "..", ".", "", "a/..", f"{host}/../x:y", "x:..",
                 "x:../../y", f"{host}/library/x:../../y", f"{host}/../../x:y", ".hidden", "a//b",
                 "a/b/c/d", "/etc/passwd", "%2e%2e/x", "a b", "x:", ":x", "a\0b", "a\nb", "é",
                 "x" * 81, "../" * 40, "a\\..\\b", f"http://{host}/../../x"):
        for path, body in (("/api/pull", {"model": name}), ("/api/pull", {"name": name, "stream": False}),
                           ("/api/copy", {"source": "plain", "destination": name}),
                           ("/api/create", {"model": name, "from": "plain"})):
            reply = httpx.post(url + path, json=body, timeout=60)
            assert reply.status_code == 400 and reply.json()["error"], (name, path, reply.text[:200])
    after = sorted(str(p) for p in Path(folder).rglob("*"))
    assert before == after, set(before) ^ set(after)


@check("without --registry, a name without a host")
def _():
    with Server(args.binary, args.model_file, ["--store", f"{folder}/second"]) as second:
        for stream in (True, False):
            reply = httpx.post(second.url + "/api/pull", json={"model": "plain", "stream": stream})
            lines = [json.loads(line) for line in reply.text.splitlines()]
            assert len(lines[-1]["error"].split()) > 5, lines
            assert stream or reply.status_code >= 400


@check("the server still serves")
def _():
    assert server.process.poll() is None, server.log_text()[-300:]
    assert chats("plain")


run_checks(args.only)
