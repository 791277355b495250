"""The quickstart's images, worker and merge, against real FITS files and an independent implementation."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import astropy
import numpy as np
import pytest
from astropy.io import fits

pytestmark = pytest.mark.once

QUICKSTART = Path(__file__).parents[2] / "configs" / "quickstart"
IMAGES = sorted((QUICKSTART / "images").glob("*.fits"))
ASTROPY = Path(astropy.__file__).parent


def run_worker(images: Path | str, output: Path, replica: int, replicas: int, *more: str) -> subprocess.Popen[str]:
    script = [sys.executable, str(QUICKSTART / "batch_processing.py"), str(images), "--output", str(output), *more]
    env = {**os.environ, "REPLICA_ID": str(replica), "REPLICA_COUNT": str(replicas)}
    return subprocess.Popen(script, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run_all(images: Path | str, output: Path, replicas: int, *more: str) -> list[str]:
    """What each replica said; all must end with 0 and complain of nothing."""
    said = []
    for first in range(1, replicas + 1, 2):  # two at a time: one a core
        pair = [run_worker(images, output, n, replicas, *more) for n in range(first, min(first + 2, replicas + 1))]
        for process in pair:
            out, err = process.communicate(timeout=120)
            assert (process.returncode, err) == (0, "")
            said.append(out)
    return said


def merge(output: Path, *more: str) -> subprocess.CompletedProcess[str]:
    script = [sys.executable, str(QUICKSTART / "merge.py"), str(output), *more]
    return subprocess.run(script, capture_output=True, text=True, timeout=120, check=False)


def results(output: Path, replica: int) -> list[dict[str, Any]]:
    content = json.loads((output / f"container_{replica}_results.json").read_text())
    assert content["replica"] == replica
    return list(content["files"])


# --- an independent implementation: astropy reads, numpy measures, labels spread until they are still ---


def plain_image(path: Path) -> tuple[int, np.ndarray[Any, np.dtype[Any]]] | None:
    """Number and data of the first HDU that astropy reads as a plain 2-D image; None without one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # astropy has much to say about these files
        try:
            with fits.open(path, memmap=False) as hdus:
                for number, hdu in enumerate(hdus):
                    if type(hdu) in (fits.PrimaryHDU, fits.ImageHDU) and hdu.header["NAXIS"] == 2 and hdu.size:
                        return number, np.array(hdu.data, dtype=np.float64)
        except OSError:
            return None
    return None


def labelled(mask: np.ndarray[Any, np.dtype[np.bool_]]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """8-connected groups: every bright pixel takes the largest label near it, until none changes."""
    labels = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        padded = np.pad(labels, 1)
        near = [padded[y : y + mask.shape[0], x : x + mask.shape[1]] for y in range(3) for x in range(3)]
        spread = np.where(mask, np.max(near, axis=0), 0)
        if np.array_equal(spread, labels):
            return labels
        labels = spread


def expected(data: np.ndarray[Any, np.dtype[Any]], sigmas: float = 5, min_pixels: int = 3) -> dict[str, Any]:
    values = data[np.isfinite(data)]
    background = np.median(values)
    sigma = 1.4826 * np.median(np.abs(values - background)) or values.std()
    threshold = background + sigmas * sigma
    labels = labelled(np.nan_to_num(data, nan=-np.inf, posinf=-np.inf) > threshold)
    groups = [labels == label for label in np.unique(labels[labels > 0])]
    rows, columns = np.indices(data.shape)
    light = [(data - background) * group for group in groups if group.sum() >= min_pixels]
    light = [np.nan_to_num(weights) for weights in light]
    stars = [((w * columns).sum() / w.sum() + 1, (w * rows).sum() / w.sum() + 1, w.sum()) for w in light]
    return {
        "npix": values.size,
        "min": values.min(),
        "max": values.max(),
        "mean": values.mean(),
        "std": values.std(),
        "stars": sorted(stars, key=lambda star: -star[2]),
    }


def assert_agrees(row: dict[str, Any], hdu: int, data: np.ndarray[Any, np.dtype[Any]], **settings: Any) -> None:
    want = expected(data, **settings)
    name = row["file"]
    assert (row["hdu"], row["height"], row["width"]) == (hdu, *data.shape), name
    assert row["npix"] == want["npix"], name
    for key in ("min", "max", "mean", "std"):
        assert row[key] == pytest.approx(want[key], rel=1e-6, abs=1e-9), f"{name} {key}"
    assert row["star_count"] == len(row["stars"]) == len(want["stars"]), name
    found = [(star["x"], star["y"], star["flux"]) for star in row["stars"]]
    assert sorted(found) == [pytest.approx(star, rel=1e-5, abs=1e-5) for star in sorted(want["stars"])], name


# --- real files ---


def test_every_fits_file_that_astropy_carries_is_taken_once_and_measured_as_astropy_and_numpy_do(
    tmp_path: Path,
) -> None:
    files = {str(path) for path in ASTROPY.rglob("*") if path.name.endswith((".fits", ".fit", ".fits.gz", ".fits.fz"))}
    assert len(files) >= 45

    run_all(ASTROPY, tmp_path, 8)

    shares = [results(tmp_path, replica) for replica in range(1, 9)]
    assert Counter(row["file"] for share in shares for row in share) == Counter(files)
    assert sorted(len(share) for share in shares) == sorted(len(files) // 8 + (n < len(files) % 8) for n in range(8))
    measured = 0
    for row in (row for share in shares for row in share):
        plain = plain_image(Path(row["file"]))
        if plain is None or not np.isfinite(plain[1]).any():
            assert row["status"] == "skipped", row["file"]
            assert row["reason"], row["file"]
        else:
            assert row["status"] == "measured", (row["file"], row.get("reason"))
            assert_agrees(row, *plain)
            measured += 1
    assert measured >= 15
    merged = merge(tmp_path)
    assert merged.returncode == 0, merged.stderr
    total = json.loads((tmp_path / "final_results.json").read_text())
    assert (total["images"], total["skipped"]) == (measured, len(files) - measured)


@pytest.mark.parametrize(("sigmas", "min_pixels"), [(1.0, 1), (3.0, 2), (8.0, 5)])
def test_star_counts_agree_at_other_thresholds(tmp_path: Path, sigmas: float, min_pixels: int) -> None:
    run_all(QUICKSTART / "images", tmp_path, 1, "--sigmas", str(sigmas), "--min-pixels", str(min_pixels))
    for row in results(tmp_path, 1):
        plain = plain_image(Path(row["file"]))
        assert plain is not None
        assert_agrees(row, *plain, sigmas=sigmas, min_pixels=min_pixels)


# --- odd files, made here ---

HEAD = [f"{'SIMPLE':<8}= {'T':>20}", f"{'BITPIX':<8}= {16:>20}", f"{'NAXIS':<8}= {2:>20}"]


def header(*cards: str, end: bool = True) -> bytes:
    text = "".join(f"{card:<80}" for card in [*cards, *(["END"] if end else [])])
    return text.ljust(-(-len(text) // 2880) * 2880).encode()


def image(width: int, height: int, data: bytes) -> bytes:
    return header(*HEAD, f"{'NAXIS1':<8}= {width:>20}", f"{'NAXIS2':<8}= {height:>20}") + data


GOOD = image(4, 4, bytes(range(32)).ljust(2880, b"\0"))
ODD = {
    "empty.fits": (b"", "empty file"),
    "text.fits": (b"no image here", "no SIMPLE card"),
    "short.fits": (GOOD[:100], "without END"),
    "endless.fits": (header(*HEAD, end=False), "without END"),
    "cut.fits": (image(100, 100, b"\1" * 500), "truncated: 500 of 20000 bytes"),
    "huge.fits": (image(10**9, 10**9, b""), "truncated: 0 of"),
    "vast.fits": (header(*HEAD[:2], f"{'NAXIS':<8}= {1:>20}", f"{'NAXIS1':<8}= {10**19:>20}"), "promises"),
    "negative.fits": (image(-3, 4, b""), "NAXIS1 is -3"),
    "words.fits": (header(HEAD[0], f"{'BITPIX':<8}= {'many':>20}", HEAD[2]), "BITPIX|NAXIS1"),
    "bitpix.fits": (GOOD.replace(b"        16", b"        17", 1), "BITPIX is 17"),
    "bare.fits": (header(HEAD[0]), "without NAXIS"),
    "axes.fits": (header(*HEAD[:2], f"{'NAXIS':<8}= {10**6:>20}"), "NAXIS is 1000000"),
    "scale.fits": (
        header(*HEAD, "NAXIS1  = 4", "NAXIS2  = 4", "BSCALE  = 'one'") + GOOD[2880:],
        "BSCALE is not a number",
    ),
    "cut.fits.gz": (gzip.compress(GOOD)[:-20], "truncated gzip"),
    "damaged.fits.gz": (gzip.compress(GOOD)[:12] + b"\xff" * 40, "gzip"),
    "packed-text.fits.gz": (gzip.compress(b"no image"), "no SIMPLE card"),
    "nan.fits": (GOOD.replace(b"        16", b"       -64", 1).replace(GOOD[2880:], b"\xff" * 2880), "defined pixel"),
    "wild.fits": (
        GOOD.replace(b"        16", b"       -64", 1)[:2880] + b"\x7f\xef" + b"\xff" * 14 + bytes(2880),
        "too large",
    ),
}


def test_a_file_that_cannot_be_read_is_reported_with_the_reason_and_the_others_are_measured(tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    for name, (content, _) in ODD.items():
        (folder / name).write_bytes(content)
    (folder / "good.fits").write_bytes(GOOD)
    (folder / "good.fits.gz").write_bytes(gzip.compress(GOOD))
    (folder / "dangling.fits").symlink_to(folder / "nothing")

    (said,) = run_all(folder, tmp_path / "out", 1)

    rows = {Path(row["file"]).name: row for row in results(tmp_path / "out", 1)}
    assert set(rows) == {*ODD, "good.fits", "good.fits.gz"}
    for name, (_, reason) in ODD.items():
        assert rows[name]["status"] == "skipped", name
        assert any(part in rows[name]["reason"] for part in reason.split("|")), (name, rows[name]["reason"])
        assert f"{name}: skipped, " in said
    for name in ("good.fits", "good.fits.gz"):
        assert (rows[name]["npix"], rows[name]["min"], rows[name]["max"]) == (16, 1, 30 * 256 + 31)


# --- the quickstart's own images ---


def test_the_images_are_a_dozen_small_valid_ones_of_every_kind() -> None:
    assert len(IMAGES) == 12
    assert sum(path.stat().st_size for path in IMAGES) < 600_000
    kinds = set()
    for path in IMAGES:
        assert path.stat().st_size % 2880 == 0
        with fits.open(path) as hdus:
            hdus.verify("exception")
            image = next(hdu for hdu in hdus if hdu.header["NAXIS"] == 2)
            kinds.add(image.header["BITPIX"])
            assert 64 <= min(image.shape) <= max(image.shape) <= 128
    assert kinds == {8, 16, 32, -32, -64}


def test_the_images_come_out_of_their_script_byte_for_byte(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(QUICKSTART / "make_images.py"), str(tmp_path)], check=True, capture_output=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {p.name: p.read_bytes() for p in IMAGES}


def test_the_worker_finds_each_star_that_was_put_in(tmp_path: Path) -> None:
    run_all(QUICKSTART / "images", tmp_path, 4)
    merged = merge(tmp_path, "--top", "3")
    assert (merged.returncode, merged.stderr) == (0, "")
    total = json.loads((tmp_path / "final_results.json").read_text())
    put_in = {}
    for path in IMAGES:
        with fits.open(path) as hdus:
            put_in[str(path)] = hdus[-1].header["NSTARS"]
    assert {row["file"]: row["star_count"] for row in total["files"]} == put_in
    assert [row["replica"] for row in total["files"]] == [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3
    lines = merged.stdout.splitlines()
    assert lines[0].split() == ["IMAGE", "REPLICA", "X", "Y", "FLUX", "PIXELS"]
    assert len(lines) == 5
    assert f"3 brightest of {sum(put_in.values())} stars in 12 images, measured by 4 replicas" in lines[4]


# --- shares and the merge ---


def test_a_replica_without_images_says_so_and_ends_well(tmp_path: Path) -> None:
    pattern = str(QUICKSTART / "images" / "field-0[12].fits")
    said = run_all(pattern, tmp_path, 3)
    assert said[2].splitlines()[0] == "replica 3 of 3: 0 of 2 images, nothing to do"
    assert results(tmp_path, 3) == []
    assert merge(tmp_path).returncode == 0


def test_no_image_at_all_is_an_error(tmp_path: Path) -> None:
    process = run_worker(tmp_path, tmp_path / "out", 1, 2)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (2, "", f"no FITS files in {tmp_path}\n")
    assert not (tmp_path / "out").exists()


def test_the_merge_refuses_what_is_not_one_whole_job(tmp_path: Path) -> None:
    assert "no container_*_results.json" in merge(tmp_path).stderr
    run_all(QUICKSTART / "images" / "field-07.fits", tmp_path, 3)
    second = tmp_path / "container_2_results.json"
    kept = second.read_text()
    second.unlink()
    assert merge(tmp_path).stderr == f"{tmp_path}: no results of replica 2\n"
    second.write_text(kept.replace('"replicas": 3', '"replicas": 4'))
    assert "results of jobs with 3 and 4 replicas" in merge(tmp_path).stderr
    second.write_text((tmp_path / "container_1_results.json").read_text().replace('"replica": 1', '"replica": 2'))
    refused = merge(tmp_path)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "in several replicas' results" in refused.stderr
    assert not (tmp_path / "final_results.json").exists()
