"""Distortions of known severity that run on the device.

Imports only `datamodules.errors`, `datamodules.checks` and `datamodules.devices`. Operators are exported by
name, so that a config can give one of them other strengths:
`{name: jpeg_low, function: datamodules.distortions.jpeg, levels: [10, 5, 2]}`.
"""

from datamodules.distortions.arguments import generator_for
from datamodules.distortions.camera import gaussian_noise, jitter
from datamodules.distortions.compression import banding, jpeg
from datamodules.distortions.distortion import DISTORTIONS, Distortion, Family, apply
from datamodules.distortions.sharpness import gaussian_blur, motion_blur, resize
from datamodules.distortions.temporal import frame_rate, freeze, stutter
from datamodules.distortions.tone import brighten, contrast, darken, saturation, tone_curve

__all__ = [
    "DISTORTIONS",
    "Distortion",
    "Family",
    "apply",
    "banding",
    "brighten",
    "contrast",
    "darken",
    "frame_rate",
    "freeze",
    "gaussian_blur",
    "gaussian_noise",
    "generator_for",
    "jitter",
    "jpeg",
    "motion_blur",
    "resize",
    "saturation",
    "stutter",
    "tone_curve",
]
