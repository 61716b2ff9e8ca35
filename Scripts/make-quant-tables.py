#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes what comes from the reference description of quantised blocks, the `gguf` package (MIT, ggml authors):

  Sources/CHiPSIMD/grids.h                    the grids of the IQ formats
  Tests/HiPCPUTests/Fixtures/quants.json      random blocks of every format, and the numbers they stand for

    pip install gguf==0.19.0 && Scripts/make-quant-tables.py
"""
import base64
import json
import pathlib

import gguf
import numpy as np
from gguf import quants

root = pathlib.Path(__file__).resolve().parent.parent


def grid(cls, values):
    """Points of a grid as whole numbers, the first element in the lowest byte."""
    cls.init_grid()
    points = np.asarray(cls.grid).reshape(cls.grid_shape)
    for point in points:
        elements = [int(values(x)) for x in point]
        yield sum(x << (8 * i) for i, x in enumerate(elements))


lines = [
    "// SPDX-License-Identifier: Apache-2.0 AND MIT",
    "// Made by Scripts/make-quant-tables.py from the tables of the gguf package (MIT, The ggml authors).",
    "// A GPU kernel, which has the macro WEIGHT, takes only what its format needs.",
]
for name, cls, values, width in [
    ("iq2_xxs", quants.IQ2_XXS, lambda x: x, 8),
    ("iq2_xs", quants.IQ2_XS, lambda x: x, 8),
    ("iq2_s", quants.IQ2_S, lambda x: x, 8),
    ("iq3_xxs", quants.IQ3_XXS, lambda x: x, 4),
    ("iq3_s", quants.IQ3_S, lambda x: x, 4),
    # Counted from -1.
    ("iq1", quants.IQ1_S, lambda x: x + 1, 8),
]:
    points = list(grid(cls, values))
    formats = ["IQ1_S", "IQ1_M"] if name == "iq1" else [name.upper()]
    lines += ["", "#if !defined(WEIGHT) || " + " || ".join(f"WEIGHT == WEIGHT_{f}" for f in formats)]
    lines.append(f"static const uint{8 * width}_t grid_{name}[{len(points)}] = {{")
    per_line = 12 if width == 8 else 20
    suffix = "ull" if width == 8 else "u"
    for first in range(0, len(points), per_line):
        lines.append("    " + ", ".join(f"{p:#x}{suffix}" for p in points[first : first + per_line]) + ",")
    lines += ["};", "#endif"]
lines += ["", "#ifndef WEIGHT", "/// The sign bits of eight elements from seven: their number is even."]
lines.append("static const uint8_t even_signs[128] = {")
signs = [i | (i.bit_count() & 1) << 7 for i in range(128)]
for first in range(0, 128, 24):
    lines.append("    " + ", ".join(str(s) for s in signs[first : first + 24]) + ",")
lines += ["};", "#endif"]
(root / "Sources/CHiPSIMD/grids.h").write_text("\n".join(lines) + "\n")

# Bytes of scales, which must not be infinite: half precision with small exponents.
halves = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ2_XXS": [0], "IQ2_XS": [0], "IQ3_XXS": [0], "IQ1_S": [0],
    "IQ4_NL": [0], "IQ3_S": [0], "IQ2_S": [0], "IQ4_XS": [0], "TQ1_0": [52], "TQ2_0": [64], "IQ1_M": [], "MXFP4": [],
}
random = np.random.default_rng(7)
golden = {}
for name, places in halves.items():
    kind = gguf.GGMLQuantizationType[name]
    width, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = random.integers(0, 256, (512 // width, size), dtype=np.uint8)
    for place in places:
        scales = random.uniform(0.001, 0.1, len(blocks)).astype(np.float16)
        blocks[:, place : place + 2] = scales.view(np.uint8).reshape(-1, 2)
    if name == "MXFP4":
        blocks[:, 0] = random.integers(0, 130, len(blocks))
    if name == "IQ1_M":
        # The scale is put together of the high halves of four words.
        for i, nibble in enumerate([0x30, 0x70, 0x50, 0x20]):
            blocks[:, 49 + 2 * i] = blocks[:, 49 + 2 * i] & 0x0F | nibble
    values = quants.dequantize(blocks.reshape(-1), kind).astype("<f4").reshape(-1)
    assert np.isfinite(values).all() and len(values) == 512
    golden[name] = {
        "blocks": base64.b64encode(blocks.tobytes()).decode(),
        "values": base64.b64encode(values.tobytes()).decode(),
    }
folder = root / "Tests/HiPCPUTests/Fixtures"
folder.mkdir(exist_ok=True)
(folder / "quants.json").write_text(json.dumps(golden, indent=1) + "\n")
