"""Images: what containers are started from, found, pulled, built, or made where no registry answers.

`ensure` gets one by name; `Image` says what a name stands for. `harness.images.bootstrap` makes the two
published images that everything else builds on, without a registry.
"""

from __future__ import annotations

from harness.images.image import BASE, TOXIPROXY, Found, Image, ImageError, fabric_image, needed
from harness.images.store import ensure, find

__all__ = ["BASE", "TOXIPROXY", "Found", "Image", "ImageError", "ensure", "fabric_image", "find", "needed"]
