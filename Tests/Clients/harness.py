# SPDX-License-Identifier: Apache-2.0
"""What all client tests share: checks, a server to start, metrics, texts of a wanted length."""

import argparse
import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.error
import urllib.request
from pathlib import Path

# How many times longer than promised things may take: 1, but where the machine is shared with others.
SLACK = float(os.environ.get("INFINITEHIP_SLACK", "1"))

FACT = "The secret code of the lighthouse is 48213."
FACT_QUESTION = "What is the secret code of the lighthouse?"

_checks = []


# Checks


class Skipped(Exception):
    """A check that cannot be made here."""


def check(name):
    """Registers a function as a check; it passes if it returns, and fails if it raises."""

    def register(function):
        _checks.append((name, function))
        return function

    return register


def options(description, *wanted):
    """Arguments of a script: --url and --model, and those of `wanted`, given as (name, settings)."""
    parser = argparse.ArgumentParser(description=description)
    names = [name for name, _ in wanted]
    if "--binary" not in names:
        parser.add_argument("--url", required=True, help="http://127.0.0.1:N")
        parser.add_argument("--model", help="name of a model; by default the first of /api/tags")
    elif "--url" not in names:
        parser.add_argument("--url", help=argparse.SUPPRESS)
        parser.add_argument("--model", help=argparse.SUPPRESS)
    parser.add_argument("--only", default="", help="make only checks whose name contains this")
    for name, settings in wanted:
        parser.add_argument(name, **settings)
    result = parser.parse_args()
    if result.url:
        result.url = result.url.rstrip("/")
        if not result.model:
            result.model = get_json(result.url + "/api/tags")["models"][0]["name"]
    return result


def run_checks(only=""):
    """Makes all checks in order; the exit status says whether all passed."""
    failures = 0
    for name, function in _checks:
        if only not in name:
            continue
        try:
            function()
            print(f"ok  {name}", flush=True)
        except Skipped as reason:
            print(f"--  {name}: {reason}", flush=True)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            failures += 1
            print(f"FAIL {name}: {explained(error)}", flush=True)
    if failures:
        print(f"{failures} failed", flush=True)
    sys.exit(1 if failures else 0)


def explained(error):
    """An error in one line, with the line of the script that raised it."""
    script = os.path.abspath(sys.argv[0])
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == script]
    place = f" [line {frames[-1].lineno}]" if frames else ""
    text = " ".join(str(error).split()) or (frames[-1].line if frames else "")
    return f"{type(error).__name__}: {text[:500]}{place}"


def note(text):
    print(f"    {text}", flush=True)


@contextlib.contextmanager
def raises(kind):
    """The body must raise `kind`; the error is `.error` of what this gives."""
    caught = argparse.Namespace(error=None)
    try:
        yield caught
    except kind as error:
        caught.error = error
        return
    raise AssertionError(f"no {kind.__name__} was raised")


def numbers(text):
    """The whole numbers in a text; 12,345 is one."""
    return [int(n.replace(",", "")) for n in re.findall(r"\d[\d,]*", text)]


def wait_until(condition, seconds, what):
    """Waits until a condition holds; gives the seconds that it took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.02)
    return time.monotonic() - start


# HTTP, where no client is under test


def http(method, url, body=None, headers=None, timeout=120):
    """Status, headers and bytes of a reply, whatever the status."""
    data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
    request = urllib.request.Request(url, data=data, method=method, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as reply:
            return reply.status, reply.headers, reply.read()
    except urllib.error.HTTPError as reply:
        return reply.code, reply.headers, reply.read()


def get_json(url):
    status, _, body = http("GET", url)
    assert status == 200, f"GET {url}: {status} {body[:200]}"
    return json.loads(body)


def post_json(url, body):
    status, _, reply = http("POST", url, body)
    assert status == 200, f"POST {url}: {status} {reply[:200]}"
    return json.loads(reply)


def token_ids(url, text, special=False, model=None):
    body = {"content": text, "add_special": special}
    if model:
        body["model"] = model
    return post_json(url + "/tokenize", body)["tokens"]


def events(lines):
    """The JSON objects of an SSE stream, and "[DONE]"; comments are left out."""
    for line in lines:
        if line.startswith("data:"):
            data = line[5:].strip()
            yield data if data == "[DONE]" else json.loads(data)


def metric(url, word, kind="gauge"):
    """Sum of the metrics of a kind whose name contains a word."""
    _, _, body = http("GET", url + "/metrics")
    text = body.decode()
    names = [n for n in re.findall(rf"^# TYPE (\S+) {kind}", text, re.M) if word in n.lower()]
    assert names, f"/metrics has no {kind} named *{word}*"
    values = re.findall(r"^([a-zA-Z_:][\w:]*)(?:\{[^}]*\})? (\S+)", text, re.M)
    return sum(float(value) for name, value in values if name in names)


def running(url):
    """Requests that run now."""
    return metric(url, "running")


# Texts


def book_text(url, path, tokens, turn=0, fact=FACT):
    """About `tokens` tokens of a book from a place that depends on `turn`, a fact in the middle."""
    book = Path(path).read_text(encoding="utf-8")
    start = int(len(book) * (turn % 10) / 10)
    book = book[start:] + book[:start]
    sample = book[:50_000]
    length = int(len(sample) / len(token_ids(url, sample)) * tokens)
    text = (book * (length // len(book) + 1))[:length]
    count = len(token_ids(url, text))
    text = text[: int(len(text) * min(1, tokens / count))]
    middle = text.rfind("\n", 0, len(text) // 2) + 1
    return text[:middle] + f"\n{fact}\n\n" + text[middle:] if fact else text


# Processes


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def resident_bytes(pid):
    """Resident memory of a process; 0 if it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


def listening_addresses(pid):
    """Hexadecimal addresses that a process listens on."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found = re.match(r"socket:\[(\d+)\]", os.readlink(descriptor))
            if found:
                inodes.add(found[1])
    addresses = []
    for table in ("tcp", "tcp6"):
        path = Path(f"/proc/{pid}/net/{table}")
        if not path.exists():
            continue
        for line in path.read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                addresses.append(fields[1].rsplit(":", 1)[0])
    return addresses


class Server:
    """A server of its own, with a model store and caches of its own, for `with`.

    Without a model file it serves what the arguments and the environment name.
    """

    def __init__(self, binary, model_file=None, arguments=(), environment=None):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        model = ["--model", model_file] if model_file else []
        self.command = [binary, "serve", "--port", str(self.port), *model, *arguments]
        self.environment = environment or {}

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        places = ("OLLAMA_MODELS", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME")
        environment = {**os.environ, **{name: f"{self.folder.name}/{name}" for name in places}}
        environment |= self.environment
        self.log = open(f"{self.folder.name}/log", "w+b")
        self.process = subprocess.Popen(
            self.command, env=environment, stdout=self.log, stderr=self.log)
        try:
            wait_until(self.is_up, 60, "the server is up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def is_up(self):
        if self.process.poll() is not None:
            self.log.seek(0)
            raise AssertionError(f"the server ended: {self.log.read()[-500:].decode()}")
        with contextlib.suppress(OSError):
            return http("GET", self.url + "/health", timeout=2)[0] == 200
        return False

    def log_text(self):
        return Path(f"{self.folder.name}/log").read_text(errors="replace")

    def terminate(self, seconds):
        """Sends SIGTERM; gives the exit status and the seconds that it took."""
        start = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(seconds)
        return status, time.monotonic() - start

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log.close()
        self.folder.cleanup()


# A small asynchronous HTTP/1.1 client: fast, and able to send what no client would


class Connection:
    """One connection, kept alive; opened again when the server closed it."""

    def __init__(self, port):
        self.port = port
        self.reader = self.writer = None

    async def open(self):
        if self.writer is None or self.writer.is_closing() or self.reader.at_eof():
            self.close()
            self.reader, self.writer = await asyncio.open_connection(
                "127.0.0.1", self.port, limit=1 << 24)

    def close(self):
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None

    async def request(self, method, path, body=None, headers=()):
        """Status and body of a reply; a closed connection is opened again once."""
        data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body or b""
        lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", *headers]
        if data or method in ("POST", "PUT", "DELETE"):
            lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
        return await self.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + data, method)

    async def send(self, data, method="POST"):
        for attempt in (1, 2):
            fresh = self.writer is None
            await self.open()
            try:
                self.writer.write(data)
                with contextlib.suppress(ConnectionError):
                    await self.writer.drain()
                return await self.reply(method)
            except (ConnectionError, EOFError):
                self.close()
                if fresh or attempt == 2:
                    raise
            except BaseException:
                self.close()
                raise

    async def reply(self, method="GET"):
        """Reads one reply."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(head[0].split(" ")[1])
        fields = {}
        for line in head[1:]:
            name, _, value = line.partition(":")
            fields[name.strip().lower()] = value.strip()
        if 100 <= status < 200 and status != 101:
            return await self.reply(method)
        body = b""
        if method == "HEAD" or status in (101, 204, 304):
            pass
        elif "chunked" in fields.get("transfer-encoding", "").lower():
            while size := int((await self.reader.readline()).split(b";")[0], 16):
                body += await self.reader.readexactly(size)
                await self.reader.readline()
            await self.reader.readline()
        elif "content-length" in fields:
            body = await self.reader.readexactly(int(fields["content-length"]))
        else:
            body = await self.reader.read()
            fields["connection"] = "close"
        if fields.get("connection", "").lower() == "close":
            self.close()
        return status, body
