#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the scripts of this folder share: the command under test, its texts, reports and options."""
import argparse
import json
import os
import resource
import shutil
import subprocess
import time
from pathlib import Path

MEGABYTE = 1 << 20
# Keys, values and sketches of the demo model.
BYTES_PER_TOKEN = 4400
PLENTY = ["--kv-ram", "1G", "--kv-disk", "0"]


class Report:
    """Prints a line for each check, and counts them."""

    def __init__(self, script):
        self.start = time.monotonic()
        self.made = {"script": script, "passed": 0, "failed": 0, "skipped": 0}

    def check(self, name, passed, detail=""):
        self.made["passed" if passed else "failed"] += 1
        detail = " ".join(str(detail).split())[:600]
        print(f"{'ok  ' if passed else 'FAIL'} {name}{': ' + detail if detail else ''}", flush=True)
        return passed

    def skip(self, name, reason):
        self.made["skipped"] += 1
        print(f"--   {name}: {reason}", flush=True)

    def end(self, **figures):
        """Prints the summary; the status of the script."""
        seconds = round(time.monotonic() - self.start, 1)
        print(json.dumps({**self.made, **figures, "seconds": seconds}), flush=True)
        return 1 if self.made["failed"] else 0


class Result:
    """What a command that has ended left: its status, its JSON object, its words."""

    def __init__(self, code, output, words, seconds):
        self.code, self.words, self.seconds = code, words.strip(), seconds
        try:
            self.said = json.loads(output)
        except ValueError:
            self.said = {}
        self.notices = self.said.get("notices", [])
        self.answer = self.said.get("answer")

    @property
    def is_refusal(self):
        """Whether it failed in words, and did not crash."""
        return 0 < self.code < 128 and "Error: " in self.words

    def __str__(self):
        return f"status {self.code}, {self.said or ''} {self.words[-300:]}"


class Command:
    """The command under test."""

    def __init__(self, options):
        self.binary, self.model = options.binary, options.model
        # Where it would keep files that no option names.
        self.home = Path(options.folder) / "home"
        self.environment = {**os.environ, "HOME": str(self.home), "XDG_CACHE_HOME": str(self.home)}

    def line(self, *words):
        return [self.binary, *map(str, words), "--model", self.model, "--json"]

    def start(self, *words, before=(), file_limit=None, **environment):
        """Starts it; `before` is a command that runs it, `file_limit` the most bytes of a file."""
        limit = file_limit and (lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit)))
        return subprocess.Popen(
            [*before, *self.line(*words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**self.environment, **environment}, preexec_fn=limit)

    def wait(self, process, start, timeout=900):
        """What a process leaves that was started then."""
        try:
            output, error = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            output, error = process.communicate()
            error += f"\n(did not end within {timeout} s)"
        return Result(process.returncode, output, error, time.monotonic() - start)

    def run(self, *words, **how):
        start = time.monotonic()
        with self.start(*words, **how) as process:
            return self.wait(process, start)

    def ask(self, question, *words, **how):
        return self.run("ask", question, "--max-tokens", 30, "--temperature", 0, *words, **how)

    def index(self, text, path, *words, **how):
        return self.run("index", text, "--save", path, *words, **how)


class Book:
    """A text with planted facts, or a part of it that is long enough."""

    def __init__(self, options, tokens=None, start=0):
        text = Path(options.text).read_text(encoding="utf-8")
        facts = json.loads(Path(options.text).with_suffix(".json").read_text(encoding="utf-8"))
        if tokens:
            text = text[start * 4:(start + tokens) * 4]
            self.path = Path(options.folder) / f"text-{start}-{tokens}.txt"
            self.path.write_text(text, encoding="utf-8")
        else:
            self.path = Path(options.text)
        self.questions = {
            f"What is the special magic number for {fact['thing']} mentioned in the provided text?":
            fact["number"] for fact in facts if f"for {fact['thing']} is: {fact['number']}" in text}
        self.question = next(iter(self.questions), "What is this text about?")
        self.byte_count = len(text.encode())


def options(description, **more):
    """The options of all scripts; the folder is made, and is empty."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True, help="the command infinitehip")
    parser.add_argument("--model", required=True, help="its model")
    parser.add_argument("--text", required=True, help="a text of make_text.py of some 30,000 tokens")
    parser.add_argument("--folder", required=True, help="where a folder of this script is made, or emptied")
    parser.add_argument("--quick", action="store_true", help="little of everything: within a minute")
    parser.add_argument("--seed", type=int, default=0)
    for name, default in more.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    made = parser.parse_args()
    made.folder = str(Path(made.folder).resolve() / Path(parser.prog).stem)
    shutil.rmtree(made.folder, ignore_errors=True)
    os.makedirs(made.folder + "/home")
    for name in ("binary", "model", "text"):
        setattr(made, name, str(Path(getattr(made, name)).resolve()))
    return made
