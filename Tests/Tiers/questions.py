#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Asks for the facts of a saved context, each from a cold start, then decodes long answers, and measures both.

  questions.py --binary infinitehip --model MODEL.gguf --text long.txt --context long.hipkv --kv-ram 2G

The facts are those of make_text.py (TEXT's .json). Before each question the system's page cache is dropped
where that is permitted (root, Linux). Prints one line per question and a JSON summary: found, seconds from the
start of the process to the first token, the share of the file's bytes that were read, the peak of memory, and the
speed of the second of two long answers, with the share of pages that memory served.
"""
import argparse
import json
import os
import re
import subprocess
from pathlib import Path


def drop_page_cache():
    """Whether the page cache could be dropped."""
    try:
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3\n")
        return True
    except OSError:
        return False


def decode(options):
    """Tokens per second of a long answer once everything is warm, and the share of pages from memory."""
    lines = ["Continue the story.", "Repeat the first chapter word for word.", "/stats", "/bye"]
    made = subprocess.run(
        [options.binary, "run", "--context-file", options.context, "--model", options.model,
         "--kv-ram", options.kv_ram, "--kv-disk", "0", "--max-tokens", "300", "--temperature", "0"],
        input="\n".join(lines) + "\n", capture_output=True, text=True, check=True).stdout
    count, seconds = re.findall(r"(\d+) decoded in ([\d.]+) s", made)[-1]
    rate = re.findall(r"pages read  ([\d.]+) %", made)[-1]
    return {"decodeTokens": int(count), "decodeTokensPerSecond": round(int(count) / float(seconds), 1),
            "decodeHitRate": float(rate) / 100}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--text", required=True)
    parser.add_argument("--context", required=True)
    parser.add_argument("--kv-ram", default="2G")
    parser.add_argument("--warm", action="store_true", help="leave the page cache as it is")
    options = parser.parse_args()
    facts = json.loads(Path(options.text).with_suffix(".json").read_text())
    size = os.stat(options.context).st_size
    rows, is_cold = [], not options.warm
    for fact in facts:
        is_cold = not options.warm and drop_page_cache()
        question = f"What is the special magic number for {fact['thing']} mentioned in the provided text?"
        made = subprocess.run(
            [options.binary, "ask", "--context-file", options.context, question, "--json", "--model",
             options.model, "--kv-ram", options.kv_ram, "--kv-disk", "0", "--max-tokens", "40",
             "--temperature", "0"], capture_output=True, text=True, check=True)
        said = json.loads(made.stdout)
        row = {"depth": fact["depth"], "found": fact["number"] in said["answer"],
               "firstTokenSeconds": round(said["firstTokenSeconds"], 2),
               "readShare": round(said["tiers"]["bytesRead"] / size, 4),
               "hitRate": round(said["tiers"]["hitRate"], 3), "peakBytes": said["peakBytes"]}
        rows.append(row)
        print(f"{fact['thing']:16} {json.dumps(row)} {said['answer'][-40:]!r}", flush=True)
    print(json.dumps({
        "contextBytes": size, "tokens": said["promptTokens"], "kvRam": options.kv_ram,
        "isCold": is_cold, "found": sum(row["found"] for row in rows), "questions": len(rows),
        "firstTokenSeconds": max(row["firstTokenSeconds"] for row in rows),
        "readShare": max(row["readShare"] for row in rows),
        "peakBytes": max(row["peakBytes"] for row in rows), **decode(options), "rows": rows}))


if __name__ == "__main__":
    main()
