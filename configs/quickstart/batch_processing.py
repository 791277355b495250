"""One replica's work: find the stars in its share of the images.

Every replica lists the same images in the same order and takes its own chunk, by REPLICA_ID and REPLICA_COUNT.
It writes container_<REPLICA_ID>_results.json; merge.py joins these. A file that cannot be read is listed there with the
reason, and does not count as a failure. The worker needs only the standard library and skahactl's own helper.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from plain_fits import Unreadable, read_image
from stars import MIN_PIXELS, SIGMAS, measure

from skahactl.helpers.distributed import chunk

HERE = Path(__file__).resolve().parent
SUFFIXES = (".fits", ".fit", ".fts", ".fits.gz", ".fit.gz", ".fits.fz")


def main(argv: list[str] | None = None) -> int:
    options = parser().parse_args(argv)
    replica, replicas = int(os.environ.get("REPLICA_ID", "1")), int(os.environ.get("REPLICA_COUNT", "1"))
    files = find_images(options.images)
    if not files:
        print(f"no FITS files in {options.images}", file=sys.stderr)
        return 2
    mine = list(chunk(files, replica, replicas))
    print(f"replica {replica} of {replicas}: {len(mine)} of {len(files)} images" + ("" if mine else ", nothing to do"))
    results = [process(path, options.sigmas, options.min_pixels) for path in mine]
    write(options.output, replica, replicas, results)
    return 0


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument(
        "images",
        nargs="?",
        default=os.environ.get("IMAGES", str(HERE / "images")),
        help="a folder, searched below, or a glob pattern (default: $IMAGES, or the folder images beside this script)",
    )
    options.add_argument(
        "--output",
        type=Path,
        default=Path(os.environ.get("RESULTS", HERE / "results")),
        help="the folder for the results, made if missing (default: $RESULTS, or results beside this script)",
    )
    options.add_argument("--sigmas", type=float, default=SIGMAS, help="threshold above the background in sigmas")
    options.add_argument("--min-pixels", type=int, default=MIN_PIXELS, help="smallest star")
    return options


def find_images(where: str) -> list[Path]:
    """Every FITS file, sorted by the bytes of its path: all replicas must see one order."""
    found = walk(where) if os.path.isdir(where) else glob.iglob(where, recursive=True)
    return [Path(path) for path in sorted(found, key=os.fsencode) if os.path.isfile(path)]


def walk(folder: str) -> Iterator[str]:
    for root, _, names in os.walk(folder):
        yield from (os.path.join(root, name) for name in names if name.lower().endswith(SUFFIXES))


def process(path: Path, sigmas: float, min_pixels: int) -> dict[str, object]:
    """Measure one file, or return why it cannot be measured."""
    try:
        result = {"file": str(path), "status": "measured", **measure(read_image(path), sigmas, min_pixels)}
        print(f"{path.name}: {result['star_count']} stars", flush=True)
    except Unreadable as reason:
        result = {"file": str(path), "status": "skipped", "reason": str(reason)}
        print(f"{path.name}: skipped, {reason}", flush=True)
    return result


def write(folder: Path, replica: int, replicas: int, results: list[dict[str, object]]) -> None:
    """Write the results under another name and rename them, so that a killed replica leaves no partial file."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"container_{replica}_results.json"
    draft = target.with_suffix(f".{os.getpid()}.part")
    content = {"replica": replica, "replicas": replicas, "files": results}
    draft.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    draft.replace(target)
    print(f"wrote {target}")


if __name__ == "__main__":
    sys.exit(main())
