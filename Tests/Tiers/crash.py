#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What is killed at any moment goes on from there, and leaves what a run without a stop leaves.

  crash.py --binary infinitehip --model MODEL.gguf --text long.txt --folder scratch

Kills `index --save` and `ask --file --kv-dir` with SIGKILL, --rounds times altogether, each at a moment
drawn from the time that the run would still take, and starts them again. Then the saved context, the
segments of the folder (by their SHA-256) and the answer must be those of an uninterrupted run, nothing
temporary may be left, and on the way the files may never exceed the final ones by more than a segment.
"""
import hashlib
import random
import shutil
import time
from pathlib import Path

from harness import Book, Command, Report, options

# What a folder has beside segments: counters, and texts that say what the segments are.
BOOKKEEPING = 64 << 10
# Kills in one text, after which it is read to its end.
KILLS_OF_A_TEXT = 7


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sizes(folder):
    """Name and bytes of all files; those that go meanwhile are left out."""
    found = {}
    for path in folder.rglob("*"):
        try:
            if path.is_file():
                found[str(path.relative_to(folder))] = path.stat().st_size
        except FileNotFoundError:
            pass
    return found


class Saving:
    """`index --save`, and what it leaves."""

    name = "index"

    def __init__(self, command, book, folder, memory):
        self.folder = Path(folder)
        self.path = self.folder / "saved.hipkv"
        self.command = command
        self.words = ["index", book.path, "--save", self.path, "--kv-ram", memory, "--kv-disk", 0]

    def contents(self):
        return {"saved.hipkv": digest(self.path)} if self.path.exists() else {}

    def segments(self):
        """Segments that a new run may find: the last one may be unfinished."""
        part = sizes(self.folder).get("saved.hipkv.part", 0)
        return max(0, part // SEGMENT["bytes"] - 1)

    def outcome(self, result):
        return result.said.get("tokens")

    def kept(self, result):
        """Segments that a run has not computed."""
        return result.said.get("readBefore", 0) // SEGMENT["tokens"]


class Keeping:
    """`ask --file --kv-dir`, and what it leaves."""

    name = "ask"

    def __init__(self, command, book, folder, memory):
        self.folder = Path(folder)
        self.command = command
        self.words = ["ask", book.question, "--file", book.path, "--max-tokens", 30, "--temperature", 0,
                      "--kv-dir", self.folder, "--kv-ram", memory, "--kv-disk", "2G"]

    def contents(self):
        return {str(path.relative_to(self.folder)): digest(path)
                for path in self.folder.rglob("*.segment")}

    def segments(self):
        return sum(name.endswith(".segment") for name in sizes(self.folder))

    def outcome(self, result):
        return result.answer, result.said.get("promptTokens")

    def kept(self, result):
        return result.said.get("cachedTokens", 0) // SEGMENT["tokens"]


SEGMENT = {"bytes": 0, "tokens": 1024}


class Kills:
    """Many kills of one kind of run, compared with one that nothing interrupts."""

    def __init__(self, work, reference, draw, report):
        self.work, self.reference, self.draw, self.report = work, reference, draw, report
        self.limit = sum(sizes(reference.folder).values()) + SEGMENT["bytes"] + BOOKKEEPING
        self.figures = {"kills": 0, "ended before": 0, "with progress": 0, "unfinished": 0, "texts": 0}
        self.largest = 0

    def measure(self):
        """The whole time of a run, where nothing is there yet, and how many segments it makes."""
        shutil.rmtree(self.reference.folder, ignore_errors=True)
        self.reference.folder.mkdir(parents=True)
        result = self.reference.command.run(*self.reference.words)
        found = sizes(self.reference.folder)
        self.report.check(f"{self.work.name}: an uninterrupted run", result.code == 0, result)
        self.expected = self.reference.contents(), self.reference.outcome(result)
        self.final = sum(found.values())
        self.seconds = result.seconds
        self.limit = self.final + SEGMENT["bytes"] + BOOKKEEPING
        self.total = max(1, self.final // SEGMENT["bytes"])

    def round(self):
        """One run and its kill; its result where it had ended before."""
        before = self.work.segments()
        left = 0.3 + self.seconds * (1 - before / self.total)
        start = time.monotonic()
        end = start + self.draw.uniform(0, left)
        with self.work.command.start(*self.work.words) as process:
            while process.poll() is None and time.monotonic() < end:
                self.watch()
                time.sleep(0.02)
            process.kill()
            result = self.work.command.wait(process, start)
        self.watch()
        if result.code != -9:
            self.figures["ended before"] += 1
            return result
        after = self.work.segments()
        self.figures["kills"] += 1
        self.figures["with progress"] += after > before
        names = sizes(self.work.folder)
        self.figures["unfinished"] += any(name.endswith((".writing", ".part")) for name in names)
        if after < before - (self.work.name == "index"):
            self.report.check(f"{self.work.name}: nothing is lost", False, f"{before} -> {after} segments")
        print(f"     {self.work.name}: killed, segments {before} -> {after} of {self.total}", flush=True)
        return None

    def watch(self):
        self.largest = max(self.largest, sum(sizes(self.work.folder).values()))

    def finish(self, kept, result):
        """Reads a text to its end, and compares what is there with what should be."""
        name, work, report = self.work.name, self.work, self.report
        if result is None:
            kept = work.segments()
            result = work.command.run(*work.words)
        self.figures["texts"] += 1
        report.check(f"{name}: the last run", result.code == 0, result)
        report.check(f"{name}: goes on from what was there", work.kept(result) >= kept,
                     f"{work.kept(result)} segments, {kept} were there")
        report.check(f"{name}: no notices", not result.notices, result.notices or "")
        contents, outcome = self.expected
        report.check(f"{name}: the same outcome", work.outcome(result) == outcome,
                     f"{work.outcome(result)}, expected {outcome}")
        mine = work.contents()
        wrong = sorted(file for file in {*mine, *contents} if mine.get(file) != contents.get(file))
        detail = f"{len(wrong)} of {len(contents)} files differ: {wrong[:3]}"
        if wrong and name == "index":
            detail = differences(work.path, self.reference.path)
        report.check(f"{name}: the same files by SHA-256", not wrong,
                     detail if wrong else f"{len(contents)} files")
        names = sizes(work.folder)
        left = [file for file in names if file.endswith((".part", ".writing")) or "scratch" in file]
        report.check(f"{name}: nothing temporary is left", not left, left or "")
        size = sum(names.values())
        report.check(f"{name}: the size of an uninterrupted run", size <= self.final + BOOKKEEPING,
                     f"{size} bytes, {self.final} uninterrupted")

    def run(self, rounds):
        self.measure()
        left, kills = rounds, 0
        self.clear()
        while left > 0:
            left -= 1
            kills += 1
            kept = self.work.segments()
            result = self.round()
            if result or kills == KILLS_OF_A_TEXT or left == 0:
                self.finish(kept, result)
                self.clear()
                kills = 0
        self.report.check(f"{self.work.name}: at most a segment more on the way",
                          self.largest <= self.limit, f"at most {self.largest} of {self.limit} bytes")
        done = self.figures
        self.report.check(f"{self.work.name}: kills came during work",
                          3 * done["with progress"] >= done["kills"] > 0, done)

    def clear(self):
        shutil.rmtree(self.work.folder, ignore_errors=True)
        self.work.folder.mkdir(parents=True)


def differences(path, other):
    """Where two saved contexts differ."""
    mine, theirs = path.read_bytes() if path.exists() else b"", other.read_bytes()
    if len(mine) != len(theirs):
        return f"{len(mine)} bytes, not {len(theirs)}"
    step = SEGMENT["bytes"]
    places = [n for n in range(0, len(mine), step) if mine[n:n + step] != theirs[n:n + step]]
    return f"differs in parts {[n // step for n in places]} of {len(mine) // step} of {step} bytes"


def main():
    made = options(__doc__, rounds=50, memory="64M")
    if made.quick:
        made.rounds = 6
    command, report, draw = Command(made), Report("crash"), random.Random(made.seed)
    book = Book(made, 6_000 if made.quick else None)
    folder = Path(made.folder)
    memory = "16M" if made.quick else made.memory
    # One short text tells how long a segment is.
    probe = Keeping(command, Book(made, 1_500), folder / "probe", memory)
    result = command.run(*probe.words)
    found = [size for name, size in sizes(probe.folder).items() if name.endswith(".segment")]
    if not report.check("a text is kept in segments", result.code == 0 and found, result):
        return report.end()
    SEGMENT["bytes"] = found[0]
    figures = {}
    for kind, rounds in ((Saving, made.rounds // 2), (Keeping, made.rounds - made.rounds // 2)):
        work, reference = (kind(command, book, folder / f"{kind.name}-{name}", memory)
                           for name in ("killed", "whole"))
        kills = Kills(work, reference, draw, report)
        kills.run(rounds)
        figures[kind.name] = kills.figures
    return report.end(rounds=made.rounds, **figures)


if __name__ == "__main__":
    raise SystemExit(main())
