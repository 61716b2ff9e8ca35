#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Greedy answers are the same wherever keys and values lie.

  answers.py --binary infinitehip --model MODEL.gguf --text long.txt --folder scratch

Asks for the facts of a text of make_text.py (its .json lies beside it) with all of it in memory and no
disk, with about half of it in memory, and with the least memory that is accepted: each text read anew
(--fresh questions), from the kept folder, and from a context file.
"""
import hashlib
import shutil
from pathlib import Path

from harness import BYTES_PER_TOKEN, MEGABYTE, PLENTY, Book, Command, Report, options


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
