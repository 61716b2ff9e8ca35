#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Remakes the fixtures of the tests.

    Scripts/make-fixtures.py GOLDEN

GOLDEN is a folder with `tokens.json`, `logits.json` and `generation/`: ids of the `tokenizers` library
and of llama.cpp, values of Hugging Face transformers (float32, eager) for the demo model. The attention
fixture needs no such folder: it comes from the NumPy model in Scripts/oracle.
"""

import json
import pathlib
import sys

import numpy as np

here = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(here / "oracle"))
import infinitehip_oracle as oracle

tests = here.parent / "Tests"


def write(target, name, value):
    path = tests / target / "Fixtures" / name
    path.write_text(json.dumps(value, separators=(",", ":")) + "\n")
    print(path.relative_to(here.parent), path.stat().st_size, "bytes")


def tokens(golden):
    cases = json.loads((golden / "tokens.json").read_text())["cases"]
    keys = ("name", "category", "utf8_base64", "ids", "ids_plain")
    # The longest words are tested with a made-up text instead.
    write(
        "HiPTokenizationTests",
        "tokens.json",
        {"cases": [{key: case[key] for key in keys} for case in cases if len(case["text"]) < 3000]},
    )


def logits(golden):
    cases = json.loads((golden / "logits.json").read_text())["cases"]
    write(
        "EndToEndTests",
        "logits.json",
        [
            {
                "name": case["name"],
                "ids": case["ids"] + [case["next_id"]],
                "logprob": case["q8_0"]["logprob"],
                "meanNLL": case["q8_0"]["mean_nll"],
            }
            for case in cases
            if case["n_tokens"] <= 1000
        ],
    )


def generation(golden):
    cases = [json.loads((golden / f"generation/{n:02d}.json").read_text()) for n in (1, 2, 3)]
    write(
        "EndToEndTests",
        "generation.json",
        [
            {
                "prompt": case["messages"][-1]["content"],
                "promptTokens": len(case["prompt_ids"]) + 1,
                "ids": case["runs"]["q8_0_bos"]["ids"],
                "text": case["runs"]["q8_0_bos"]["text"],
            }
            for case in cases
        ],
    )


def attention():
    """A small layer with correlated keys, so that attention is peaked; exact in 16 bits."""
    generator = np.random.default_rng(11)
    length, heads, kv_heads, size, rows, base = 448, 4, 2, 16, 80, 10000.0
    runs = np.repeat(generator.normal(size=(length // 16, kv_heads, size)), 16, 0)
    keys = np.round((runs + generator.normal(size=(length, kv_heads, size)) * 0.7) * 16) / 16
    values = np.round(generator.normal(size=(length, kv_heads, size)) * 16) / 16
    lean = keys[generator.integers(0, length, rows)][:, np.repeat(np.arange(kv_heads), heads // kv_heads)]
    queries = np.round((lean + generator.normal(size=(rows, heads, size))) * 16) / 16
    sink, window = 16, 96
    stages = [(64, None, 4), (16, 256, 4), (8, 128, 1)]
    final = 64
    cases = []
    for rule in ("relative", "chunk", "infllm", None):
        for shared in (True, False):
            for first, count in ((0, 64), (64, 16), (79, 1)):
                part = queries[first : first + count].transpose(1, 0, 2) / np.sqrt(size)
                positions = length - rows + first + np.arange(count)
                blocks, _ = oracle.select(
                    part, positions, keys, length, sink, window, stages, final, rule, shared, kv_heads, base
                )
                output = oracle.bsa(
                    part, positions, keys[: positions.max() + 1], values[: positions.max() + 1], blocks, 8,
                    sink, window, kv_heads, rule is not None, base,
                )
                cases.append(
                    {
                        "rule": rule or "none",
                        "shared": shared,
                        "first": first,
                        "count": count,
                        "blocks": [starts.tolist() for starts in blocks],
                        # The first and the last row are enough.
                        "output": [
                            np.round(output[:, row].ravel(), 7).tolist() for row in sorted({0, count - 1})
                        ],
                    }
                )
    write(
        "ConformanceTests",
        "attention.json",
        {
            "length": length, "heads": heads, "kvHeads": kv_heads, "headSize": size, "rows": rows,
            "ropeBase": base, "sink": sink, "window": window,
            # 1/16ths.
            "queries": (queries * 16).astype(int).ravel().tolist(),
            "keys": (keys * 16).astype(int).ravel().tolist(),
            "values": (values * 16).astype(int).ravel().tolist(),
            "cases": cases,
        },
    )


attention()
if len(sys.argv) > 1:
    golden = pathlib.Path(sys.argv[1])
    tokens(golden)
    logits(golden)
    generation(golden)
