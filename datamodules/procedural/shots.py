"""Shots: a painted scene and the sprites that cross it, as a perfect camera would film them.

The canvas is sampled once a frame and sprites are laid over it where their path puts them, all at sub-pixel
positions; no shot holds more than one canvas and one frame, so that memory does not grow with duration.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

from datamodules.procedural.materials import OVERSAMPLING, Array, Generator, Palette
from datamodules.procedural.scenes import paint_object, paint_scene


@dataclass(frozen=True)
class Sprite:
    """A thing that moves before the canvas, and its path; positions in frame pixels, y before x."""

    light: torch.Tensor  # (4, n, n): linear light times coverage, and coverage
    start: tuple[float, float]  # from the middle of the world, in the middle of the shot
    velocity: tuple[float, float]  # per second
    sway: tuple[float, float, float]  # amplitude in y and x, frequency in Hz
    spin: float  # radians per second
    growth: float  # of log size, per second


@dataclass(frozen=True)
class Camera:
    """Where the view is: a steady pan, a hand that shakes, a zoom and a roll, all smooth in time."""

    pan: tuple[float, float]  # frame pixels per second, y and x
    shake: float  # frame pixels
    rates: tuple[float, float, float, float]  # Hz, of the shake
    zoom: tuple[float, float]  # log zoom in the middle of the shot, and its change per second
    roll: tuple[float, float]  # radians, and radians per second

    def at(self, time: float) -> tuple[float, float, float, float]:
        """Return centre y and x in frame pixels, zoom and roll at `time` seconds from the shot's middle."""
        a, b, c, d = (math.sin(2 * math.pi * rate * time + k) for k, rate in enumerate(self.rates))
        y = self.pan[0] * time + self.shake * (a + 0.4 * b)
        x = self.pan[1] * time + self.shake * (c + 0.4 * d)
        # Below 1 the canvas would be sampled too sparsely
        zoom = max(1.0, math.exp(self.zoom[0] + self.zoom[1] * time))
        return y, x, zoom, self.roll[0] + self.roll[1] * time


@dataclass(frozen=True)
class Shot:
    """One take: what the camera sees between two cuts, and the light on it."""

    canvas: torch.Tensor  # (3, H, W), linear light, 1 saturates a well exposed sensor
    camera: Camera
    sprites: tuple[Sprite, ...]
    frames: int
    fade: tuple[float, float, float]  # change of log light per second; flicker: amplitude, frequency in Hz
    ripple: tuple[float, float, float]  # amplitude and wavelength in frame pixels, frequency in Hz


def _camera(rng: Generator) -> Camera:
    steady, pans, zooms, rolls = rng.random(4) < (0.5, 0.55, 0.3, 0.2)
    speed = min(float(rng.gamma(2, 14)), 75.0) * pans
    way = float(rng.choice([0, np.pi]) + rng.normal(0, 0.35))
    a, b, c, d = rng.uniform(0.3, 2.0, 4)
    return Camera(
        pan=(speed * math.sin(way), speed * math.cos(way)),
        shake=0.0 if steady else rng.uniform(0.4, 4),
        rates=(a, b, c, d),
        zoom=(rng.uniform(0.05, 0.25), rng.uniform(-0.12, 0.12) * zooms),
        roll=(rng.normal(0, 0.03), rng.normal(0, 0.03) * rolls),
    )


def _sprite(
    rng: Generator, palette: Palette, height: int, width: int, softness: float, radius: float
) -> Sprite:
    light, coverage = paint_object(rng, radius, softness, palette)
    sways, spins, grows = rng.random(3) < 0.4
    return Sprite(
        torch.from_numpy(np.concatenate([light * coverage, coverage[None]])),
        start=(rng.uniform(-0.4, 0.4) * height, rng.uniform(-0.45, 0.45) * width),
        velocity=(rng.normal(0, 14), rng.normal(0, 45)),
        sway=(rng.exponential(6) * sways, rng.exponential(6) * sways, rng.uniform(0.4, 2)),
        spin=rng.normal(0, 0.8) * spins,
        growth=rng.normal(0, 0.1) * grows,
    )


def _grade(rng: Generator, canvas: Array, sprites: list[Sprite]) -> tuple[Array, list[Sprite]]:
    """Give the scene its key (dark, middle, bright), its contrast and its haze, for all layers alike."""
    coarse = canvas[:, ::4, ::4]
    mean = math.exp(float(np.log(coarse + 1e-4).mean()))
    key = float(np.exp(rng.normal(-1.9, 0.6)))
    contrast, veil = rng.uniform(0.75, 1.4), max(0.0, rng.normal(-0.05, 0.25))
    ceiling = float(np.quantile(coarse, 0.985)) / mean
    key = min(key, 1.05 / ceiling**contrast)  # a well exposed picture clips next to nothing

    def graded(light: Array) -> Array:
        return np.asarray(key * ((np.maximum(light, 0) / mean) ** contrast + veil), np.float32)

    layers = []
    for sprite in sprites:
        premultiplied, coverage = sprite.light.numpy()[:3], sprite.light.numpy()[3:]
        light = graded(premultiplied / np.maximum(coverage, 1e-3)) * coverage
        layers.append(replace(sprite, light=torch.from_numpy(np.concatenate([light, coverage]))))
    return graded(canvas), layers


def draw_shot(rng: Generator, height: int, width: int, frames: int, fps: int) -> Shot:
    """Draw one take of `frames` frames of (height, width) pixels."""
    camera, palette = _camera(rng), Palette(rng)
    half = frames / fps / 2
    reach = [max(abs(camera.at(sign * half)[axis]) for sign in (-1, 1)) for axis in (0, 1)]
    tall = int(OVERSAMPLING * (height + 2 * reach[0] + 16))
    wide = int(OVERSAMPLING * (width + 2 * reach[1] + 16))
    canvas = paint_scene(rng, tall, wide, palette)
    softness = float(rng.choice([0.0, 0.0, 2.0, 6.0]))
    count = int(rng.choice([0, 1, 2, 3, 5, 8], p=[0.12, 0.22, 0.24, 0.2, 0.14, 0.08]))
    radii = rng.uniform(0.05, 0.3, count) / math.sqrt(max(1, count / 2)) * min(height, width) * OVERSAMPLING
    sprites = [_sprite(rng, palette, height, width, softness, min(radius, 150.0)) for radius in radii]
    canvas, sprites = _grade(rng, canvas, sprites)
    fades, flickers, ripples = rng.random(3) < (0.2, 0.1, 0.12)
    return Shot(
        torch.from_numpy(canvas),
        camera,
        tuple(sprites),
        frames,
        fade=(rng.normal(0, 0.25) * fades, rng.uniform(0.02, 0.12) * flickers, rng.uniform(1, 6)),
        ripple=(rng.uniform(0.5, 2.5) * ripples, rng.uniform(20, 80), rng.uniform(0.3, 1.2)),
    )


def _view(shot: Shot, time: float, height: int, width: int) -> torch.Tensor:
    """Return the canvas as the camera sees it, (3, height, width)."""
    cy, cx, zoom, roll = shot.camera.at(time)
    _, tall, wide = shot.canvas.shape
    # From frame pixels about the centre to the [-1, 1] of grid_sample
    step_y, step_x = 2 * OVERSAMPLING / tall, 2 * OVERSAMPLING / wide
    cos, sin = math.cos(roll) / zoom, math.sin(roll) / zoom
    v = (torch.arange(height) - (height - 1) / 2)[:, None]
    u = (torch.arange(width) - (width - 1) / 2)[None]
    grid = torch.empty(1, height, width, 2)
    grid[0, ..., 0] = u * (cos * step_x) - (v * sin - cx) * step_x
    grid[0, ..., 1] = u * (sin * step_y) + (v * cos + cy) * step_y
    amplitude, wavelength, frequency = shot.ripple
    if amplitude:
        phase = v * (2 * math.pi / wavelength) + 2 * math.pi * frequency * time
        grid[0, ..., 0] += amplitude * step_x * torch.sin(phase)
    return F.grid_sample(shot.canvas[None], grid, padding_mode="reflection", align_corners=False)[0]


def _place(frame: torch.Tensor, shot: Shot, sprite: Sprite, time: float) -> None:
    """Lay a sprite on the frame (3, H, W), in place, where camera and path put it."""
    _, height, width = frame.shape
    cy, cx, zoom, _ = shot.camera.at(time)
    wave = math.sin(2 * math.pi * sprite.sway[2] * time)
    y = (sprite.start[0] + sprite.velocity[0] * time + sprite.sway[0] * wave - cy) * zoom + height / 2
    x = (sprite.start[1] + sprite.velocity[1] * time + sprite.sway[1] * wave - cx) * zoom + width / 2
    side = sprite.light.shape[1] / OVERSAMPLING
    scale = zoom * math.exp(sprite.growth * time)
    reach = side * scale * (0.5 if sprite.spin == 0 else 0.71) + 1
    top, left = max(0, math.floor(y - reach)), max(0, math.floor(x - reach))
    bottom, right = min(height, math.ceil(y + reach)), min(width, math.ceil(x + reach))
    if top >= bottom or left >= right:
        return
    turn = sprite.spin * time
    cos, sin = math.cos(turn) / scale * 2 / side, math.sin(turn) / scale * 2 / side
    v = (torch.arange(top, bottom) + (0.5 - y))[:, None]
    u = (torch.arange(left, right) + (0.5 - x))[None]
    grid = torch.stack([u * cos + v * sin, v * cos - u * sin], -1)
    layer = F.grid_sample(sprite.light[None], grid[None], align_corners=False)[0]
    frame[:, top:bottom, left:right].mul_(1 - layer[3]).add_(layer[:3])


def film(shots: list[Shot], height: int, width: int, fps: int) -> Iterator[torch.Tensor]:
    """Yield the frames of the shots, one after another, as a perfect camera would take them.

    Yields:
        (3, height, width) RGB in linear light, >= 0; 1 saturates a well exposed sensor.
    """
    for shot in shots:
        for index in range(shot.frames):
            time = (index - (shot.frames - 1) / 2) / fps
            frame = _view(shot, time, height, width)
            for sprite in shot.sprites:
                _place(frame, shot, sprite, time)
            ramp, flicker, frequency = shot.fade
            if ramp or flicker:
                frame *= math.exp(ramp * time + flicker * math.sin(2 * math.pi * frequency * time))
            yield frame


def develop(light: torch.Tensor) -> torch.Tensor:
    """Turn linear light into display values in [0, 1], clipping at saturation.

    The square root is within .06 of BT.709's transfer function, at a quarter of its time.

    Example:
        >>> develop(torch.tensor([0.0, 0.25, 2.0]))
        tensor([0.0000, 0.5000, 1.0000])
    """
    return light.clamp(0, 1).sqrt()
