#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whatever is changed in a saved context or in a kept segment is found.

  damage.py --binary infinitehip --model MODEL.gguf --text long.txt --folder scratch

Flips bits, truncates, swaps and duplicates pages, swaps segments, and puts pages and segments of another
text in their places; only bytes that are of use, not those of holes and padding. In --rounds questions the
damage must come out: in words where the file is of no use, else in `notices`, with the answer of what was
not damaged. Where `infinitehip cache verify` exists, it must find each of --verified damages more.
"""
import collections
import random
import re
import shutil
import struct
import subprocess
from pathlib import Path

from harness import Book, Command, Report, options

MEMORY = ["--kv-ram", "64M"]
TEXT_TOKENS = 6_000


def aligned(count):
    return (count + 4095) // 4096 * 4096


class Shape:
    """Where the parts of a saved context lie; see SegmentShape.swift and ContextFormat.swift."""

    def __init__(self, data):
        self.start, = struct.unpack_from("<I", data, 12)
        first = data[20:].split(b"\n", 1)[0]
        self.block, self.blocks, self.pages, self.page, self.sketch = map(int, first.split()[1:])
        self.places = self.pages * self.blocks
        self.sums = 144 + 4 * self.block * self.blocks + 4 * self.blocks + 4 * self.places
        self.header = aligned(self.sums + (self.places + 7) // 8 + 32)
        self.first_page = self.header + aligned(self.sketch * self.blocks)
        self.segment = aligned(self.first_page + self.places * self.page)

    def count(self, data):
        """Segments of a saved context."""
        return (len(data) - self.start) // self.segment

    def kept(self, data, base):
        """Offsets of the pages that a segment has, and the count of blocks that have tokens."""
        tokens, = struct.unpack_from("<I", data, base + 12)
        bits = data[base + self.sums:base + self.sums + (self.places + 7) // 8]
        pages = [base + self.first_page + place * self.page for place in range(self.places)
                 if bits[place // 8] >> place % 8 & 1]
        return pages, (tokens + self.block - 1) // self.block

    def areas(self, data, base):
        """The spans of a segment that are of use."""
        pages, blocks = self.kept(data, base)
        return [("header", base, self.header), ("sketches", base + self.header, self.sketch * blocks),
                *(("page", page, self.page) for page in pages)]


class Damage:
    """Draws damages of segments that lie in `data` at `bases`; `other` is the same of another text."""

    kinds = ["flip", "flip", "truncate", "swap pages", "duplicate a page", "swap segments",
             "replay a page", "replay a segment"]

    def __init__(self, draw, shape, data, other, bases, edges=()):
        self.draw, self.shape, self.data, self.other, self.bases = draw, shape, data, other, bases
        self.edges = list(edges)

    def make(self, kind):
        """The damaged bytes, and what was done; None where it changed nothing."""
        data = bytearray(self.data)
        place = getattr(self, kind.replace(" ", "_"))(data)
        return (None, place) if bytes(data) == self.data else (data, f"{kind} {place}")

    def flip(self, data):
        areas = self.shape.areas(data, self.draw.choice(self.bases))
        # Each sort of area is as likely as the others.
        sort = self.draw.choice(["header", "page", "sketches"])
        area = self.draw.choice([area for area in areas if area[0] == sort])
        if self.edges and self.draw.random() < 0.25:
            area = self.draw.choice(self.edges)
        offset = area[1] + self.draw.randrange(area[2])
        data[offset] ^= 1 << self.draw.randrange(8)
        return f"in {area[0]}, at {offset}"

    def truncate(self, data):
        count = self.draw.choice([self.draw.randrange(len(data)), len(data) - 1, 0, self.shape.start])
        del data[count:]
        return f"to {count}"

    def two_pages(self, data):
        return self.draw.sample([page for base in self.bases for page in self.shape.kept(data, base)[0]], 2)

    def swap(self, data, one, two, size):
        data[one:one + size], data[two:two + size] = data[two:two + size], data[one:one + size]
        return f"at {one} and {two}"

    def swap_pages(self, data):
        return self.swap(data, *self.two_pages(data), self.shape.page)

    def duplicate_a_page(self, data):
        one, two, size = *self.two_pages(data), self.shape.page
        data[one:one + size] = data[two:two + size]
        return f"at {two} to {one}"

    def swap_segments(self, data):
        return self.swap(data, *self.draw.sample(self.bases, 2), self.shape.segment)

    def replay(self, data, place, size):
        data[place:place + size] = self.other[place:place + size]
        return f"at {place}"

    def replay_a_page(self, data):
        return self.replay(data, self.two_pages(data)[0], self.shape.page)

    def replay_a_segment(self, data):
        return self.replay(data, self.draw.choice(self.bases), self.shape.segment)


def verify(binary, path):
    """What `infinitehip cache verify` says of a file: its status and its words."""
    made = subprocess.run(
        [binary, "cache", "verify", "--file", str(path)], capture_output=True, text=True)
    return made.returncode, (made.stdout + made.stderr).strip()


class Trial:
    """Damages of one thing, and how they came out."""

    def __init__(self, name, report, outcomes):
        self.name, self.report, self.outcomes = name, report, outcomes

    def judge(self, what, made, expected):
        """A question about something damaged: refused in words, or answered well and with a notice."""
        if made.is_refusal:
            outcome = "refused in words"
        elif made.code != 0:
            outcome = "CRASHED" if made.code < 0 or made.code > 127 else "FAILED"
        elif made.answer != expected:
            outcome = "OTHER ANSWER"
        elif made.notices:
            outcome = "answered, with a notice"
        else:
            outcome = "SAID BUT NOT IN NOTICES" if "damaged" in made.words else "NOT FOUND"
        self.outcomes[f"{self.name}: {outcome}"] += 1
        detail = f"{outcome}: {' | '.join(made.notices) or made.words[-250:]} {made.answer!r}"
        return self.report.check(f"{self.name}: {what}", outcome.islower(), detail)


def try_file(command, book, saved, damage, rounds, trial, folder):
    """Damages of a saved context, each asked about."""
    path = folder / "damaged.hipkv"
    ask = lambda file: command.ask(book.question, "--context-file", file, "--kv-disk", 0, *MEMORY)
    whole = ask(saved)
    trial.report.check("the saved context answers", whole.code == 0 and not whole.notices, whole)
    while rounds > 0:
        data, what = damage.make(damage.draw.choice(damage.kinds))
        if data is not None:
            rounds -= 1
            path.write_bytes(data)
            trial.judge(what, ask(path), whole.answer)


def try_folder(command, book, draw, shape, others, rounds, trial, folder):
    """Damages of the segments of a folder: afterwards they are good again."""
    kept, copy = folder / "kept", folder / "copy"
    ask = lambda place: command.ask(book.question, "--file", book.path, "--kv-dir", place, *MEMORY)
    whole = ask(kept)
    trial.report.check("the folder answers", whole.code == 0, whole)
    files = sorted(kept.rglob("*.segment"))
    contents = {path.relative_to(kept): path.read_bytes() for path in files}
    while rounds > 0:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(kept, copy)
        name = draw.choice(sorted(contents))
        damage = Damage(draw, shape, contents[name], draw.choice(others), [0])
        kind = draw.choice(damage.kinds)
        if kind == "swap segments":
            two = draw.choice([path for path in sorted(contents) if path != name])
            data, what = contents[two], "swap segments"
            (copy / two).write_bytes(contents[name])
        else:
            data, what = damage.make(kind)
        if data is None:
            continue
        rounds -= 1
        (copy / name).write_bytes(data)
        trial.judge(what, ask(copy), whole.answer)
        after = {path.relative_to(copy): path.read_bytes() for path in copy.rglob("*.segment")}
        if after != contents:
            wrong = [str(path) for path in contents if after.get(path) != contents[path]]
            trial.report.check(f"folder: {what}: good again afterwards", False, wrong)


def verify_all(binary, saved, damage, rounds, report, outcomes, folder):
    """Damages of a saved context, each to be found by the command that verifies."""
    report.check("verify finds nothing in a good file", verify(binary, saved)[0] == 0)
    path, missed = folder / "verified.hipkv", []
    while rounds > 0:
        data, what = damage.make(damage.draw.choice(damage.kinds))
        if data is None:
            continue
        rounds -= 1
        path.write_bytes(data)
        code, words = verify(binary, path)
        found = code == 1 and bool(words)
        outcomes[f"verify: {'found' if found else 'MISSED'}"] += 1
        if not found:
            missed.append(f"{what} (status {code}: {words[-100:]})")
    report.check("verify finds every damage", not missed, missed[:5] or "")


def main():
    made = options(__doc__, rounds=60, verified=1000)
    if made.quick:
        made.rounds, made.verified = 14, 30
    command, report, outcomes = Command(made), Report("damage"), collections.Counter()
    folder, draw = Path(made.folder), random.Random(made.seed)
    book, older = Book(made, TEXT_TOKENS), Book(made, TEXT_TOKENS, start=TEXT_TOKENS)
    files = []
    for number, text in enumerate((book, older)):
        files.append(folder / f"saved-{number}.hipkv")
        result = command.index(text.path, files[-1], "--kv-disk", 0, *MEMORY)
        report.check(f"text {number} is saved", result.code == 0, result)
    data, other = (path.read_bytes() for path in files)
    shape = Shape(data)
    count = min(shape.count(data), shape.count(other))
    bases = [shape.start + number * shape.segment for number in range(shape.count(data))]
    trailer = bases[-1] + shape.segment
    edges = [("the file's header", 0, shape.start), ("the file's end", trailer, len(data) - trailer)]
    # The last segment, which is not full, has no equal in the other file.
    damage = Damage(draw, shape, data, other, bases[:count - 1], edges)
    try_file(command, book, files[0], damage, made.rounds // 2, Trial("file", report, outcomes), folder)
    others = [other[base:base + shape.segment] for base in bases[:count - 1]]
    trial = Trial("folder", report, outcomes)
    try_folder(command, book, draw, shape, others, made.rounds - made.rounds // 2, trial, folder)
    if re.search(r"^ +cache\b", subprocess.check_output([made.binary, "--help"], text=True), re.M):
        verify_all(made.binary, files[0], damage, made.verified, report, outcomes, folder)
    else:
        report.skip("verify", "the command has no `cache verify`")
    return report.end(rounds=made.rounds, outcomes=dict(sorted(outcomes.items())))


if __name__ == "__main__":
    raise SystemExit(main())
