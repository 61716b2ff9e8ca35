#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Greedy answers are the same wherever keys and values lie.

  answers.py --binary infinitehip --model MODEL.gguf --text long.txt --folder scratch

Asks for the facts of a text of make_text.py (its .json lies beside it) with all of it in memory and no
disk, with about half of it in memory, and with the least memory that is accepted: each text read anew
(--fresh questions), from the kept folder, and from a context file. The other scripts of this folder
take their options, commands and reports from here.
"""
import argparse
import hashlib
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


def least_memory(command, book, report):
    """The least --kv-ram that is accepted, in megabytes; what is too little must be refused in words."""
    for size in (1, 8, 15, 16, 20, 24, 32, 48, 64):
        made = command.ask("Hello", "--kv-ram", f"{size}M", "--kv-disk", 0)
        if made.code == 0:
            return size
        report.check(f"--kv-ram {size}M is refused in words", made.is_refusal, made)
    return 64


def compare(name, made, expected, report):
    """One answer against that of plenty of memory."""
    if made.code:
        return report.check(name, False, made)
    detail = f"{made.said['cachedTokens']} of {made.said['promptTokens']} tokens cached, " \
        f"hit rate {made.said['tiers'].get('hitRate') or 0:.2f}, {made.seconds:.1f} s"
    if made.answer != expected:
        return report.check(name, False, f"{made.answer!r}, not {expected!r}; {detail}")
    return report.check(name, not made.notices, f"{detail} {made.notices or ''}")


def check_memory(size, book, expected, command, report, fresh, folder):
    """All questions with so many megabytes, from nothing, from a folder and from a context file."""
    few = ["--kv-ram", f"{size}M"]
    kept = folder / f"kept-{size}"
    for number, (question, answer) in enumerate(expected.items()):
        if number < fresh:
            shutil.rmtree(kept, ignore_errors=True)
            made = command.ask(question, "--file", book.path, "--kv-dir", kept, *few)
            compare(f"{size}M, read anew, question {number}", made, answer, report)
            report.check("nothing was cached", made.said.get("cachedTokens") == 0)
    for number, (question, answer) in enumerate(expected.items()):
        made = command.ask(question, "--file", book.path, "--kv-dir", kept, *few)
        if compare(f"{size}M, kept folder, question {number}", made, answer, report):
            said = made.said
            report.check("most was cached", said["cachedTokens"] > 0.7 * said["promptTokens"])
    saved = folder / f"saved-{size}.hipkv"
    made = command.index(book.path, saved, *few, "--kv-disk", 0)
    if not report.check(f"{size}M, index", made.code == 0, made):
        return
    for number, (question, answer) in enumerate(expected.items()):
        made = command.ask(question, "--context-file", saved, *few, "--kv-disk", 0)
        compare(f"{size}M, context file, question {number}", made, answer, report)
    shutil.rmtree(kept, ignore_errors=True)


def main():
    made = options(__doc__, questions=10, fresh=1)
    if made.quick:
        made.questions, made.fresh = 2, 1
    command, report = Command(made), Report("answers")
    book = Book(made, 8_000 if made.quick else None)
    questions = list(book.questions.items())[:made.questions]
    expected, right = {}, 0
    for number, (question, fact) in enumerate(questions):
        result = command.ask(question, "--file", book.path, *PLENTY)
        if report.check(f"in memory, question {number}", result.code == 0, result.words or result.answer):
            expected[question] = result.answer
            right += fact in result.answer
    if len(expected) < len(questions) or not questions:
        return report.end()
    least = least_memory(command, book, report)
    half = book.byte_count // 4 * BYTES_PER_TOKEN // 2 // MEGABYTE
    sizes = [1024, max(half, least), least]
    for size in dict.fromkeys(sizes):
        check_memory(size, book, expected, command, report, made.fresh, Path(made.folder))
    digests = {hashlib.sha256(path.read_bytes()).digest() for path in Path(made.folder).glob("saved-*.hipkv")}
    report.check("context files are the same byte for byte", len(digests) == 1, f"{len(digests)} kinds")
    return report.end(questions=len(questions), right=right, sizes=sizes)


if __name__ == "__main__":
    raise SystemExit(main())
