# SPDX-License-Identifier: Apache-2.0
"""Sends what no client should: the server must refuse it, stay up and keep its memory."""

import asyncio
import collections
import contextlib
import json
import os
import random
import re
import time
from urllib.parse import urlsplit

from harness import (Connection, check, http, listening_addresses, note, options, post_json,
                     resident_bytes, run_checks, wait_until, running)

args = options(
    __doc__, ("--requests", dict(type=int, default=100_000)),
    ("--connections", dict(type=int, default=64)),
    ("--pid", dict(type=int, help="process of the server")),
    ("--seed", dict(type=int, default=0)),
    ("--slow-limit", dict(type=float, default=90, help="seconds until a slow body is cut off")),
    ("--growth", dict(type=float, default=500, help="megabytes that memory may grow by")))
url, model = args.url, args.model
port = urlsplit(url).port
host = f"Host: 127.0.0.1:{port}\r\n"

PATIENCE = 30  # seconds that a reply may take while many others are under way
FEW = {"num_predict": 2}
SAY = [{"role": "user", "content": "Hi"}]
NO_MODEL = "127.0.0.1:1/library/nothing"  # nothing is pulled from there
BAD_NAMES = ["../../etc/passwd", "/etc/passwd", "..", "", "a/../../b", "%2e%2e/x", "a\0b", "x" * 5000,
             "C:\\x", "sha256:../../x", "host/name/space/model:tag:tag", "ä:ö", "\u202e"]

# Valid bodies of every route; the limits of tokens stay in place whatever is done to the rest.
BODIES = {
    "/api/generate": {"options": FEW, "model": model, "prompt": "Hi", "stream": False},
    "/api/chat": {"options": FEW, "model": model, "messages": SAY, "format": "json", "tools": []},
    "/api/embed": {"model": model, "input": ["a", "b"], "truncate": True},
    "/api/embeddings": {"model": model, "prompt": "a"},
    "/api/show": {"model": model, "verbose": False},
    "/api/copy": {"source": "nobody", "destination": "nobody-else"},
    "/api/delete": {"model": "nobody"},
    "/api/create": {"model": "nobody", "files": {"m.gguf": "sha256:" + "0" * 64}, "stream": False},
    "/api/pull": {"model": NO_MODEL, "stream": False},
    "/api/push": {"model": NO_MODEL, "stream": False},
    "/v1/chat/completions": {
        "max_tokens": 2, "model": model, "messages": SAY, "logit_bias": {"5": 1.0}, "n": 1,
        "stop": ["x"], "response_format": {"type": "text"}, "tool_choice": "auto",
        "stream_options": {"include_usage": True}, "logprobs": True, "top_logprobs": 2},
    "/v1/completions": {"max_tokens": 2, "model": model, "prompt": [1, 2, 3], "echo": True},
    "/v1/embeddings": {"model": model, "input": [[1, 2], [3]], "encoding_format": "base64"},
    "/generate": {"sampling_params": {"max_new_tokens": 2}, "text": "Hi", "return_logprob": True},
    "/tokenize": {"content": "Hi there", "add_special": True, "with_pieces": True},
    "/detokenize": {"tokens": [1, 2, 3]},
    "/apply-template": {"messages": SAY},
    "/completion": {"n_predict": 2, "prompt": "Hi"},
    "/abort_request": {"rid": "none"},
}
LIMITS = re.compile(
    rb'"options": \{"num_predict": 2|"sampling_params": \{"max_new_tokens": 2'
    rb'|"(max_tokens|n_predict|n)": \d+')
LIMIT_KEYS = {"options", "sampling_params", "max_tokens", "n_predict", "n", "num_predict",
              "max_new_tokens"}

ODD_VALUES = [
    None, True, False, 0, -1, 1e308, -1e308, 2**31, 2**63, 2**64, -(2**63), 1e-320, 0.5, "", "x",
    "\0", "\ud800", "🙂" * 50, "x" * 2000, [], {}, [[]], [None], [{}], {"": ""}, [1, "a", None],
    {"$ref": "#"}, {"type": "object", "properties": {"a": {"$ref": "#"}}}, {"type": "array"},
    {"type": "string", "pattern": "(a*)*b"}, {"type": "string", "minLength": 10**12},
    {"type": "integer", "enum": []}, {"anyOf": []}, {"allOf": [False]}, [{"role": 5}], "NaN",
    [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}],
    [{"type": "function", "function": {"name": "x", "parameters": {"type": "nothing"}}}],
    "{{ range .Messages }}", "{% for i in range(10**9) %}x{% endfor %}", "sha256:../../x",
]

statuses = collections.Counter()
outcomes = collections.Counter()
wrong = []  # replies that a server must not give
samples = []


def judge(status, body, what):
    """Counts a reply; notes one that must not be."""
    statuses[status] += 1
    if b"root:x:0" in body:
        wrong.append(("a file of the system", status, what))
    if status >= 500 and status != 503:
        try:
            is_told = bool(json.loads(body)["error"])
        except (ValueError, TypeError, KeyError):
            is_told = False
        if status == 500 and not is_told:
            wrong.append((f"500 without an error: {body[:200]}", status, what))
        elif status == 500:
            outcomes["500 with an error text"] += 1
            if outcomes["500 with an error text"] <= 5:
                note(f"500 with an error: {what[:120]} → {body[:200]!r}")


# Mutations


def dumped(value):
    return json.dumps(value).encode()


def members(value, found):
    """All (container, key) of a JSON value, without the limits of tokens."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in list(pairs):
        if key not in LIMIT_KEYS:
            found.append((value, key))
            if isinstance(child, (dict, list)):
                members(child, found)
    return found


def mutated(draw, path):
    """A body of a route with something done to it."""
    value = json.loads(json.dumps(BODIES[path]))
    kinds = ["flip", "cut", "insert", "twice", "odd", "odd", "odd", "drop", "extra", "name", "number"]
    if path in ("/api/pull", "/api/push"):  # no other machine may be asked for anything
        kinds = ["cut", "name", "number"]
    kind = draw.choice(kinds)
    places = members(value, [])
    container, key = draw.choice(places)
    if kind == "odd":
        container[key] = draw.choice(ODD_VALUES)
    elif kind == "drop":
        del container[key]
    elif kind == "name":
        for name in ("model", "source", "destination"):
            if name in value:
                value[name] = draw.choice(BAD_NAMES)
    elif kind == "extra":
        name = draw.choice(["format", "think", "context", "images", "template", "system", "tools",
                            "response_format", "suffix", "raw", "attention", "budget", "keep_alive",
                            "prompt_eval_progress", "top_logprobs", "input_ids", "files",
                            "adapters", "parameters", "messages", "stop", "seed", "num_ctx"])
        value[name] = draw.choice(ODD_VALUES)
    body = bytearray(dumped(value))
    if kind == "twice":
        name = draw.choice([k for k in value if k not in LIMIT_KEYS])
        body[-1:] = b", " + dumped(name) + b": " + dumped(draw.choice(ODD_VALUES)) + b"}"
    elif kind == "number":
        text = draw.choice([b"1e999", b"-0", b"9" * 400, b"0.1e-400", b"1e", b"01", b"+1", b"NaN",
                            b"-Infinity", b"0x10", b"1." + b"3" * 500])
        body[-1:] = b', "seed": ' + text + b"}"
    elif kind == "cut":
        del body[draw.randrange(len(body)):]
    elif kind in ("flip", "insert"):
        spans = [m.span() for m in LIMITS.finditer(body)]
        free = [i for i in range(len(body)) if not any(a <= i < b for a, b in spans)]
        for place in sorted(draw.sample(free, min(len(free), draw.choice([1, 1, 2, 5]))), reverse=True):
            if kind == "flip":
                body[place] ^= 1 << draw.randrange(8)
            else:
                body[place:place] = draw.choice(
                    [b"\0", b"\xff", b"\xed\xa0\x80", b'"', b"{", b"[", b"\\u12", b"\r\n\r\n", b","])
    return bytes(body)


def deep(draw):
    """A body of very many brackets."""
    count = 100_000
    opening, closing = draw.choice([(b"[", b"]"), (b'{"a":', b"}"), (b"[", b""), (b'{"a":', b"")])
    nest = opening * count + (b"1" + closing * count if closing else b"")
    name = draw.choice([b"format", b"messages", b"prompt", b"nothing"])
    body = b'{"model": ' + dumped(model) + b', "' + name + b'": ' + nest + b"}"
    return draw.choice([nest, body])


# Attacks by raw bytes: what is sent, and which statuses may come back (none: any refusal)


def raw(first, headers="", body=b"", with_host=True):
    return (first + "\r\n" + (host if with_host else "") + headers + "\r\n").encode("latin-1") + body


def post_headers(length):
    return f"Content-Type: application/json\r\nContent-Length: {length}\r\n"


def smuggling(draw):
    inner = raw("GET /smuggled HTTP/1.1")
    both = f"Content-Length: {len(inner) + 5}\r\nTransfer-Encoding: chunked\r\n"
    chunked = "Transfer-Encoding: chunked\r\n"
    size = draw.choice(["zz", "-1", "F" * 17, "0x5", "", "5_", "1z3", "+5"])
    return draw.choice([
        raw("POST /tokenize HTTP/1.1", both, b"0\r\n\r\n" + inner),
        raw("POST /tokenize HTTP/1.1", chunked, size.encode() + b"\r\n{}{}{\r\n0\r\n\r\n" + inner),
        raw("POST /tokenize HTTP/1.1", "Content-Length: 2\r\nContent-Length: 40\r\n", b"{}" + inner),
        raw("POST /tokenize HTTP/1.1", "Content-Length: +2\r\n", b"{}" + inner),
        raw("POST /tokenize HTTP/1.1", "Content-Length: -1\r\n", b"{}" + inner),
        raw("POST /tokenize HTTP/1.1", "Content-Length : 2\r\n", b"{}" + inner),
        raw("POST /tokenize HTTP/1.1", "Content-Length: 2\r\nTransfer-Encoding: xchunked\r\n", b"{}" + inner),
        raw("POST /tokenize HTTP/1.1", "Transfer-Encoding: chunked, identity\r\n", b"0\r\n\r\n" + inner),
        raw("GET /health HTTP/1.1", "X: a\rGET /smuggled HTTP/1.1\r\n"),
    ])


PATHS = ["/ui/../../etc/passwd", "/ui/%2e%2e/%2e%2e/etc/passwd", "/../../../../etc/passwd",
         "/ui/..%2f..%2fetc%2fpasswd", "/ui/..\\..\\etc\\passwd", "//etc/passwd", "/ui/%00",
         "/api/blobs/sha256:../../x", "/api/blobs/sha256:%2e%2e%2fx", "/api/blobs/../../etc/passwd",
         "/api/blobs/sha256-" + "0" * 64, "/v1/models/../../etc/passwd", "/v1/models/%2e%2e",
         "/ui/....//....//etc/passwd", "/%", "/%zz", "/" + "a" * 9000, "*", "http://evil.example/",
         "/api/tags?" + "a=b&" * 3000, "/ui/file:///etc/passwd", "/ui/%252e%252e/etc/passwd"]


def odd_request(draw):
    """A request of a kind that is refused, or at worst a harmless one."""
    kind = draw.choice(["bytes", "line", "path", "method", "smuggle", "header", "upgrade", "early"])
    if kind == "bytes":
        return kind, draw.randbytes(draw.choice([1, 10, 500, 20_000]))
    if kind == "line":
        return kind, draw.choice([
            b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\r\n\r\n\r\n",
            b"GET  /  HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + draw.randbytes(200),
            b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"G" * 100_000, b"GET /\0 HTTP/1.1\r\n\r\n"])
    if kind == "path":
        method = draw.choice(["GET", "HEAD", "POST", "DELETE"])
        return kind, raw(f"{method} {draw.choice(PATHS)} HTTP/1.1", "Content-Length: 0\r\n")
    if kind == "method":
        method = draw.choice(["TRACE", "CONNECT", "FOO", "PUT", "PATCH", "get", "G E T", "M" * 5000])
        path = draw.choice([*BODIES, "/", "/ui", "/metrics"])
        return kind, raw(f"{method} {path} HTTP/1.1", "Content-Length: 0\r\n")
    if kind == "smuggle":
        return kind, smuggling(draw)
    if kind == "header":
        name = draw.choice(["X-A", "Content-Type", "Accept", "Authorization", "Cookie", "Range", "Expect",
                            "Origin", "Host", "X\0Y", "Connection", "Accept-Encoding", "If-None-Match"])
        value = draw.choice(["", "x" * 5000, "\0", "\xff\xfe", "bytes=0-18446744073709551615", "nothing",
                             "100-continue", "http://evil.example", "null", "close, keep-alive"])
        return kind, raw("GET /api/version HTTP/1.1", f"{name}: {value}\r\n")
    if kind == "upgrade":
        return kind, raw("GET /ui HTTP/1.1", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: "
                         "13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n")
    body = mutated(draw, draw.choice(list(BODIES)))
    return kind, raw("POST /api/chat HTTP/1.1", post_headers(len(body) + 50), body)


async def exchange(data, first=0.5, ends=True):
    """Sends bytes on a connection of its own; gives all that came back, and whether it was closed.

    Waits `first` seconds for a reply; then, if it `ends`, sends no more and waits for the close.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    reply = b""

    async def read(seconds):
        nonlocal reply
        async with asyncio.timeout(seconds):
            part = await reader.read(1 << 20)
        reply += part
        return part

    try:
        writer.write(data)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        with contextlib.suppress(TimeoutError):
            while await read(0.1 if reply else first):
                pass
            return reply, True
        if not ends:
            return reply, False
        writer.write_eof()
        while await read(PATIENCE):
            pass
        return reply, True
    except TimeoutError:
        return reply, False
    except OSError:
        return reply, True
    finally:
        writer.close()


def status_of(reply):
    found = re.match(rb"HTTP/1\.[01] (\d{3})", reply)
    return int(found[1]) if found else 0


def body_of(reply):
    return reply.partition(b"\r\n\r\n")[2]


async def send_odd(draw):
    kind, data = odd_request(draw)
    reply, is_closed = await exchange(data)
    outcomes[f"{kind}: {'closed' if is_closed else 'left open'}"] += 1
    what = f"{kind} {data[:150]!r}"
    if not is_closed:
        wrong.append((f"no end within {PATIENCE} s", 0, what))
    if reply:
        # A body in chunks is no JSON text: only its beginning and end are cut off for the judge.
        text = re.sub(rb"^[0-9a-fA-F]+\r\n|\r\n0\r\n\r\n$", b"", body_of(reply))
        judge(status_of(reply), text, what)
    if kind == "upgrade" and status_of(reply) == 101:
        wrong.append(("upgraded", 101, what))
    if kind == "smuggle" and len(re.findall(rb"HTTP/1\.[01] \d{3} ", reply)) > 1:
        wrong.append((f"answered twice: {reply[-300:]}", status_of(reply), what))


async def send_mutated(draw, connection):
    path = draw.choice(list(BODIES))
    body = deep(draw) if draw.random() < 0.002 else mutated(draw, path)
    method = "DELETE" if path == "/api/delete" else "POST"
    async with asyncio.timeout(PATIENCE):
        status, reply = await connection.request(method, path, body)
    judge(status, reply, f"{path} {body[:150]!r}")
    outcomes["bodies"] += 1


async def work(number, left):
    draw = random.Random(args.seed * 1000 + number)
    connection = Connection(port)
    for _ in range(left):
        try:
            if draw.random() < 0.25:
                await send_odd(draw)
            else:
                await send_mutated(draw, connection)
        except TimeoutError:
            wrong.append((f"no reply within {PATIENCE} s", 0, "a mutated body"))
            connection.close()
        except (OSError, EOFError, ValueError) as error:
            outcomes[f"connection: {type(error).__name__}"] += 1
            connection.close()
        if args.pid and outcomes["bodies"] % 500 == 0:
            samples.append(resident_bytes(args.pid))
    connection.close()


# Checks


@check(f"{args.requests} random and mutated requests")
def _():
    samples.append(resident_bytes(args.pid) if args.pid else 0)

    async def everything():
        each = args.requests // args.connections
        await asyncio.gather(*(work(n, each) for n in range(args.connections)))

    start = time.monotonic()
    asyncio.run(everything())
    note(f"{args.requests / (time.monotonic() - start):.0f} a second; statuses {dict(sorted(statuses.items()))}")
    note(f"{dict(sorted(outcomes.items()))}")
    for what in wrong[:5]:
        note(f"wrong: {what}")
    refused = sum(n for name, n in outcomes.items() if "Refused" in name)
    assert not refused, f"{refused} connections were refused"
    assert not wrong, f"{len(wrong)} replies that must not be, such as {wrong[0]}"


def sent(data, first=PATIENCE, ends=True):
    reply, is_closed = asyncio.run(exchange(data, first, ends))
    return status_of(reply), body_of(reply), is_closed


@check("foreign Host and Origin: 403")
def _():
    for headers in ("Host: evil.example\r\n", "Host: evil.example:80\r\n", "Host: 127.0.0.1.evil.example\r\n",
                    host + "Origin: http://evil.example\r\n", host + "Origin: https://localhost.evil.example\r\n"):
        for line in ("GET /api/tags", "GET /v1/models", "POST /api/show", "POST /v1/chat/completions"):
            status, _, _ = sent(raw(line + " HTTP/1.1", headers + "Content-Length: 0\r\n", with_host=False))
            assert status == 403, (line, headers, status)
    for headers in (f"Host: localhost:{port}\r\n", f"Host: [::1]:{port}\r\n",
                    host + f"Origin: {url}\r\n", host + "Origin: http://localhost:3000\r\n"):
        status, _, _ = sent(raw("GET /api/tags HTTP/1.1", headers + "Connection: close\r\n", with_host=False))
        assert status == 200, (headers, status)


@check("paths out of the folders")
def _():
    for path in PATHS:
        for method in ("GET", "HEAD", "POST"):
            status, body, is_closed = sent(raw(f"{method} {path} HTTP/1.1", "Content-Length: 0\r\n"))
            assert is_closed and b"root:" not in body, (method, path)
            if path.startswith("http:") or path.startswith("/api/tags"):
                assert status < 500, (method, path, status)
            else:
                assert 400 <= status < 500, (method, path, status)


@check("names out of the store")
def _():
    for name in BAD_NAMES:
        for path, body in {
            "/api/show": {"model": name}, "/api/delete": {"model": name},
            "/api/copy": {"source": name, "destination": "nobody"},
            "/api/generate": {"model": name, "prompt": "a"},
            "/api/create": {"model": name, "from": model, "stream": False},
            "/api/pull": {"model": name, "stream": False},
        }.items():
            status, _, reply = http("DELETE" if path == "/api/delete" else "POST", url + path, body)
            assert 400 <= status < 500 and json.loads(reply)["error"], (path, name, status, reply)
    for name in ("../../tmp/x", "..", "a/b/c/d/e/f"):
        status, _, reply = http("POST", url + "/api/copy", {"source": model, "destination": name})
        assert status == 400 and b"invalid" in reply, (name, status, reply)


@check("header floods")
def _():
    many = "".join(f"X-{n}: {n}\r\n" for n in range(10_000))
    for headers in (many, "X: " + "a" * 1_000_000 + "\r\n", "a" * 1_000_000):
        status, _, is_closed = sent(raw("GET /health HTTP/1.1", headers))
        assert status in (0, 400, 413, 431) and is_closed, status
    status, _, is_closed = sent(raw("GET /" + "a" * 1_000_000 + " HTTP/1.1"))
    assert status in (0, 400, 404, 414, 431) and is_closed, status


@check("deep brackets")
def _():
    draw = random.Random(1)
    for path in ("/api/chat", "/v1/chat/completions", "/generate", "/tokenize", "/api/create"):
        for _ in range(4):
            status, _, reply = http("POST", url + path, deep(draw))
            assert status < 500, (path, status, reply[:200])
            assert status == 200 or json.loads(reply)["error"], (path, status, reply[:200])


@check("bodies larger than the limit")
def _():
    for path in ("/api/chat", "/v1/completions", "/tokenize"):
        data = raw(f"POST {path} HTTP/1.1", post_headers(2**40), b"{")
        status, _, _ = sent(data, first=10, ends=False)
        assert status in (400, 413), (path, status)
        huge = raw(f"POST {path} HTTP/1.1", post_headers("9" * 40), b"{")
        assert sent(huge, first=10, ends=False)[0] in (400, 413), path

    async def flood():
        """Sends chunks until the server has enough; gives the megabytes that it took."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(raw("POST /api/chat HTTP/1.1", "Transfer-Encoding: chunked\r\n"))
        answer = asyncio.create_task(reader.read(1))
        taken = 0
        with contextlib.suppress(ConnectionError, TimeoutError):
            while taken < 2048 and not answer.done():
                writer.write(b"100000\r\n" + b" " * 2**20 + b"\r\n")
                async with asyncio.timeout(10):
                    await writer.drain()
                taken += 1
        answer.cancel()
        await asyncio.gather(answer, return_exceptions=True)
        writer.close()
        return taken

    before = resident_bytes(args.pid) if args.pid else 0
    taken = asyncio.run(flood())
    after = resident_bytes(args.pid) if args.pid else 0
    note(f"cut off after about {taken} MB, memory {before / 1e6:.0f} → {after / 1e6:.0f} MB")
    assert taken < 2048, "a body without an end was taken"


@check("slow bodies and slow headers are cut off")
def _():
    async def slow(first):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        start = time.monotonic()
        with contextlib.suppress(ConnectionError):
            writer.write(first)
            while time.monotonic() - start < args.slow_limit:
                writer.write(b" ")
                await writer.drain()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1):
                        await reader.read(1)
                        break
        writer.close()
        return time.monotonic() - start

    async def all_of_them():
        body = raw("POST /api/chat HTTP/1.1", post_headers(10_000))
        head = b"POST /api/chat HTTP/1.1\r\nX: "
        return await asyncio.gather(*(slow(first) for first in (body, body, body, head, head)))

    seconds = asyncio.run(all_of_them())
    note("cut off after " + ", ".join(f"{s:.1f}" for s in seconds) + " s")
    assert max(seconds) < args.slow_limit, seconds


@check("connections that leave at once")
def _():
    async def leave():
        for n in range(200):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            body = dumped({"model": model, "prompt": f"Hello {n}", "options": {"num_predict": 2000}})
            writer.write(raw("POST /api/generate HTTP/1.1", post_headers(len(body)), body))
            with contextlib.suppress(ConnectionError):
                await writer.drain()
            writer.transport.abort()

    asyncio.run(leave())
    wait_until(lambda: running(url) == 0, 10, "nothing runs for those who left")


@check("listens on loopback only")
def _():
    if not args.pid:
        return note("not looked at: no --pid")
    addresses = listening_addresses(args.pid)
    loopback = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}
    assert addresses and set(addresses) <= loopback, addresses


@check("the server is alive and well")
def _():
    if args.pid:
        os.kill(args.pid, 0)
        samples.append(resident_bytes(args.pid))
        first, peak, last = (v / 1e6 for v in (samples[0], max(samples), samples[-1]))
        note(f"memory: first {first:.0f} MB, peak {peak:.0f} MB, last {last:.0f} MB")
        assert last - first < args.growth, f"grew by {last - first:.0f} MB"
    assert http("GET", url + "/health")[0] == 200
    reply = post_json(url + "/api/chat", {
        "model": model, "stream": False, "options": {"temperature": 0, "num_predict": 16},
        "messages": [{"role": "user", "content": "Clara Kendall lives in Dover. Where does Clara "
                                                 "Kendall live?"}]})
    assert "Dover" in reply["message"]["content"], reply


run_checks(args.only)
