"""A stand-in for a sampler: a random walk with a seed of its own."""

import argparse
import json
import os
import random
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("--target", required=True)
parser.add_argument("--chain", type=int, required=True)
parser.add_argument("--out", type=Path, required=True)
options = parser.parse_args()
if (options.target, str(options.chain)) != (os.environ["TARGET"], os.environ["CHAIN"]):
    parser.error("the arguments and the environment tell of different cells")
chance = random.Random(int(os.environ["SEED"]))
walk = [0.0]
for _ in range(1000):
    walk.append(walk[-1] + chance.gauss(0, 1))
options.out.mkdir(parents=True, exist_ok=True)
(options.out / f"{options.target}_{options.chain}.json").write_text(json.dumps(walk) + "\n")
print(f"{options.target}, chain {options.chain}: {len(walk)} steps")
