"""Read the first plain 2-D image of a FITS file with only the standard library.

Plain: the primary HDU or an IMAGE extension, NAXIS = 2, both axes at least 1, not compressed by tiles. The first
one in the file counts. BSCALE, BZERO and BLANK are applied; the file may be gzipped. Layout: FITS standard 4.0.
"""

from __future__ import annotations

import gzip
import math
import sys
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

BLOCK = 2880
CARD = 80
PIECE = 1 << 20
GZIP_MAGIC = b"\x1f\x8b"
#: BITPIX -> the type code of ``array``. None of these differs between the machines that Python runs on.
TYPES = {8: "B", 16: "h", 32: "i", 64: "q", -32: "f", -64: "d"}

Header = dict[str, str]
Source = IO[bytes] | gzip.GzipFile


class Unreadable(Exception):
    """The file has no plain 2-D image that can be read; the text says why."""


@dataclass(frozen=True, slots=True)
class Image:
    """Pixels row by row, the first row first; NaN where undefined. ``hdu`` counts from 0."""

    hdu: int
    width: int
    height: int
    pixels: list[float]


def read_image(path: Path) -> Image:
    """The first plain 2-D image in ``path``; Unreadable with the reason if there is none, whatever the file holds."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == GZIP_MAGIC
            raw.seek(0)
            if not packed:
                return first_image(raw)
            with gzip.open(raw) as unpacked:
                return first_image(unpacked)
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from error
    except EOFError as error:
        raise Unreadable("truncated gzip stream") from error
    except zlib.error as error:
        raise Unreadable("damaged gzip stream") from error
    except MemoryError as error:
        raise Unreadable("too large for this replica's memory") from error


def first_image(file: Source) -> Image:
    seen = []
    for number, header in headers(file):
        what = description(header)
        if what == "image":
            return Image(number, natural(header, "NAXIS1"), natural(header, "NAXIS2"), pixels(file, header))
        seen.append(what)
        skip(file, data_size(header))
    listed = ", ".join(seen[:4]) + (f" and {len(seen) - 4} more" if len(seen) > 4 else "")
    raise Unreadable(f"no plain 2-D image: {listed}")


def headers(file: Source) -> Iterator[tuple[int, Header]]:
    """Each HDU's number and header; the caller moves the file past the data before it asks for the next."""
    number = 0
    while (block := file.read(BLOCK)) or number == 0:
        check_start(block, number)
        if number and not block.startswith(b"XTENSION"):
            return  # special records or padding after the last HDU
        yield number, parse(file, block)
        number += 1


def check_start(block: bytes, number: int) -> None:
    if number:
        return
    if not block:
        raise Unreadable("empty file")
    if not block.startswith(b"SIMPLE  ="):
        raise Unreadable("not FITS: no SIMPLE card")
    if block[10:CARD].split(b"/")[0].strip() != b"T":
        raise Unreadable("not standard FITS: SIMPLE is not T")


def parse(file: Source, block: bytes) -> Header:
    """Keywords with their values as text; of a repeated keyword the first."""
    header: Header = {}
    while block:
        for start in range(0, len(block), CARD):
            card = block[start : start + CARD].decode("ascii", "replace")
            if card.rstrip() == "END":
                return header
            if card[8:10] == "= ":
                header.setdefault(card[:8].rstrip(), value(card[10:]))
        block = file.read(BLOCK)
    raise Unreadable("truncated: a header without END")


def value(text: str) -> str:
    """A card's value without its comment; a string without quotes."""
    text = text.strip()
    if text.startswith("'"):
        return text[1:].replace("''", "\0").split("'")[0].replace("\0", "'").rstrip()
    return text.split("/")[0].strip()


def description(header: Header) -> str:
    """``image`` for a plain 2-D image, otherwise what the HDU contains, for people."""
    kind = header.get("XTENSION", "IMAGE")
    if kind != "IMAGE":
        return "a tile-compressed image" if header.get("ZIMAGE") == "T" else f"a {kind} extension"
    axes = natural(header, "NAXIS")
    lengths = [natural(header, f"NAXIS{axis}") for axis in range(1, axes + 1)]
    if header.get("GROUPS") == "T" and lengths[:1] == [0]:
        return "random groups"
    if math.prod(lengths) == 0 or not lengths:
        return "no data"
    return "image" if axes == 2 else f"an image of {axes} {'axis' if axes == 1 else 'axes'}"


def pixels(file: Source, header: Header) -> list[float]:
    bitpix = integer(header, "BITPIX")
    values: array[float] = array(TYPES[bitpix])
    needed = natural(header, "NAXIS1") * natural(header, "NAXIS2") * values.itemsize
    values.frombytes(read_exactly(file, needed))
    if sys.byteorder == "little":
        values.byteswap()
    return scaled(values, header, is_integer=bitpix > 0)


def read_exactly(file: Source, needed: int) -> bytearray:
    """Piece by piece: a damaged header may promise more than any memory holds."""
    data = bytearray()
    while len(data) < needed:
        piece = file.read(min(needed - len(data), PIECE))
        if not piece:
            raise Unreadable(f"truncated: {len(data)} of {needed} bytes of data")
        data += piece
    return data


def scaled(values: array[float], header: Header, *, is_integer: bool) -> list[float]:
    """Physical values: BZERO + BSCALE * stored, NaN for BLANK (integers only)."""
    scale, zero = number(header, "BSCALE", 1.0), number(header, "BZERO", 0.0)
    blank = integer(header, "BLANK") if is_integer and "BLANK" in header else None
    if (scale, zero, blank) == (1.0, 0.0, None):
        return [float(stored) for stored in values]
    return [math.nan if stored == blank else zero + scale * stored for stored in values]


def skip(file: Source, size: int) -> None:
    """Moves past a data unit, which fills whole blocks."""
    try:
        file.seek(-(-size // BLOCK) * BLOCK, 1)
    except (OverflowError, ValueError, OSError):
        raise Unreadable(f"truncated: a header that promises {size} bytes of data") from None


def data_size(header: Header) -> int:
    """Bytes of data, without the padding (standard, equations 1 to 4)."""
    lengths = [natural(header, f"NAXIS{axis}") for axis in range(1, natural(header, "NAXIS") + 1)]
    if header.get("GROUPS") == "T" and lengths[:1] == [0]:
        lengths = lengths[1:]
    if not lengths:
        return 0
    parameters = natural(header, "PCOUNT") if "PCOUNT" in header else 0
    groups = natural(header, "GCOUNT") if "GCOUNT" in header else 1
    return abs(integer(header, "BITPIX")) // 8 * groups * (parameters + math.prod(lengths))


def natural(header: Header, keyword: str) -> int:
    found = integer(header, keyword)
    if found < 0:
        raise Unreadable(f"{keyword} is {found}")
    return found


def integer(header: Header, keyword: str) -> int:
    try:
        found = int(header[keyword])
    except KeyError:
        raise Unreadable(f"a header without {keyword}") from None
    except ValueError:
        raise Unreadable(f"{keyword} is not an integer: {header[keyword]!r}") from None
    if keyword == "BITPIX" and found not in TYPES:
        raise Unreadable(f"BITPIX is {found}")
    if keyword == "NAXIS" and not 0 <= found <= 999:
        raise Unreadable(f"NAXIS is {found}")
    return found


def number(header: Header, keyword: str, default: float) -> float:
    """A real number; FORTRAN's exponent D is allowed."""
    text = header.get(keyword)
    try:
        return default if text is None else float(text.upper().replace("D", "E"))
    except ValueError:
        raise Unreadable(f"{keyword} is not a number: {text!r}") from None
