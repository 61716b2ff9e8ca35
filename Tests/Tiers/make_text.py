#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A text of novels with facts at evenly spread depths, and the questions about them.

  make_text.py --tokens 3000000 --facts 10 --out long.txt BOOK...

Writes long.txt, and long.json with what is to be found: the thing, its number, its depth.
Tokens are counted as BYTES_PER_TOKEN bytes each (the demo model's on English novels); give more
books where they are too short.
"""
import argparse
import json
import random

THINGS = ["amber-fiddle", "bold-anvil", "calm-harp", "deep-lantern", "eager-canoe", "frosty-glove",
          "gallant-crane", "handy-basket", "ivory-gate", "keen-badge", "lofty-cedar", "lucid-drum",
          "fluffy-goose", "grand-circle", "honest-bridge", "bitter-almond", "cloudy-castle",
          "daring-hawk", "gleaming-coin", "hasty-heron"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--facts", type=int, default=10)
    parser.add_argument("--bytes-per-token", type=float, default=4.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", required=True)
    parser.add_argument("books", nargs="+")
    options = parser.parse_args()
    random.seed(options.seed)
    text = "".join(open(path, encoding="utf-8").read() for path in options.books)
    size = int(options.tokens * options.bytes_per_token)
    if len(text.encode()) < size:
        raise SystemExit(f"the books have {len(text.encode())} bytes, {size} are needed")
    text = text.encode()[:size].decode(errors="ignore")
    facts, parts, last = [], [], 0
    for index, thing in enumerate(random.sample(THINGS, options.facts)):
        depth = (index + 0.5) / options.facts
        place = text.find(". ", int(len(text) * depth)) + 2
        number = random.randrange(1_000_000, 10_000_000)
        parts += [text[last:place], f"One of the special magic numbers for {thing} is: {number}. "]
        last = place
        facts.append({"thing": thing, "number": str(number), "depth": depth})
    parts.append(text[last:])
    with open(options.out, "w", encoding="utf-8") as file:
        file.write("".join(parts))
    with open(options.out.rsplit(".", 1)[0] + ".json", "w", encoding="utf-8") as file:
        json.dump(facts, file, indent=1)


if __name__ == "__main__":
    main()
