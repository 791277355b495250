"""A stand-in for the merge: it joins the numbers of the shards, and fails if those of one shard are missing."""

import json
import sys
from pathlib import Path

results = Path(sys.argv[1])
shards = [json.loads(path.read_text()) for path in results.glob("shard_*.json")]
found, count = {shard["shard"] for shard in shards}, max((shard["count"] for shard in shards), default=0)
if not shards or found != set(range(count)):
    sys.exit(f"missing shards: {sorted(set(range(count)) - found)}")
numbers = sorted(number for shard in shards for number in shard["numbers"])
(results / "merged.json").write_text(json.dumps(numbers) + "\n")
print(f"{len(numbers)} numbers of {count} shards")
