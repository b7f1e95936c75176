"""Materials and colours of procedural scenes: 1/f fields, patterns made by people, and natural palettes.

A material is a periodic tile of factors in linear light, drawn once and cut for everything made of it.
Tiles end at the frame's Nyquist frequency, so that a canvas half as dense again as the frame can be sampled
at any sub-pixel position without flicker or aliasing.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.ndimage

Array = npt.NDArray[np.float32]
Generator = np.random.Generator

OVERSAMPLING = 1.5  # canvas pixels per frame pixel at zoom 1
TILE = 512  # canvas pixels; the side of a material's periodic tile
_GRAINS = 8


@lru_cache(maxsize=1)
def _spectrum() -> tuple[Array, Array, Array]:
    """Return log radius (cycles per canvas pixel), low-pass and orientation of a tile's half spectrum."""
    fy = np.fft.fftfreq(TILE).astype(np.float32)[:, None]
    fx = np.fft.rfftfreq(TILE).astype(np.float32)[None]
    radius = np.hypot(fy, fx)
    radius[0, 0] = 1.0
    low_pass = 1 / (1 + (radius * 2 * OVERSAMPLING) ** 12)
    low_pass[0, 0] = 0.0
    return np.log(radius), low_pass.astype(np.float32), np.arctan2(fy, fx).astype(np.float32)


def pink_tile(rng: Generator, slope: float, anisotropy: float = 0.0, angle: float = 0.0) -> Array:
    """Draw a periodic random field whose amplitude spectrum falls as frequency ** -slope.

    Natural images lie near slope 1 (Field 1987). The spectrum ends at the frame's Nyquist frequency.

    Args:
        rng: source of the draw.
        slope: exponent of the amplitude spectrum; larger is smoother.
        anisotropy: 0 is isotropic; 2 looks combed.
        angle: direction, in radians, across which an anisotropic field varies most.

    Returns:
        (TILE, TILE), mean 0, standard deviation 1.
    """
    log_radius, low_pass, theta = _spectrum()
    amplitude = np.exp(np.float32(-slope) * log_radius) * low_pass
    if anisotropy:
        amplitude *= np.exp(np.float32(anisotropy) * np.cos(2 * (theta - np.float32(angle))))
    noise = rng.standard_normal((*amplitude.shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
    field = np.asarray(scipy.fft.irfft2(noise * amplitude, s=(TILE, TILE)), np.float32)
    return np.asarray(field / field.std(), np.float32)


@lru_cache(maxsize=_GRAINS)
def _grain(number: int) -> Array:
    """Return one of the few grains that surfaces share, from fine to coarse: drawing them anew is slow."""
    return pink_tile(np.random.default_rng(number), 0.2 + 0.6 * number / (_GRAINS - 1))


def _smooth(tile: npt.NDArray[np.floating]) -> Array:
    """Take the edge off a drawn pattern, which is above the frame's Nyquist frequency, and normalise it."""
    soft: Array = scipy.ndimage.gaussian_filter(tile.astype(np.float32), 0.7, mode="wrap")
    return np.asarray((soft - soft.mean()) / (soft.std() + 1e-6), np.float32)


def stripes(rng: Generator) -> Array:
    """Draw parallel stripes, bent a little."""
    y, x = np.mgrid[:TILE, :TILE].astype(np.float32) * np.float32(2 * np.pi / TILE)
    ky, kx = rng.integers(-60, 61, 2)
    bend = pink_tile(rng, 1.8) * rng.uniform(0, 1.5)
    return _smooth(np.tanh(np.sin(kx * x + ky * y + bend) * rng.uniform(0.5, 4)))


def bricks(rng: Generator) -> Array:
    """Draw courses of rectangles of varied brightness; windows, tiles or bricks by proportion."""
    rows, columns = 2 ** int(rng.integers(3, 6)), 2 ** int(rng.integers(3, 6))
    tall, wide = TILE // rows, TILE // columns
    lit = rng.standard_normal((rows, columns)) * rng.uniform(0.2, 1)
    tile = np.kron(lit, np.ones((tall, wide)))
    joint = int(rng.integers(1, max(2, min(tall, wide) // 3)))
    tile[np.arange(TILE) % tall < joint] = rng.choice([-2, 2])
    tile[:, np.arange(TILE) % wide < joint] = -2
    if rng.random() < 0.5:  # a running bond: every other course is shifted by half
        odd = (np.arange(TILE) // tall) % 2 == 1
        tile[odd] = np.roll(tile[odd], wide // 2, axis=1)
    return _smooth(tile)


def text(rng: Generator) -> Array:
    """Draw lines of random glyphs made of strokes on a 5 x 7 raster."""
    size = int(rng.integers(2, 5))
    rows, columns = TILE // (11 * size), TILE // (6 * size)
    page = np.zeros((rows * 11, columns * 6))
    for row in range(rows):
        for column in range(int(columns * rng.uniform(0.5, 1))):
            if rng.random() < 0.17:
                continue
            glyph = np.zeros((7, 5))
            on = rng.random(7) < 0.5
            glyph[:, 0] = on[0]
            glyph[:, 4] = np.maximum(glyph[:, 4], on[1])
            glyph[:, 2] = np.maximum(glyph[:, 2], on[2] and not on[0])
            for line, drawn in zip((0, 3, 6), on[3:6], strict=True):
                glyph[line] = np.maximum(glyph[line], drawn)
            if on[6]:
                glyph[np.arange(1, 6), np.arange(5)] = 1
            page[row * 11 + 2 : row * 11 + 9, column * 6 : column * 6 + 5] = glyph
    tile = np.zeros((TILE, TILE))
    enlarged = np.kron(page, np.ones((size, size)))
    tile[: enlarged.shape[0], : enlarged.shape[1]] = enlarged
    return _smooth(-tile)


def noise(rng: Generator) -> Array:
    """Draw a 1/f field, at times combed like grass or wood."""
    return pink_tile(rng, rng.uniform(0.5, 1.6), rng.choice([0.0, 0.0, 0.7, 1.6]), rng.uniform(0, np.pi))


def veins(rng: Generator) -> Array:
    """Draw ridges: marble, bark, waves."""
    return _smooth(-np.abs(pink_tile(rng, rng.uniform(1.1, 1.6))))


def spots(rng: Generator) -> Array:
    """Draw patches with borders soft or sharp."""
    return _smooth(np.tanh(pink_tile(rng, rng.uniform(1.0, 1.5)) * rng.uniform(1, 6) + rng.uniform(-1, 1)))


Pattern = Callable[[Generator], Array]
NATURAL: tuple[Pattern, ...] = (noise, noise, noise, veins, spots)
MAN_MADE: tuple[Pattern, ...] = (bricks, bricks, stripes, text, noise)


class Palette:
    """Colours of one scene: luminance varies most, then blue-yellow, then red-green (Ruderman 1998)."""

    def __init__(self, rng: Generator) -> None:
        self._rng = rng
        self._spread = rng.uniform(0.35, 1.0)
        self._saturation = rng.choice([0.05, 0.18, 0.3, 0.45]) * rng.uniform(0.6, 1.3)
        self._tint = rng.normal(0, 0.4, 2) * self._saturation

    def colour(self, luminance: float = 0.0, calm: float = 1.0) -> Array:
        """Draw a colour in linear light, (3,), about exp(luminance); `calm` below 1 narrows the spread."""
        level = luminance + calm * self._spread * self._rng.standard_normal()
        warm, red = self._tint + calm * self._saturation * self._rng.standard_normal(2) * (1.0, 0.5)
        chroma = warm * np.array([0.9, 0.1, -1.0]) + red * np.array([0.7, -0.7, 0.2])
        return np.asarray(np.exp(level + chroma), np.float32)


def draw_material(rng: Generator, kinds: tuple[Pattern, ...], contrast: float) -> Array:
    """Draw the factor by which a material's texture changes its colour.

    Args:
        rng: source of the draw.
        kinds: patterns to choose from.
        contrast: typical standard deviation of the log light.

    Returns:
        (3, TILE, TILE) in linear light, about 1.
    """
    tile = kinds[int(rng.integers(len(kinds)))](rng)
    if rng.random() < 0.6:
        # Most surfaces have a grain of their own besides their pattern.
        share = float(rng.uniform(0.25, 0.75))  # of the contrast
        grain = np.roll(_grain(int(rng.integers(_GRAINS))), tuple(rng.integers(TILE, size=2)), (0, 1))
        tile = (math.sqrt(1 - share**2) * tile + share * grain).astype(np.float32)
    gain = np.exp(np.clip(contrast * rng.uniform(0.3, 1.3) * tile, -2.5, 1.8))
    shift = rng.normal(0, 0.12) * np.roll(tile, (31, 57), (0, 1)).clip(-2, 2)
    return np.stack([gain * (1 + shift), gain, gain * (1 - shift)]).astype(np.float32)
