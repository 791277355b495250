"""Measure an image and find its stars, with only the standard library."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from plain_fits import Image, Unreadable

SIGMAS = 5.0
MIN_PIXELS = 3
#: The standard deviation of normal noise over its median absolute deviation.
MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True, slots=True)
class Star:
    """Centre in FITS pixels (the first pixel's centre is 1, 1), weighted by flux; flux and peak above background."""

    x: float
    y: float
    flux: float
    peak: float
    pixels: int


def measure(image: Image, sigmas: float = SIGMAS, min_pixels: int = MIN_PIXELS) -> dict[str, object]:
    """Statistics of the defined pixels, and the stars, brightest first, as plain JSON data.

    A star is at least ``min_pixels`` pixels that touch, by a side or a corner, and are all greater than the
    median + ``sigmas`` * sigma; sigma is 1.4826 * MAD, or the standard deviation where the MAD is 0.
    """
    values = sorted(value for value in image.pixels if math.isfinite(value))
    if not values:
        raise Unreadable("an image without one defined pixel")
    try:
        mean, std = moments(values)
        background = median(values)
        sigma = MAD_TO_SIGMA * median(sorted(abs(value - background) for value in values)) or std
        threshold = background + sigmas * sigma
        stars = find_stars(image, background, threshold, min_pixels)
    except OverflowError:
        raise Unreadable("values too large to add up") from None
    return {
        "hdu": image.hdu,
        "width": image.width,
        "height": image.height,
        "npix": len(values),
        "min": values[0],
        "max": values[-1],
        "mean": mean,
        "std": std,
        "background": background,
        "sigma": sigma,
        "threshold": threshold,
        "star_count": len(stars),
        "stars": [asdict(star) for star in stars],
    }


def moments(values: list[float]) -> tuple[float, float]:
    """Mean and (population) standard deviation, without the rounding of a running sum."""
    mean = math.fsum(values) / len(values)
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))


def median(ordered: list[float]) -> float:
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def find_stars(image: Image, background: float, threshold: float, min_pixels: int) -> list[Star]:
    bright = {place for place, value in enumerate(image.pixels) if threshold < value < math.inf}
    groups = []
    while bright:
        groups.append(grow(bright, bright.pop(), image.width))
    stars = [star(image, group, background) for group in groups if len(group) >= min_pixels]
    return sorted(stars, key=lambda star: (-star.flux, star.y, star.x))


def grow(bright: set[int], seed: int, width: int) -> list[int]:
    """The places that touch ``seed`` by way of bright ones, taken out of ``bright``."""
    group = [seed]
    for place in group:
        column = place % width
        for step in (-width, 0, width):
            for side in (-1, 0, 1):
                if 0 <= column + side < width and place + step + side in bright:
                    bright.remove(place + step + side)
                    group.append(place + step + side)
    return group


def star(image: Image, group: list[int], background: float) -> Star:
    weights = [image.pixels[place] - background for place in group]
    flux = math.fsum(weights)
    x = math.fsum(weight * (place % image.width) for weight, place in zip(weights, group, strict=True)) / flux
    y = math.fsum(weight * (place // image.width) for weight, place in zip(weights, group, strict=True)) / flux
    return Star(x=x + 1, y=y + 1, flux=flux, peak=max(weights), pixels=len(group))
