"""Make the star fields of the quickstart: always the same bytes, from a seed, with only the standard library.

    python3 make_images.py [FOLDER]

Values are rounded to 1/64 before they are stored, so that the last bit of exp() on a machine has no effect.
"""

from __future__ import annotations

import math
import random
import sys
from array import array
from dataclasses import dataclass
from pathlib import Path

SEED = 20250117
BLOCK = 2880
TYPES = {8: "B", 16: "h", 32: "i", -32: "f", -64: "d"}
MARGIN = 8  # pixels between a star and the edge
SPACING = 14.0  # pixels between two stars


@dataclass(frozen=True, slots=True)
class Field:
    """One image to make. With ``flaw``, a few pixels are undefined: BLANK (integers) or NaN."""

    name: str
    width: int
    height: int
    bitpix: int
    stars: int
    background: float = 100.0
    noise: float = 4.0
    brightest: float = 900.0
    scale: float = 1.0
    zero: float = 0.0
    flaw: bool = False
    extension: bool = False  # an empty primary HDU, and the image in an IMAGE extension


FIELDS = (
    Field("field-01.fits", 128, 128, 16, 6),
    Field("field-02.fits", 96, 96, -32, 4),
    Field("field-03.fits", 128, 128, 8, 5, background=30.0, noise=2.0, brightest=200.0),
    Field("field-04.fits", 96, 96, 32, 7, background=70000.0, noise=9.0, brightest=1400.0),
    Field("field-05.fits", 96, 80, -64, 3),
    Field("field-06.fits", 128, 128, 16, 8, background=41000.0, noise=12.0, brightest=1800.0, zero=32768.0),
    Field("field-07.fits", 64, 64, 16, 2),
    Field("field-08.fits", 96, 96, -32, 5, flaw=True),
    Field("field-09.fits", 128, 96, 16, 6, background=12.0, noise=0.5, brightest=300.0, scale=0.015625, zero=256.0),
    Field("field-10.fits", 80, 128, 16, 4, flaw=True),
    Field("field-11.fits", 64, 128, 32, 0),
    Field("field-12.fits", 96, 96, 16, 5, extension=True),
)


def main(argv: list[str]) -> int:
    folder = Path(argv[1]) if len(argv) > 1 else Path(__file__).resolve().parent / "images"
    folder.mkdir(parents=True, exist_ok=True)
    for field in FIELDS:
        (folder / field.name).write_bytes(fits(field))
    print(f"{len(FIELDS)} images in {folder}")
    return 0


def fits(field: Field) -> bytes:
    """The whole file."""
    data = stored(field, light(field))
    head = header(field)
    primary = header_block([card("SIMPLE", "T"), card("BITPIX", "8"), card("NAXIS", "0"), card("EXTEND", "T")])
    return (primary if field.extension else b"") + head + data.ljust(-(-len(data) // BLOCK) * BLOCK, b"\0")


def light(field: Field) -> list[float]:
    """Background, noise and stars, row by row."""
    chance = random.Random(f"{SEED} {field.name}")
    sky = [chance.gauss(field.background, field.noise) for _ in range(field.width * field.height)]
    for order, (x, y) in enumerate(places(field, chance)):
        add_star(sky, field, x, y, peak=field.brightest / 1.35**order, width=chance.uniform(1.2, 1.8))
    return [round(value * 64) / 64 for value in sky]


def places(field: Field, chance: random.Random) -> list[tuple[float, float]]:
    """Where the stars are: away from the edges and from each other, so that each is seen as one."""
    chosen: list[tuple[float, float]] = []
    while len(chosen) < field.stars:
        x = chance.uniform(MARGIN, field.width - 1 - MARGIN)
        y = chance.uniform(MARGIN, field.height - 1 - MARGIN)
        if all(math.hypot(x - a, y - b) >= SPACING for a, b in chosen):
            chosen.append((x, y))
    return chosen


def add_star(sky: list[float], field: Field, x: float, y: float, peak: float, width: float) -> None:
    for row in range(int(y) - MARGIN + 1, int(y) + MARGIN):
        for column in range(int(x) - MARGIN + 1, int(x) + MARGIN):
            distance = (column - x) ** 2 + (row - y) ** 2
            sky[row * field.width + column] += peak * math.exp(-distance / (2 * width**2))


def stored(field: Field, values: list[float]) -> bytes:
    """The values as stored in the file: big-endian, scaled and rounded for integers."""
    if field.bitpix > 0:
        lowest, highest = (
            (0, 255) if field.bitpix == 8 else (-(2 ** (field.bitpix - 1)) + 1, 2 ** (field.bitpix - 1) - 1)
        )
        whole = [round((value - field.zero) / field.scale) for value in values]
        values = [min(max(value, lowest), highest) for value in whole]
    if field.flaw:
        for place in range(40, field.width * field.height, 997):
            values[place] = -(2 ** (field.bitpix - 1)) if field.bitpix > 0 else math.nan
    numbers = array(TYPES[field.bitpix], values)
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers.tobytes()


def header(field: Field) -> bytes:
    first = card("XTENSION", "'IMAGE   '") if field.extension else card("SIMPLE", "T", "conforms to the FITS standard")
    cards = [first, card("BITPIX", str(field.bitpix)), card("NAXIS", "2")]
    cards += [card("NAXIS1", str(field.width)), card("NAXIS2", str(field.height))]
    if field.extension:
        cards += [card("PCOUNT", "0"), card("GCOUNT", "1")]
    if (field.scale, field.zero) != (1.0, 0.0):
        cards += [card("BSCALE", repr(field.scale)), card("BZERO", repr(field.zero))]
    if field.flaw and field.bitpix > 0:
        cards += [card("BLANK", str(-(2 ** (field.bitpix - 1))), "an undefined pixel")]
    cards += [card("OBJECT", f"'{field.name.removesuffix('.fits')}'"), card("BUNIT", "'adu     '")]
    return header_block([*cards, card("NSTARS", str(field.stars), "stars that were put in")])


def card(keyword: str, value: str, comment: str = "") -> str:
    text = f"{keyword:<8}= {value:<20}" if value.startswith("'") else f"{keyword:<8}= {value:>20}"
    return f"{text} / {comment}" if comment else text


def header_block(cards: list[str]) -> bytes:
    text = "".join(f"{card:<80}" for card in [*cards, "END"])
    return text.ljust(-(-len(text) // BLOCK) * BLOCK).encode("ascii")


if __name__ == "__main__":
    sys.exit(main(sys.argv))
