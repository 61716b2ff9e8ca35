#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the tables of README.md and Docs/*.md, and Docs/Images/retention.svg, from Docs/Results/*.json.

    Scripts/make-tables.py          rewrites the tables, and figures of several results
    Scripts/make-tables.py --check  fails when a table or figure is not what the results make

A table stands between `<!-- table NAME -->` and `<!-- end -->`. Remaking the results: Scripts/measure.
"""
import json
import pathlib
import re
import statistics
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


def in_bytes():
    """Prefill by products in bytes beside those in float32: medians of rounds in turn, and the ratios of each round."""
    documents = result("bytes")
    names = {"SmolLM2": "SmolLM2-135M-Instruct, Q4_1", "llama-3.2-1b": "Llama-3.2-1B shape, Q8_0"}
    rows = []
    for key, name in names.items():
        sets = {}
        for it in documents:
            if it["model"].startswith(key):
                sets.setdefault(kernel_set(it), []).append(it["results"][0]["tokensPerSecond"]["median"])
        for plain, dots in (("avx512", "avx512-vnni"), ("avx2", "avx2-vnni")):
            ratios = sorted(a / b for a, b in zip(sets[dots], sets[plain]))
            rows.append(
                (
                    name,
                    f"`{dots}` / `{plain}`",
                    *(number(statistics.median(sets[it])) for it in (plain, dots)),
                    f"{statistics.median(ratios):.1f}",
                    f"{ratios[0]:.1f} to {ratios[-1]:.1f}",
                )
            )
    head = ("Prefill of 512", "Sets", "float32, tokens/s", "Bytes, tokens/s", "Ratio", "Range of 3 rounds")
    return f"{processor(documents[0])}.\n\n" + table(head, rows)


def builds():
    """Prefill beside builds of llama.cpp, rounds in turn."""
    rows = []
    for name in ("avx512", "amx"):
        models = {}
        for it in result(f"peer-{name}"):
            models.setdefault(it["own"]["model"].split(",")[0], []).append(
                (it["own"]["results"][0]["tokensPerSecond"]["median"], it["other"][0]["avg_ts"])
            )
        for model, rounds in models.items():
            ratios = sorted(own / other for own, other in rounds)
            rows.append(
                (
                    f"`{model}`",
                    f"`{name}`",
                    *(number(statistics.median(it[side] for it in rounds)) for side in (0, 1)),
                    f"{statistics.median(ratios):.1f}",
                    f"{ratios[0]:.1f} to {ratios[-1]:.1f}",
                )
            )
    head = ("Prefill of 512", "Build of llama.cpp", "Tokens/s", "llama.cpp", "Ratio", "Range of 3 rounds")
    return machine(result("peer-amx")[0]["own"]) + ".\n\n" + table(head, rows)


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
        machines = {}
        for document in documents:
            machines.setdefault(machine(document), []).extend(f"`{it['policy']}`" for it in document["results"])
        note = "; ".join(
            it if len(machines) == 1 else f"{', '.join(dict.fromkeys(policies))}: {it}" for it, policies in machines.items()
        )
        note += f"; {documents[0]['model']}, seed {documents[0]['seed']}."
        head = ("Task", "Tokens", "Policy", "Score", "95 % interval", "Questions")
        return note + "\n\n" + table(head, rows)

    return make


def tasks(name):
    """A task a row, a policy a column."""

    def make():
        document = result(name)
        columns = list(dict.fromkeys((it["policy"], it["length"]) for it in document["results"]))
        cells = {(it["task"], it["policy"], it["length"]): it for it in document["results"]}
        rows = []
        for task in dict.fromkeys(it["task"] for it in document["results"]):
            ran = [cells[(task, *column)] for column in columns]
            rows.append(
                [f"`{task}`", str(ran[0]["samples"])]
                + [f"{100 * it['score']:.0f} % ({100 * it['low']:.0f} to {100 * it['high']:.0f})" for it in ran]
            )
        head = ["Task", "Questions"] + [f"`{policy}`, {size(length)}" for policy, length in columns]
        return f"{machine(document)}; {document['model']}, seed {document['seed']}.\n\n" + table(head, rows)

    return make


def perplexity(name):
    def made():
        document = result(name)
        buckets = document["results"][0]["buckets"]
        head = ["Policy"] + [
            f"{size(it['from']) if it['from'] else 0} to {size(it['to'] + it['to'] % 2)}" for it in buckets
        ]
        rows = [
            [f"`{it['policy']}`"] + [f"{bucket['meanNLL']:.4f}" for bucket in it["buckets"]]
            for it in document["results"]
        ]
        return f"{machine(document)}; {document['model']}.\n\n" + table(head, rows)

    return made


RETENTION = {
    "demo, 8K": ["retention-demo", "retention-demo-others"],
    "SmolLM2-135M, 8K": ["retention-smollm2", "retention-smollm2-others"],
    "Gemma 3 270M, 32K": ["retention-gemma3"],
}


def retention(*names):
    def made():
        documents = [result(name) for name in names]
        dense = [it["score"] for it in documents[0]["results"]["baseline"] if it["score"] >= 0.5]
        head = ("Policy", "Tokens", "Retention", "95 % interval", "Score", "Questions")
        rows = [("`dense`", "1x", "1.00", "–", f"{sum(dense) / len(dense):.2f}", f"{len(dense)} of 4 tasks")]
        rows += [
            (
                f"`{it['policy']}`",
                f"{it['factor']}x",
                f"{it['retention']:.2f}",
                f"{it['low']:.2f} to {it['high']:.2f}",
                f"{it['score']:.2f}",
                str(it["samples"]),
            )
            for document in documents
            for it in document["results"]["retention"]
        ]
        machines = {}
        for document in documents:
            for policy in dict.fromkeys(it["policy"] for it in document["results"]["retention"]):
                ran = [it["factor"] for it in document["results"]["retention"] if it["policy"] == policy]
                factors = ", ".join(f"{factor}x" for factor in ran)
                machines.setdefault(machine(document), []).append(f"`{policy}` at {factors}")
        note = "; ".join(
            it if len(machines) == 1 else f"{', '.join(rows_of)}: {it}" for it, rows_of in machines.items()
        )
        return f"{note}; {documents[0]['model']}, seed {documents[0]['seed']}.\n\n" + table(head, rows)

    return made


def retention_figure():
    """Retention against multiples of the trained length: a panel per model, a line per policy."""
    colours = ["--c0", "--c1", "--c2", "--c3", "--c4", "--c5"]
    documents = {
        model: [it for name in names for it in result(name)["results"]["retention"]]
        for model, names in RETENTION.items()
    }
    policies = list(dict.fromkeys(it["policy"] for rows in documents.values() for it in rows))
    factors = sorted({it["factor"] for rows in documents.values() for it in rows})
    width, height, left, top, gap = 220, 200, 56, 84, 40
    body = []
    for number, (model, rows) in enumerate(documents.items()):
        start = left + number * (width + gap)

        def x(factor):
            # The trained length itself is the first place.
            return start + width * ([1] + factors).index(factor) / len(factors)

        def y(value):
            return top + height * (1 - min(max(value, 0), 1.1) / 1.1)

        body.append(f'<text x="{start}" y="{top - 14}">{model}</text>')
        for value in (0, 0.25, 0.5, 0.75, 1):
            body.append(f'<path d="M{start} {y(value):.1f}H{start + width}" style="stroke: var(--line)"/>')
            if number == 0:
                body.append(
                    f'<text class="soft" x="{start - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>'
                )
        for factor in [1] + factors:
            body.append(
                f'<text class="soft" x="{x(factor):.1f}" y="{top + height + 20}" text-anchor="middle">{factor}x</text>'
            )
        for place, policy in enumerate(policies):
            points = [(it["factor"], it["retention"]) for it in rows if it["policy"] == policy]
            if not points:
                continue
            # The default is dense within the trained length.
            start_of_line = [(1, 1.0)] if policy == "infinitehip" else []
            style = f"stroke: var({colours[place % 6]}); fill: var({colours[place % 6]})"
            path = "L".join(f"{x(factor):.1f} {y(value):.1f}" for factor, value in start_of_line + points)
            body.append(f'<path d="M{path}" style="{style}; fill: none; stroke-width: 2"/>')
            body += [f'<circle cx="{x(f):.1f}" cy="{y(v):.1f}" r="3" style="{style}"/>' for f, v in points]
    at = left
    for place, policy in enumerate(policies):
        body.append(f'<circle cx="{at}" cy="46" r="4" style="fill: var({colours[place % 6]})"/>')
        body.append(f'<text x="{at + 10}" y="50">{policy}</text>')
        at += 30 + 8 * len(policy)
    title = "Retention: score at multiples of the trained length over dense within it"
    size = (left + len(documents) * (width + gap), top + height + 36)
    style = """text { font: 13px system-ui, sans-serif; fill: var(--ink) } .title { font-weight: 600; font-size: 15px }
  .soft { fill: var(--soft) }
  :root { color-scheme: light dark; --ink: #1d2733; --soft: #5d6b7a; --line: #d5dbe1; --paper: #ffffff;
    --c0: #1f7a5c; --c1: #b4552d; --c2: #3a6ea5; --c3: #8a5fb0; --c4: #a08400; --c5: #c23f6e }
  @media (prefers-color-scheme: dark) { :root { --ink: #e6ebf0; --soft: #9aa7b4; --line: #38434e; --paper: #14191f;
    --c0: #4fc79b; --c1: #ef9a70; --c2: #7db4ee; --c3: #c39be6; --c4: #dfc24a; --c5: #f283a9 } }"""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}" width="{size[0]}" '
            f'height="{size[1]}" role="img" aria-label="{title}">',
            f"<style>\n  {style}\n</style>",
            '<rect width="100%" height="100%" style="fill: var(--paper)"/>',
            f'<text class="title" x="16" y="26">{title}</text>',
            *body,
            "</svg>",
            "",
        ]
    )


def written(*names):
    def make():
        documents = [result(name) for name in names]
        rows = [
            (
                document["model"],
                size(it["length"]),
                f"`{it['policy']}`",
                f"{it['meanNLL']:.4f}",
                f"{100 * it['relative']:+.2f} %" if "relative" in it else "–",
                f"{it['difference']['low']:+.4f} to {it['difference']['high']:+.4f}" if "difference" in it else "–",
            )
            for document in documents
            for it in document["results"]
        ]
        head = ("Model", "Tokens", "Policy", "Nats per token", "Against a fresh selection", "95 %, nats")
        return f"{machine(documents[0])}.\n\n" + table(head, rows)

    return make


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


def gpu():
    document = result("gpu")
    rows = []
    for it in document["results"]:
        keys = size(it["keys"][0]) if len(it["keys"]) == 1 else "4K to 256K"
        dense = it.get("dense", {})
        rows.append(
            (
                it["name"],
                f"`{it['policy']}`" if it["policy"] != "random blocks" else it["policy"],
                size(it["queries"]),
                keys,
                number(it["microseconds"]),
                number(it["floor"]),
                f"{it['microseconds'] / it['floor']:.2f}",
                *(number(dense[name]) if name in dense else "" for name in ("cuDNN", "flash")),
            )
        )
    note = (
        f"{document['card']}; in the same run it reads {document['bytesPerSecond'] / 1e12:.2f} TB/s, and a product of bfloat16 "
        f"matrices takes {document['operationsPerSecond'] / 1e12:.0f} TFLOP/s. PyTorch {document['torch']}. Microseconds."
    )
    head = ("Work", "Policy", "Queries", "Keys", "Ours", "Floor", "Ours / floor", "cuDNN, dense", "flash, dense")
    return f"{note}\n\n" + table(head, rows)


def kernel_set(document):
    """The set of kernels that a document was made with."""
    return document["machine"]["device"].split("(")[1].split(",")[0]


def processor(document):
    return f"{document['machine']['cores']} cores of {document['machine']['processor']}, 2 threads"


def matrix():
    """Tokens/s of a prefill by three sets: medians of rounds in turn, and the ratios of each round."""
    documents = result("matrix")

    def bench(name, model):
        def is_one(it):
            return it.get("model", "").startswith(model) and it["results"][0].get("name") == name

        return is_one, lambda it: it["results"][0]["tokensPerSecond"]["median"]

    works = {
        "Reading 512 tokens, Llama-3.2-1B shape, Q8_0": bench("prefill", "llama-3.2-1b"),
        "Reading 512 tokens, SmolLM2-135M-Instruct, Q4_1": bench("prefill", "SmolLM2"),
        "Reading a text of 64K tokens, demo model, `auto`": (
            lambda it: "contextTokens" in it,
            lambda it: it["contextTokens"] / it["policies"][0]["prefillSeconds"],
        ),
        "Writing at 32K tokens, dense, Llama-3.2-1B shape": bench("decode", "llama-3.2-1b"),
    }
    rows = []
    for name, (is_one, speed_of) in works.items():
        sets = {}
        for it in documents:
            if is_one(it):
                sets.setdefault(kernel_set(it), []).append(speed_of(it))
        ratios = sorted(amx / plain for amx, plain in zip(sets["amx"], sets["avx512"]))
        rows.append(
            (
                name,
                *(number(statistics.median(sets[it])) if it in sets else "" for it in ("avx512", "avx512-vnni", "amx")),
                f"{statistics.median(ratios):.1f}",
                f"{ratios[0]:.1f} to {ratios[-1]:.1f}",
                str(len(ratios)),
            )
        )
    head = ("Tokens/s", "`avx512`", "`avx512-vnni`", "`amx`", "`amx` / `avx512`", "Range", "Rounds")
    return f"{processor(documents[0])}.\n\n" + table(head, rows)


def roofline():
    """What kernels reach of the unit that bounds them, by two sets on one machine."""
    documents = [it for it in result("matrix") if "rows" in it.get("results", [{}])[0]]
    wanted = ("Q8_0", "Q4_K", "Q6_K", "BF16", "dense", "infinitehip attend", "infinitehip select")
    sets, peaks = {}, {}
    for it in documents:
        peaks[kernel_set(it)] = it["peaks"]
        for kernel in it["results"]:
            if kernel["name"].startswith(wanted):
                sets.setdefault((kernel["name"], kernel["rows"]), {})[kernel_set(it)] = kernel
    rows = [
        (
            name,
            str(count),
            *(
                cell
                for it in ("avx512-vnni", "amx")
                for cell in (
                    number(kernels[it]["gigabytesPerSecond"]),
                    number(kernels[it]["gigaflopsPerSecond"]),
                    f"{kernels[it]['shareOfRoofline'] * 100:.0f} %",
                )
            ),
        )
        for (name, count), kernels in sets.items()
        if {"avx512-vnni", "amx"} <= kernels.keys() and kernels["amx"]["gigaflopsPerSecond"] > 0
    ]
    note = "; ".join(
        f"`{name}`: reads {it['readGBs']:.0f} GB/s, float32 {it['fp32GFLOPs']:.0f}, bfloat16 {it['bf16GFLOPs']:.0f}, bytes {it['int8GOPs']:.0f} GFLOP/s"
        for name, it in peaks.items()
    )
    head = ("Kernel", "Rows", "GB/s, `avx512-vnni`", "GFLOP/s", "Of roofline", "GB/s, `amx`", "GFLOP/s", "Of roofline")
    return f"{processor(documents[0])}. {note}.\n\n" + table(head, rows)


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
    "matrix": matrix,
    "roofline": roofline,
    "decode": speed("decode"),
    "prefill": speed("prefill"),
    "decode-1b": speed("decode-1b"),
    "prefill-1b": speed("prefill-1b"),
    "kernels": kernels,
    "peer": peer,
    "builds": builds,
    "bytes": in_bytes,
    "tiers": tiers,
    "restores": restores,
    "needles": scores("needle", "needle-others"),
    "retrieval": scores("ruler-32k", "kv-32k", "ruler-8k", "kv-8k"),
    "real": scores("ruler-smollm2", "ruler-smollm2-32k"),
    "perplexity": perplexity("perplexity"),
    "perplexity-smollm2": perplexity("perplexity-smollm2"),
    "perplexity-gemma3": perplexity("perplexity-gemma3"),
    "retention-demo": retention("retention-demo", "retention-demo-others"),
    "retention-smollm2": retention("retention-smollm2", "retention-smollm2-others"),
    "retention-gemma3": retention("retention-gemma3"),
    "tasks-demo": tasks("tasks-demo"),
    "tasks-smollm2": tasks("tasks-smollm2"),
    "tasks-gemma3": tasks("tasks-gemma3"),
    "question-demo": scores("question-demo", "question-demo-dense"),
    "question-smollm2": scores("question-smollm2", "question-smollm2-dense"),
    "gpu": gpu,
    "continuation": written("continuation-demo", "continuation-smollm2", "continuation-gemma3"),
    "suite": scores("suite-demo", "suite-smollm2", "suite-gemma3"),
}

# Figures of several results; made where these are there.
FIGURES = {"Docs/Images/retention.svg": (retention_figure, [name for names in RETENTION.values() for name in names])}


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
    for name, (make, needed) in FIGURES.items():
        if not all((RESULTS / f"{it}.json").exists() for it in needed):
            continue
        path = ROOT / name
        made = make()
        if path.exists() and path.read_text() == made:
            continue
        stale.append(path.name)
        if "--check" not in sys.argv:
            path.write_text(made)
    if stale and "--check" in sys.argv:
        sys.exit(f"tables are not what Docs/Results makes; run Scripts/make-tables.py: {', '.join(stale)}")


if __name__ == "__main__":
    main()
