#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Disks that are full, read-only, slow, shared or limited: the same answers, or words why there are none.

  disk.py --binary infinitehip --model MODEL.gguf --text long.txt --folder scratch

Small disks are mounted (tmpfs), which takes root; without it, and without gcc for the slow disk, those
checks are left out. A run that cannot keep anything must answer all the same where memory suffices, and
a later one with room must go on from what is there.
"""
import contextlib
import hashlib
import os
import shutil
import subprocess
import time
from pathlib import Path

from harness import MEGABYTE, PLENTY, Book, Command, Report, options

AMPLE, SCANT = ["--kv-ram", "1G"], ["--kv-ram", "16M"]
NOBODY = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>
static int calls;
static void *slow(const char *name) {
  __sync_fetch_and_add(&calls, 1);
  usleep(1000 * atoi(getenv("SLOW_MS")));
  return dlsym(RTLD_NEXT, name);
}
#define WRITE(name, buffer, last) \
  ssize_t name(int file, const buffer, last count, off_t place) { \
    return ((ssize_t (*)(int, const buffer, last, off_t))slow(#name))(file, data, count, place); }
WRITE(pwrite, void *data, size_t)
WRITE(pwrite64, void *data, size_t)
WRITE(pwritev, struct iovec *data, int)
WRITE(pwritev64, struct iovec *data, int)
int fsync(int file) { return ((int (*)(int))slow("fsync"))(file); }
__attribute__((destructor)) static void end(void) { fprintf(stderr, "slowed %d calls\n", calls); }
"""


class Disk:
    """A small disk of its own."""

    def __init__(self, path, megabytes):
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)
        self.megabytes = megabytes

    def __enter__(self):
        options = f"size={self.megabytes}m,mode=755"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", self.path], check=True)
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", self.path], check=True)

    def remount(self, what):
        subprocess.run(["mount", "-o", f"remount,{what}", self.path], check=True)

    def fill(self):
        """Leaves no room on it."""
        with open(self.path / "filler", "ab", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(1 << 16)):
                pass

    def free(self):
        (self.path / "filler").unlink()


def taken(folder):
    """What the files of a folder take of the disk."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


class Checks:
    def __init__(self, made):
        self.command, self.report, self.folder = Command(made), Report("disk"), Path(made.folder)
        self.book = Book(made, 3_500 if made.quick else 9_000)
        self.memories = (("enough memory", AMPLE), ("too little memory", SCANT))[made.quick:]
        made = self.ask(*PLENTY)
        self.answer, self.seconds = made.answer, made.seconds
        self.report.check("the answer from memory", made.code == 0, made)

    def ask(self, *words, **how):
        return self.command.ask(self.book.question, "--file", self.book.path, *words, **how)

    def start(self, kept, memory):
        return self.command.start("ask", self.book.question, "--file", self.book.path, "--max-tokens", 30,
                                  "--temperature", 0, "--kv-dir", kept, *memory)

    def answers(self, name, made, notice=None, cached=None, or_refuses=False):
        """An answer as from memory; perhaps with words in a notice and tokens cached, or an error in words."""
        if or_refuses and made.is_refusal:
            return self.report.check(f"{name}: refused in words", True, made.words[-300:])
        told = " | ".join(made.notices)
        passed = made.code == 0 and made.answer == self.answer
        passed &= notice is None or (notice in told if notice else not told)
        passed &= cached is None or (made.said.get("cachedTokens", 0) > 0) == cached
        return self.report.check(name, passed, f"{told or '(no notices)'}, {made.seconds:.1f} s; {made}"
                                 if not passed or told else f"{made.seconds:.1f} s")

    def intact(self, name, folder):
        left = [*folder.rglob("*writing"), *folder.rglob("scratch*")]
        self.report.check(f"{name}: nothing unfinished is left", not left, left or "")

    def full_while_it_writes(self):
        for name, memory in self.memories:
            with Disk(self.folder / "full", 150) as disk:
                kept = disk.path / "kv"
                with self.start(kept, memory) as process:
                    while process.poll() is None and not list(kept.rglob("*.segment")):
                        time.sleep(0.01)
                    disk.fill()
                    made = self.command.wait(process, time.monotonic())
                self.answers(f"full disk, {name}", made, notice="No space left", or_refuses=memory is SCANT)
                self.intact(f"full disk, {name}", kept)
                disk.free()
                self.answers(f"full disk, {name}, then room", self.ask("--kv-dir", kept, *memory), "", True)
                self.answers(f"full disk, {name}, again", self.ask("--kv-dir", kept, *memory), "", True)

    def full_before(self):
        with Disk(self.folder / "small", 1) as disk:
            self.answers("a disk of 1 MB", self.ask("--kv-dir", disk.path / "kv", *AMPLE))
            disk.fill()
            self.answers("no room at all", self.ask("--kv-dir", disk.path / "kv", *AMPLE), or_refuses=True)
            self.answers("no room at all, too little memory",
                         self.ask("--kv-dir", disk.path / "kv", *SCANT), or_refuses=True)
        with Disk(self.folder / "filled", 100) as disk:
            kept = disk.path / "kv"
            self.answers("a disk that others fill later", self.ask("--kv-dir", kept, *AMPLE), "", False)
            count = len(list(kept.rglob("*.segment")))
            disk.fill()
            for name in ("no room", "4 MB of room"):
                made = self.ask("--kv-dir", kept, *AMPLE)
                self.answers(f"a cache on a disk with {name}: is used", made, cached=True)
                left = len(list(kept.rglob("*.segment")))
                self.report.check(f"a cache on a disk with {name}: stays", left >= count, f"{left} of {count}")
                os.truncate(disk.path / "filler", (disk.path / "filler").stat().st_size - 4 * MEGABYTE)

    def full_while_it_saves(self):
        save = lambda path, **how: self.command.index(self.book.path, path, *PLENTY, **how)
        whole = self.folder / "whole.hipkv"
        save(whole)
        with Disk(self.folder / "saving", 12) as disk:
            path = disk.path / "saved.hipkv"
            made = save(path)
            self.report.check("full disk, --save: refused in words", made.is_refusal, made)
            left = [file.name for file in disk.path.iterdir()]
            self.report.check("full disk, --save: the part stays", left == ["saved.hipkv.part"], left)
            disk.remount("size=300m")
            made = save(path)
            self.report.check("full disk, --save, then room: goes on", made.said.get("readBefore", 0) > 0, made)
            digests = {hashlib.sha256(file.read_bytes()).digest() for file in (path, whole) if file.exists()}
            self.report.check("full disk, --save, then room: the same file", len(digests) == 1)
        path = self.folder / "limited.hipkv"
        made = save(path, file_limit=10 * MEGABYTE)
        self.report.check("limit of a file's size, --save: refused in words", made.is_refusal, made)
        made = self.ask("--kv-dir", self.folder / "limited", *AMPLE, file_limit=3 * MEGABYTE)
        self.answers("limit of a file's size", made, notice="File too large")

    def read_only(self):
        with Disk(self.folder / "fixed", 200) as disk:
            kept = disk.path / "kv"
            self.answers("a disk to be read only later", self.ask("--kv-dir", kept, *AMPLE))
            disk.remount("ro")
            self.read_only_folder("read-only disk", kept, disk.path, ())
            disk.remount("rw")
            if shutil.which("setpriv"):
                os.chmod(self.command.home, 0o777)
                self.read_only_folder("another user's folder", kept, disk.path, NOBODY)

    def read_only_folder(self, name, kept, parent, before):
        for _, memory in self.memories:
            made = self.ask("--kv-dir", kept, *memory, before=before)
            # Files of keys and values are their owner's alone.
            is_readable = not before
            if not is_readable and made.code == 0:
                self.report.check(f"{name}, {memory[1]}: there is a notice", made.notices, made.words)
            self.answers(f"{name}, a cache in it, {memory[1]}", made, cached=is_readable, or_refuses=not is_readable)
            made = self.ask("--kv-dir", parent / "new", *memory, before=before)
            if made.code == 0:
                self.report.check(f"{name}, a new cache: there is a notice", made.notices, made.words)
            self.answers(f"{name}, a new cache, {memory[1]}", made, or_refuses=True)
        made = self.command.index(self.book.path, parent / "saved.hipkv", *PLENTY, before=before)
        self.report.check(f"{name}, --save: refused in words", made.is_refusal, made)

    def slow(self):
        source, shim = self.folder / "slow.c", self.folder / "slow.so"
        source.write_text(SHIM)
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", shim, source, "-ldl"], check=True)
        how = {"LD_PRELOAD": str(shim), "SLOW_MS": "100"}
        for name, memory in self.memories:
            made = self.ask("--kv-dir", self.folder / f"slow-{memory[1]}", *memory, **how)
            calls = made.words.rpartition("slowed ")[2]
            self.answers(f"slow disk, {name} ({calls}, {self.seconds:.1f} s without a disk)", made, "")
            self.report.check(f"slow disk, {name}: says how far it is", made.words.count("Prefill: ") > 0,
                              f"{made.words.count('Prefill: ')} lines")
        made = self.command.index(self.book.path, self.folder / "slow.hipkv", *SCANT, "--kv-disk", 0, **how)
        self.report.check("slow disk, --save", made.code == 0 and "Prefill: " in made.words, made)

    def two_at_once(self):
        kept = self.folder / "shared"
        with self.start(kept, SCANT) as one, self.start(kept, SCANT) as two:
            for number, process in enumerate((one, two)):
                self.answers(f"two at once, {number}", self.command.wait(process, time.monotonic()), "")
        self.intact("two at once", kept)
        self.answers("two at once, then a third", self.ask("--kv-dir", kept, *AMPLE), "", True)
        save = ["index", self.book.path, "--save", self.folder / "shared.hipkv", *PLENTY]
        with self.command.start(*save) as one, self.command.start(*save) as two:
            made = sorted((self.command.wait(process, 0) for process in (one, two)), key=lambda made: made.code)
        self.report.check("two --save at once: one is refused in words",
                          made[0].code == 0 and "another process" in made[1].words, made[1].words)

    def limits(self):
        kept = self.folder / "few-writes"
        made = self.ask("--kv-dir", kept, "--kv-writes", "10M/day", *AMPLE)
        self.answers("--kv-writes 10M/day", made, notice="written in a day")
        size = taken(kept)
        self.report.check("--kv-writes 10M/day: no more is written", size <= 10_500_000, f"{size} bytes")
        made = self.ask("--kv-dir", kept, "--kv-writes", "10M/day", *SCANT)
        self.answers("--kv-writes 10M/day, too little memory", made, or_refuses=True, cached=True)
        kept = self.folder / "small-disk"
        self.answers("--kv-disk 12M", self.ask("--kv-dir", kept, "--kv-disk", "12M", *AMPLE))
        size = taken(kept)
        self.report.check("--kv-disk 12M: no more is kept", 0 < size <= 12 * MEGABYTE, f"{size} bytes")
        for words in (["--kv-disk", "0"], ["--kv-writes", "0"]):
            self.answers(f"{' '.join(words)}", self.ask("--kv-dir", self.folder / "none", *words, *AMPLE))
            found = [str(path) for path in [*(self.folder / "none").rglob("*"), *self.command.home.rglob("*")]]
            self.report.check(f"{' '.join(words)}: no file is written", not found, found or "")


def main():
    made = options(__doc__)
    checks = Checks(made)
    can_mount = os.geteuid() == 0 and shutil.which("mount")
    for check, is_possible, needs in (
            (checks.limits, True, ""), (checks.two_at_once, True, ""),
            (checks.full_while_it_writes, can_mount, "root"), (checks.full_before, can_mount, "root"),
            (checks.full_while_it_saves, can_mount, "root"), (checks.read_only, can_mount, "root"),
            (checks.slow, shutil.which("gcc"), "gcc")):
        check() if is_possible else checks.report.skip(check.__name__, f"needs {needs}")
    return checks.report.end()


if __name__ == "__main__":
    raise SystemExit(main())
