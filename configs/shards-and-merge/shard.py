"""A stand-in for the work of a shard: it records its request. A file fail/<shard> in the folder of the results
makes that shard fail, once."""

import json
import os
import sys
from pathlib import Path

results = Path(sys.argv[1])
shard, count = int(os.environ["SHARD_ID"]), int(os.environ["SHARD_COUNT"])
print(f"shard {shard} of {count}, attempt {os.environ.get('SKAHACTL_ATTEMPT', '1')}")
failure = results / "fail" / str(shard)
if failure.exists():
    failure.unlink()
    sys.exit(f"shard {shard} fails on request")
specs = [line.split("|") for line in os.environ["VCP_SPECS"].splitlines()]
content = {"shard": shard, "count": count, "specs": specs, "numbers": list(range(shard, 1000, count))}
results.mkdir(parents=True, exist_ok=True)
(results / f"shard_{shard}.json").write_text(json.dumps(content) + "\n")
