"""The full reference of an image: registry, name, tag (skaha-api 3.4)."""

from __future__ import annotations

from skahactl.manifest.places import SourceMap
from skahactl.manifest.values import names_host
from skahactl.profile import Profile


def full_image(image: str, profile: Profile, places: SourceMap, warnings: list[str]) -> str:
    """``image`` with the profile's registry if it names none, and with ``:latest`` if it has no tag or digest."""
    if not names_host(image) and profile.registry.host:
        image = f"{profile.registry.host.rstrip('/')}/{image}"
    if "@" not in image and ":" not in image.rpartition("/")[2]:
        image += ":latest"
        warnings.append(f"{places.where(('image',))}: no tag, so {image}, which may be another image tomorrow")
    return image
