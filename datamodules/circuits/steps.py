"""What a circuit is made of: simulators whose strengths run from just invisible to bad in small steps.

The built-in ladders have the few strengths of the paper, the mildest of which are plain to see. A scorer of
people's videos must tell differences far below them, so a step has up to 48 strengths.
"""

from collections.abc import Callable

import numpy as np

from datamodules.codecs import Codec
from datamodules.codecs.encoders import in_build
from datamodules.distortions import (
    Distortion,
    Family,
    banding,
    brighten,
    contrast,
    darken,
    frame_rate,
    freeze,
    gaussian_blur,
    gaussian_noise,
    jpeg,
    motion_blur,
    resize,
)
from datamodules.distortions.arguments import DistortionFunction

STRENGTHS = 48
"""Strengths of a step that is not a codec; a codec has a strength for each CRF."""

Spacing = Callable[[float, float], tuple[float, ...]]


def even(mildest: float, worst: float) -> tuple[float, ...]:
    """Return `STRENGTHS` numbers of equal distance.

    Example:
        >>> even(0, 47)[:3]
        (0.0, 1.0, 2.0)
    """
    return tuple(np.linspace(mildest, worst, STRENGTHS).tolist())


def by_ratio(mildest: float, worst: float) -> tuple[float, ...]:
    """Return `STRENGTHS` numbers of equal ratio.

    Example:
        >>> [round(strength, 3) for strength in by_ratio(1, 2**47)[:3]]
        [1.0, 2.0, 4.0]
    """
    return tuple(np.geomspace(mildest, worst, STRENGTHS).tolist())


_DISTORTIONS: tuple[tuple[DistortionFunction, Spacing, float, float, Family], ...] = (
    (resize, by_ratio, 1.1, 5.0, "sharpness"),  # factor
    (gaussian_blur, by_ratio, 0.3, 3.6, "sharpness"),  # pixels
    (motion_blur, by_ratio, 1.3, 18.0, "sharpness"),  # pixels
    (gaussian_noise, by_ratio, (1 / 255) ** 2, (28 / 255) ** 2, "noise"),  # variance
    (darken, even, 0.04, 0.85, "tone"),
    (brighten, even, 0.05, 1.1, "tone"),
    (contrast, even, 0.05, 0.88, "tone"),
    (jpeg, by_ratio, 92, 4, "compression"),  # quality
    (banding, even, 0.1, 1.0, "compression"),
    (frame_rate, by_ratio, 1.15, 8.0, "temporal"),  # factor
    (freeze, even, 0.13, 0.9, "temporal"),  # share of a segment
)

# At the presets of live streams: at one CRF a slower preset saves bits, which nobody counts here.
_CODECS: tuple[tuple[str, str, range, dict[str, str]], ...] = (
    ("h264", "libx264", range(16, 52), {"preset": "fast"}),
    ("h265", "libx265", range(18, 52), {"preset": "ultrafast"}),
    ("vp9", "libvpx-vp9", range(18, 64), {"deadline": "realtime", "cpu-used": "8"}),
    ("av1", "libsvtav1", range(18, 64), {"preset": "12"}),
)

DISTORTING: dict[str, Distortion] = {
    function.__name__: Distortion(function.__name__, function, spacing(mildest, worst), family)
    for function, spacing, mildest, worst, family in _DISTORTIONS
}
"""Steps that act on pixels, by name."""

ENCODING: dict[str, Codec] = {
    name: Codec(name, encoder, tuple(crfs), options)
    for name, encoder, crfs, options in _CODECS
    if in_build(encoder)
}
"""Steps that encode, by name, without encoders that this build of PyAV lacks."""

CAPTURING: dict[str, tuple[str, ...]] = {
    "scale": ("resize",),
    "blur": ("gaussian_blur", "motion_blur"),
    "noise": ("gaussian_noise",),
    "exposure": ("darken", "brighten", "contrast"),
}
"""What may happen to a picture before it is encoded, in the order of its life."""
