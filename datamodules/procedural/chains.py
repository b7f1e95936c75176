"""Hidden chains: what happens to the light of a scene in lens, sensor and upload.

A chain is drawn from a stream of random numbers of its own: a content looks the same through every chain.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from datamodules.procedural.contents import CHAIN
from datamodules.procedural.encoding import COLOURS
from datamodules.procedural.lines import along_both, gaussian, reduced
from datamodules.procedural.shots import develop


@dataclass(frozen=True)
class Chain:
    """What happens to the light on its way to the file; the defaults are a nearly pristine upload."""

    blur: float = 0.0  # sigma of the lens, pixels
    shake: float = 0.0  # sigma added along one axis, pixels
    shake_axis: int = 0  # 0 vertical, 1 horizontal
    exposure: float = 0.0  # stops of gain before the sensor saturates
    gamma: float = 1.0  # of the tone curve after it
    noise: float = 0.0  # standard deviation at saturation, in linear light
    grain: float = 0.0  # sigma of the noise's own blur, pixels: coarse noise
    scale: float = 1.0  # factor by which the upload was reduced and enlarged again
    crf: float = 18.0  # of x264
    preset: str = "veryfast"
    keyframes: int = 12  # at most so many frames from one to the next
    matrix: str = "bt709"


def draw_chain(seed: int, index: int, number: int = 0, of: int = 1) -> Chain:
    """Draw a hidden chain of content `index`, independently of what the content shows.

    An overall severity runs evenly over [0, 1) and is spent on one to four parts; below .06 the upload is
    pristine. It is a golden-ratio sequence over the index, so that any run of contents covers the severities,
    and the chains of one content are as far apart as can be.

    Args:
        seed: of the corpus.
        index: of the content in it.
        number: of the chain among those of the content.
        of: how many chains the content has.

    Example:
        >>> draw_chain(0, 5) == draw_chain(0, 5), draw_chain(0, 5) == draw_chain(0, 6)
        (True, False)
    """
    rng = np.random.default_rng([seed, index, CHAIN, number])
    offset = np.random.default_rng([seed, CHAIN]).random()
    severity = (offset + index * (math.sqrt(5) - 1) / 2 + number / of) % 1.0
    parts = ("blur", "noise", "exposure", "scale", "crf")
    count = 0 if severity < 0.06 else int(rng.choice([1, 2, 3, 4], p=[0.3, 0.3, 0.25, 0.15]))
    chosen = rng.choice(parts, count, replace=False, p=[0.22, 0.22, 0.16, 0.16, 0.24])
    dose = dict.fromkeys(parts, 0.0)
    for part in chosen:
        dose[str(part)] = 0.8 * severity * rng.uniform(0.6, 1.0)
    shaken, brighter = rng.random(2) < (0.4, 0.4)
    return Chain(
        blur=2.6 * dose["blur"] * (0.7 if shaken else 1.0),
        shake=6.0 * dose["blur"] * shaken,
        shake_axis=int(rng.integers(2)),
        exposure=(2.8 if brighter else -4.0) * dose["exposure"],
        gamma=1 + rng.uniform(-0.3, 0.5) * dose["exposure"],
        noise=0.45 * dose["noise"] ** 1.3,
        grain=float(rng.choice([0.0, 0.0, 0.8])),
        scale=1 + 7.0 * dose["scale"],
        crf=rng.uniform(18, 23) * (1 - dose["crf"]) + 46 * dose["crf"],
        preset=str(rng.choice(["superfast", "veryfast"])),
        keyframes=int(rng.integers(12, 25)),
        matrix=str(rng.choice(list(COLOURS))),
    )


class Camera:
    """Lens, sensor and tone curve of a chain, then the resizing of its upload.

    The noise is photon noise, which grows with the square root of the light, over a floor. One block of it is
    drawn per content and each frame takes a window at a random place, mirrored at random: to eye and encoder
    fresh noise, at a tenth of the time.
    """

    def __init__(self, rng: np.random.Generator, height: int, width: int, chain: Chain) -> None:
        self._rng, self._chain = rng, chain
        sigmas = [chain.blur, chain.blur]
        sigmas[chain.shake_axis] = math.hypot(chain.blur, chain.shake)
        sides = height, width
        self._lens = [gaussian(side, sigma) for side, sigma in zip(sides, sigmas, strict=True)]
        self._resizing = [reduced(side, chain.scale) for side in sides if chain.scale > 1]
        if not chain.noise:
            return
        block = torch.from_numpy(rng.standard_normal((3, height + 96, width + 96), dtype=np.float32))
        if chain.grain:
            block = along_both(block, *(gaussian(side + 96, chain.grain) for side in sides))
            block *= 0.7 / block.std()  # coarse noise is the more visible
        self._block = block

    def _noise(self, light: torch.Tensor) -> torch.Tensor:
        _, height, width = light.shape
        y, x = self._rng.integers(0, 97, 2)
        mirrored = [axis for axis, chance in zip((1, 2), self._rng.random(2), strict=True) if chance < 0.5]
        window = self._block[:, y : y + height, x : x + width].flip(mirrored)
        return self._chain.noise * torch.sqrt(light.clamp(0, 1) * 0.9 + 0.02) * window

    def __call__(self, light: torch.Tensor) -> torch.Tensor:
        """Take linear light (3, H, W), 1 saturating, into display values (3, H, W) in [0, 1]."""
        chain = self._chain
        if chain.blur or chain.shake:
            light = along_both(light, *self._lens)
        if chain.exposure:
            light = light * 2**chain.exposure
        if chain.noise:
            light = light + self._noise(light)
        picture = develop(light) if chain.gamma == 1 else light.clamp(0, 1) ** (chain.gamma / 2)
        if chain.scale > 1:
            picture = along_both(picture, *self._resizing).clamp_(0, 1)
        return picture
