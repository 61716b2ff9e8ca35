#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Our attention beside PyTorch's, on the same GPU in the same minutes: times, floors, and whether outputs agree.

  compare.py [--binary infinitehip] [--out FOLDER]     needs PyTorch and a GPU; writes FOLDER/gpu.json and prints a table

Times are medians of replays of CUDA graphs between events. A floor is the larger of bytes over the bandwidth that a
copy reaches here, and operations over the rate that a large product of bfloat16 matrices reaches here.
"""
import argparse, json, math, pathlib, statistics, subprocess, sys, tempfile
import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

HEADS, KV_HEADS, SIZE = 32, 8, 128
GROUP = HEADS // KV_HEADS
BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "cuDNN": SDPBackend.CUDNN_ATTENTION}


def median_seconds(call, replays=10):
    """The median time of a call, replayed as a graph."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(2):
            call()
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        call()
    times = []
    with torch.cuda.stream(stream):
        for index in range(-2, replays):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            graph.replay()
            end.record()
            end.synchronize()
            if index >= 0:
                times.append(start.elapsed_time(end) / 1e3)
    return statistics.median(times)


def normal(*shape):
    return torch.randn(*shape, dtype=torch.bfloat16, device="cuda")


def ceilings():
    """Bytes a second that a sum reads, operations a second of a product of matrices."""
    data = torch.empty(2 << 30, dtype=torch.int8, device="cuda").view(torch.int32)
    bandwidth = data.numel() * 4 / median_seconds(lambda: torch.sum(data, dtype=torch.int32))
    a, b = normal(8192, 8192), normal(8192, 8192)
    return bandwidth, 2 * 8192**3 / median_seconds(lambda: a @ b)


def attend(q, k, v, backend, causal=False):
    with sdpa_kernel(backend):
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=q.shape[1] != k.shape[1])


def dense_times(queries, keys):
    """PyTorch's dense attention of such a shape, by backend, in seconds.

    Of one query the heads of a group go as queries, since the kernels read the keys once for each head otherwise. Where
    queries are fewer than keys every query sees all keys, a little more than it would have to.
    """
    k, v = normal(1, KV_HEADS, keys, SIZE), normal(1, KV_HEADS, keys, SIZE)
    q = normal(1, KV_HEADS, GROUP, SIZE) if queries == 1 else normal(1, HEADS, queries, SIZE)
    times = {}
    for name, backend in BACKENDS.items():
        try:
            times[name] = median_seconds(lambda: attend(q, k, v, backend, queries == keys), 5)
        except Exception as error:
            print(f"{name}, {queries} queries, {keys} keys: {str(error)[:200]}", file=sys.stderr)
    return times


def run(binary, *arguments):
    result = subprocess.run([binary, *arguments], capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"{binary} {' '.join(arguments)}: {result.stderr}")
    return result.stdout


# What a difference may be at most: outputs are sums of many values near 1, rounded to bfloat16 here and there.
LIMIT = 0.01


def agreement(binary, queries, keys=32768):
    """Largest differences of our outputs: dense from PyTorch's, selected from float64 over the same blocks."""
    q, k, v = (torch.randn(n, h, SIZE).bfloat16() for n, h in ((queries, HEADS), (keys, KV_HEADS), (keys, KV_HEADS)))
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for name, array in (("q", q), ("k", k), ("v", v)):
            np.save(folder / f"{name}.npy", array.float().numpy())
        files = [part for name in "qkv" for part in (f"--{name}", str(folder / f"{name}.npy"))]

        def ours(policy, *more):
            out = folder / "out.npy"
            run(binary, "attention", "--device", "cuda", "--kv-type", "bf16", "--attention", policy, *files, "--out", str(out), *more)
            return torch.from_numpy(np.load(out))

        mask = torch.arange(keys)[None] <= torch.arange(keys - queries, keys)[:, None]
        with sdpa_kernel(SDPBackend.MATH):
            dense = F.scaled_dot_product_attention(
                *(x.transpose(0, 1)[None].float().cuda() for x in (q, k, v)), attn_mask=mask.cuda(), enable_gqa=True)
        found[f"{queries} queries, dense, from PyTorch in float32"] = (ours("dense") - dense[0].transpose(0, 1).cpu()).abs().max().item()
        lists = folder / "blocks.json"
        output = ours("infinitehip-gpu", "--selection", str(lists))
        selection = json.loads(lists.read_text())
        worst = 0.0
        for row in range(0, queries, 97):
            position = keys - queries + row
            for head in range(0, HEADS, 5):
                starts = torch.tensor(selection["blocks"][head][row // 64])
                seen = torch.zeros(keys, dtype=torch.bool)
                seen[(starts[:, None] + torch.arange(selection["blockSize"])).flatten()] = True
                seen[:256] = True
                seen[max(0, position - 1023) :] = True
                seen[position + 1 :] = False
                scores = k[seen, head // GROUP].double() @ q[row, head].double() / math.sqrt(SIZE)
                expected = torch.softmax(scores, 0) @ v[seen, head // GROUP].double()
                worst = max(worst, (output[row, head].double() - expected).abs().max().item())
        found[f"{queries} queries, selected, from float64 over the same keys"] = worst
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="infinitehip")
    parser.add_argument("--out", default=".")
    options = parser.parse_args()
    bandwidth, rate = ceilings()
    report = json.loads(run(options.binary, "bench", "attention", "--device", "cuda", "--kv-type", "bf16", "--json"))
    report |= {"card": torch.cuda.get_device_name(), "torch": torch.__version__, "bytesPerSecond": bandwidth, "operationsPerSecond": rate}
    known = {}
    for row in report["results"]:
        shape = (row["queries"], row["keys"][0])
        row["floor"] = max(row["megabytes"] * 1e6 / bandwidth, row["gigaflops"] * 1e9 / rate) * 1e6
        if len(row["keys"]) > 1:
            continue
        if shape not in known:
            known[shape] = dense_times(*shape)
        row["dense"] = {name: seconds * 1e6 for name, seconds in known[shape].items()}
    report["agreement"] = agreement(options.binary, 2048) | agreement(options.binary, 1)
    path = pathlib.Path(options.out) / "gpu.json"
    path.write_text(json.dumps(report, indent=1) + "\n")
    print(f"{report['card']}: reads {bandwidth / 1e12:.2f} TB/s, {rate / 1e12:.0f} TFLOP/s in bfloat16\n")
    print(f"{'':58}{'ours':>9}{'floor':>9}{'flash':>9}{'cuDNN':>9}  us")
    for row in report["results"]:
        name = f"{row['name']}, {row['policy']}"
        keys = sum(row["keys"])
        dense = row.get("dense", {})
        cells = [row["microseconds"], row["floor"], dense.get("flash"), dense.get("cuDNN")]
        text = "".join(f"{cell:9.1f}" if cell else f"{'':9}" for cell in cells)
        print(f"{name[:40]:40}{row['queries']:8}{keys:10}{text}")
    for name, worst in report["agreement"].items():
        print(f"{name}: {worst:.4f} at most")
    if max(report["agreement"].values()) > LIMIT:
        sys.exit(f"outputs differ by more than {LIMIT}")


if __name__ == "__main__":
    main()
