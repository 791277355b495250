"""Join the results of the replicas into final_results.json and print the brightest stars.

It exits with 1 and writes nothing if results of a replica are missing, or come from different jobs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def main(argv: list[str] | None = None) -> int:
    options = parser().parse_args(argv)
    parts = [json.loads(path.read_text(encoding="utf-8")) for path in options.results.glob("container_*_results.json")]
    if trouble := problem(parts):
        print(f"{options.results}: {trouble}", file=sys.stderr)
        return 1
    merged = merge(sorted(parts, key=lambda part: int(part["replica"])))
    target = options.results / "final_results.json"
    draft = target.with_suffix(f".{os.getpid()}.part")
    draft.write_text(json.dumps(merged, indent=1) + "\n", encoding="utf-8")
    draft.replace(target)
    show(merged, target, options.top)
    return 0


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument(
        "results",
        nargs="?",
        type=Path,
        default=Path(os.environ.get("RESULTS", HERE / "results")),
        help="the folder with the replicas' results (default: $RESULTS, or results beside this script)",
    )
    options.add_argument("--top", type=int, default=15, help="how many stars to print")
    return options


def problem(parts: list[dict[str, Any]]) -> str | None:
    """Why these results are not those of one complete job; None if they are."""
    if not parts:
        return "no container_*_results.json"
    counts = {part["replicas"] for part in parts}
    if len(counts) > 1:
        return f"results of jobs with {' and '.join(str(count) for count in sorted(counts))} replicas; remove the old"
    missing = sorted(set(range(1, counts.pop() + 1)) - {part["replica"] for part in parts})
    if missing:
        return f"no results of replica {', '.join(str(replica) for replica in missing)}"
    files = Counter(row["file"] for part in parts for row in part["files"])
    twice = [file for file, times in files.items() if times > 1]
    return f"in several replicas' results: {', '.join(twice)}" if twice else None


def merge(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """All files in the replicas' order, each with the replica that had it, and the totals."""
    files = [{**row, "replica": part["replica"]} for part in parts for row in part["files"]]
    measured = [row for row in files if row["status"] == "measured"]
    return {
        "replicas": len(parts),
        "images": len(measured),
        "skipped": len(files) - len(measured),
        "pixels": sum(row["npix"] for row in measured),
        "stars": sum(row["star_count"] for row in measured),
        "files": files,
    }


def show(merged: dict[str, Any], target: Path, top: int) -> None:
    stars = [(star, row) for row in merged["files"] for star in row.get("stars", ())]
    stars.sort(key=lambda pair: (-pair[0]["flux"], pair[1]["file"]))
    print(f"{'IMAGE':<24}  {'REPLICA':>7}  {'X':>7}  {'Y':>7}  {'FLUX':>10}  {'PIXELS':>6}")
    for star, row in stars[:top]:
        place = f"{star['x']:>7.2f}  {star['y']:>7.2f}"
        image = Path(row["file"]).name
        print(f"{image:<24}  {row['replica']:>7}  {place}  {star['flux']:>10.1f}  {star['pixels']:>6}")
    for row in merged["files"]:
        if row["status"] == "skipped":
            print(f"skipped {row['file']}: {row['reason']}")
    shown = f"the {top} brightest of " if len(stars) > top else ""
    print(
        f"{shown}{len(stars)} stars in {merged['images']} images, measured by {merged['replicas']} replicas;"
        f" all in {os.path.relpath(target)}"
    )


if __name__ == "__main__":
    sys.exit(main())
