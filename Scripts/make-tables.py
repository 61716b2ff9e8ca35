#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the tables of README.md and Docs/*.md from Docs/Results/*.json, which the commands wrote.

    Scripts/make-tables.py          rewrites the tables
    Scripts/make-tables.py --check  fails when a table is not what the results make

A table stands between `<!-- table NAME -->` and `<!-- end -->`. Remaking the results: Scripts/measure.
"""
import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "Docs" / "Results"


def result(name):
    path = RESULTS / f"{name}.json"
    if not path.exists():
        sys.exit(f"{path.relative_to(ROOT)} is missing; run Scripts/measure")
    return json.loads(path.read_text())


def size(tokens):
    for unit, name in ((1 << 20, "M"), (1 << 10, "K")):
        if tokens >= unit and tokens % unit == 0:
            return f"{tokens // unit}{name}"
    return str(tokens)


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def machine(document):
    it = document["machine"]
    return f"{it['cores']} cores of {it['processor']}, {it['device']}"


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def demo():
    document = result("demo")
    rows = [
        (
            f"`{it['policy']}`",
            f"{it['found']} of {document['questions']}",
            number(document["contextTokens"] / it["prefillSeconds"]),
            number(it["decodeTokensPerSecond"]),
            f"{it['peakBytes'] / 1e6:.0f} MB",
        )
        for it in document["policies"]
    ]
    head = ("Policy", "Found", "Prefill, tokens/s", "Decode, tokens/s", "Memory")
    return f"{machine(document)}; {size(document['contextTokens'])} tokens.\n\n" + table(head, rows)


def speed(name):
    def make():
        document = result(name)
        rows = [
            (
                size(it["depth"]) if it["depth"] else "0",
                f"`{it['policy']}`",
                str(it["sequences"]),
                number(it["tokensPerSecond"]["median"]),
                f"{number(it['tokensPerSecond']['min'])} to {number(it['tokensPerSecond']['max'])}",
            )
            for it in document["results"]
        ]
        peaks = document["peaks"]
        model = document["model"]
        note = (
            f"{machine(document)}; in the same run memory reads {peaks['readGBs']:.1f} GB/s, products in float32 "
            f"{peaks['fp32GFLOPs']:.0f} and in bfloat16 {peaks['bf16GFLOPs']:.0f} GFLOP/s. {model}."
        )
        head = ("Depth", "Policy", "Sequences", "Tokens/s, median", "Range")
        return note + "\n\n" + table(head, rows)

    return make


def kernels():
    document = result("matmul")
    types = {}
    for it in document["results"]:
        types.setdefault(it["name"].split()[0], {})[it["rows"]] = it
    eight = types["Q8_0"][1]["gigabytesPerSecond"]
    rows = [
        (
            name,
            number(it[1]["gigabytesPerSecond"]),
            f"{it[1]['gigabytesPerSecond'] / eight * 100:.0f} %",
            *(number(it[count]["gigaflopsPerSecond"]) for count in (1, 4, 512)),
        )
        for name, it in types.items()
    ]
    head = ("Weights", "GB/s, 1 row", "Of Q8_0's", "GFLOP/s, 1 row", "4 rows", "512 rows")
    return machine(document) + ".\n\n" + table(head, rows)


def peer():
    ours = {"Prefill of 512": result("smollm2-prefill"), "Decode": result("smollm2-decode")}
    other = {
        "Prefill of 512" if it["n_prompt"] else "Decode": it["avg_ts"]
        for it in result("smollm2-llama-cpp")
    }
    rows = []
    for name, document in ours.items():
        own = document["results"][0]["tokensPerSecond"]["median"]
        rows.append((name, number(own), number(other[name]), f"{own / other[name]:.2f}"))
    head = ("SmolLM2-135M-Instruct, Q4_1", "Tokens/s", "llama.cpp", "Ratio")
    return machine(ours["Decode"]) + ".\n\n" + table(head, rows)


def scores(*names):
    def make():
        documents = [result(name) for name in names]
        rows = [
            (
                f"`{it['task']}`",
                size(it["length"]),
                f"`{it['policy']}`",
                f"{it['score'] * 100:.0f} %",
                f"{it['low'] * 100:.0f} to {it['high'] * 100:.0f} %",
                str(it["samples"]),
            )
            for document in documents
            for it in document["results"]
        ]
        note = f"{machine(documents[0])}; {documents[0]['model']}, seed {documents[0]['seed']}."
        head = ("Task", "Tokens", "Policy", "Score", "95 % interval", "Questions")
        return note + "\n\n" + table(head, rows)

    return make


def perplexity():
    document = result("perplexity")
    buckets = document["results"][0]["buckets"]
    head = ["Policy"] + [f"{size(it['from']) if it['from'] else 0} to {size(it['to'] + it['to'] % 2)}" for it in buckets]
    rows = [
        [f"`{it['policy']}`"] + [f"{bucket['meanNLL']:.4f}" for bucket in it["buckets"]]
        for it in document["results"]
    ]
    return f"{machine(document)}; {document['model']}.\n\n" + table(head, rows)


def tiers():
    document = result("tiers")
    rows = [
        (
            it["model"],
            f"{it['tokens']:,}",
            it["kvRam"],
            f"{it['prefillSeconds'] / 60:.0f} min",
            f"{it['peakBytes'] / 1e9:.2f} GB",
            f"{it['fileBytes'] / 1e9:.2f} GB",
            f"{it['found']} of {it['questions']}" if "questions" in it else "–",
        )
        for it in document["prefills"]
    ]
    head = ("Model", "Tokens", "`--kv-ram`", "Prefill", "Memory at most", "File", "Found")
    return f"{machine(document)}.\n\n" + table(head, rows)


def restores():
    document = result("tiers")
    rows = [
        (
            f"{it['tokens']:,}",
            it["kvRam"],
            f"{it['firstTokenSeconds']:.1f} s",
            f"{100 * it['readShare']:.1f} %",
            f"{it['decodeTokensPerSecond']:.0f}",
            f"{100 * it['decodeHitRate']:.1f} %",
        )
        for it in document["restores"]
    ]
    head = ("Tokens", "`--kv-ram`", "First token, cold", "Read of the file", "Decode, tokens/s", "Pages from memory")
    return f"{machine(document)}; hip-demo-28m.Q8_0.gguf.\n\n" + table(head, rows)


TABLES = {
    "demo": demo,
    "decode": speed("decode"),
    "prefill": speed("prefill"),
    "decode-1b": speed("decode-1b"),
    "prefill-1b": speed("prefill-1b"),
    "kernels": kernels,
    "peer": peer,
    "tiers": tiers,
    "restores": restores,
    "needles": scores("needle", "needle-others"),
    "retrieval": scores("ruler-32k", "kv-32k", "ruler-8k", "kv-8k"),
    "real": scores("ruler-smollm2", "ruler-smollm2-32k"),
    "perplexity": perplexity,
}


def main():
    stale = []
    for path in [ROOT / "README.md", *sorted((ROOT / "Docs").glob("*.md"))]:
        text = path.read_text()
        made = re.sub(
            r"(<!-- table ([a-z0-9-]+) -->\n)(?:.*?\n)??(<!-- end -->)",
            lambda m: f"{m[1]}{TABLES[m[2]]()}\n{m[3]}",
            text,
            flags=re.S,
        )
        if made == text:
            continue
        stale.append(path.name)
        if "--check" not in sys.argv:
            path.write_text(made)
    if stale and "--check" in sys.argv:
        sys.exit(f"tables are not what Docs/Results makes; run Scripts/make-tables.py: {', '.join(stale)}")


if __name__ == "__main__":
    main()
