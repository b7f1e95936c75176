"""Painted scenes: one canvas in linear light, larger than the frame, of things that occlude each other.

Each kind of scene is a short recipe over the same few strokes (a wall, a receding ground, scattered leaves, a
defocus of what is behind), so that contents differ in sharpness, contrast and detail as real scenes do.
"""

import math
from dataclasses import dataclass

import numpy as np
import scipy.ndimage

from datamodules.procedural.materials import (
    MAN_MADE,
    NATURAL,
    TILE,
    Array,
    Generator,
    Palette,
    bricks,
    draw_material,
    noise,
    pink_tile,
    spots,
    stripes,
    text,
    veins,
)


def _outline(rng: Generator, kind: str, y: Array, x: Array, radius: float) -> Array:
    """Return the signed distance in pixels, negative inside, of a shape of that radius about the origin."""
    angle = rng.uniform(0, 2 * np.pi)
    u = x * math.cos(angle) + y * math.sin(angle)
    v = y * math.cos(angle) - x * math.sin(angle)
    if kind == "box":
        upright = rng.random() < 0.7
        u, v = (x, y) if upright else (u, v)
        return np.maximum(np.abs(u) - radius * rng.uniform(0.3, 1), np.abs(v) - radius * rng.uniform(0.3, 1))
    if kind == "polygon":
        corners = int(rng.integers(3, 8))
        faces = np.sort(rng.uniform(0, 2 * np.pi, corners)) + np.arange(corners) * 1e-3
        distance = np.full(np.broadcast_shapes(x.shape, y.shape), -radius, np.float32)
        for face, share in zip(faces, rng.uniform(0.45, 1.0, corners), strict=True):
            distance = np.maximum(distance, x * math.cos(face) + y * math.sin(face) - radius * share)
        return np.maximum(distance, np.hypot(x, y) - radius)
    squeeze = {"disc": 1.0, "blob": rng.uniform(0.6, 1), "blade": rng.uniform(0.08, 0.35)}[kind]
    rho = np.hypot(u, v / squeeze)
    reach = np.full_like(rho, radius)
    if kind == "blob":
        theta = np.arctan2(v, u)
        reach *= 0.8
        for k in (2, 3, 5, 8, 13):
            reach += radius * rng.normal(0, 0.16 / k**0.7) * np.cos(k * theta + rng.uniform(0, 2 * np.pi))
        reach = reach.clip(0.3 * radius, radius)
    return np.asarray((rho - reach) * squeeze**0.5, np.float32)


def _leaf(rng: Generator, kind: str, radius: float, softness: float, shading: float) -> tuple[Array, Array]:
    """Draw a shape: its coverage in [0, 1] and the light on it, both (n, n)."""
    half = math.ceil(radius + softness) + 1
    y = np.arange(-half, half + 1, dtype=np.float32)[:, None]
    x = y.T
    distance = _outline(rng, kind, y, x, radius)
    coverage = np.clip(0.5 - distance / (1.2 + softness), 0, 1)
    towards = rng.uniform(0, 2 * np.pi)
    light = 1 + shading * ((x * math.cos(towards) + y * math.sin(towards)) / radius - 0.3 * (y / radius) ** 2)
    return coverage.astype(np.float32), np.maximum(light, 0.08).astype(np.float32)


def _paint(canvas: Array, cy: int, cx: int, coverage: Array, light: Array | float) -> None:
    """Lay light (3, n, n) of a coverage (n, n) on the canvas (3, H, W) about (cy, cx), where it lies inside.

    A number instead of the light multiplies the light that is there already: a shadow.
    """
    size = coverage.shape[0]
    top, left = cy - size // 2, cx - size // 2
    a, b = max(0, top), min(canvas.shape[1], top + size)
    c, d = max(0, left), min(canvas.shape[2], left + size)
    if a >= b or c >= d:
        return
    inside = slice(a - top, b - top), slice(c - left, d - left)
    region = canvas[:, a:b, c:d]
    over = region * light if isinstance(light, float) else light[:, *inside]
    region += coverage[inside] * (over - region)


def _cut(rng: Generator, material: Array, size: int) -> Array:
    """Cut a square of a material at a random place."""
    y, x = rng.integers(0, TILE - size + 1, 2)
    return material[:, y : y + size, x : x + size]


@dataclass(frozen=True)
class Leaves:
    """Occluding leaves of one stratum: parameters of a dead-leaves model (Lee, Mumford and Huang 2001)."""

    shapes: tuple[str, ...]
    materials: list[Array]
    count: int
    smallest: float  # radius, canvas pixels
    largest: float
    power: float = 3.0  # of the density of radii; 3 is scale-invariant
    softness: float = 0.0  # of the edges, canvas pixels
    shading: float = 0.3
    shadow: float = 0.0  # share of the light that a leaf keeps from what is below it
    luminance: float = 0.0  # mean log luminance of their colours
    top: float = 0.0  # share of the canvas height above which no leaf has its centre


def _scatter(rng: Generator, canvas: Array, leaves: Leaves, palette: Palette) -> None:
    _, height, width = canvas.shape
    low, high = leaves.smallest ** (1 - leaves.power), leaves.largest ** (1 - leaves.power)
    for share in rng.random(leaves.count):
        radius = min(float((low + share * (high - low)) ** (1 / (1 - leaves.power))), 240 - leaves.softness)
        kind = leaves.shapes[int(rng.integers(len(leaves.shapes)))]
        coverage, light = _leaf(rng, kind, radius, leaves.softness, leaves.shading)
        fill = _cut(rng, leaves.materials[int(rng.integers(len(leaves.materials)))], coverage.shape[0])
        fill = fill * light * palette.colour(leaves.luminance)[:, None, None]
        cy, cx = int(rng.uniform(leaves.top, 1) * height), int(rng.uniform(0, width))
        if leaves.shadow:
            offset = 2 + int(radius * 0.12)
            _paint(canvas, cy + offset, cx + offset, coverage * leaves.shadow, 0.0)
        _paint(canvas, cy, cx, coverage, fill)


def _blur(canvas: Array, sigma: float) -> Array:
    """Defocus the canvas as painted so far."""
    if sigma < 0.3:
        return canvas
    blurred = scipy.ndimage.gaussian_filter(canvas, (0, sigma, sigma), mode="nearest", truncate=2.5)
    return np.asarray(blurred, np.float32)


def _wall(rng: Generator, height: int, width: int, material: Array, colour: Array) -> Array:
    """Paint a flat surface of one material under light that falls off to one side, (3, height, width)."""
    rows = (np.arange(height) + rng.integers(TILE)) % TILE
    columns = (np.arange(width) + rng.integers(TILE)) % TILE
    surface = material.take(rows, axis=1).take(columns, axis=2)
    slopes = rng.normal(0, 0.5, 2)
    down, across = (
        np.exp(np.linspace(-s, s, n, dtype=np.float32)) for s, n in zip(slopes, (height, width), strict=True)
    )
    surface *= down[:, None] * across
    surface *= colour[:, None, None]
    return surface


def _ground(rng: Generator, height: int, width: int, material: Array, colour: Array) -> Array:
    """Paint a plane of one material that recedes to a horizon at the top row, (3, height, width)."""
    row = np.arange(height, dtype=np.float32) + height * rng.uniform(0.05, 0.3)
    depth = row[-1] / row
    scale = rng.uniform(0.7, 1.3)
    v = np.broadcast_to((scale * row[-1] * rng.uniform(0.3, 0.8) * depth)[:, None], (height, width))
    u = scale * depth[:, None] * (np.arange(width, dtype=np.float32) - width / 2)[None]
    grain = scipy.ndimage.map_coordinates(material[1], (v, u), order=1, mode="grid-wrap")
    clear = np.minimum(1, 2 / (scale * depth))[:, None] ** 2  # texture finer than the canvas averages out
    plane = (1 + clear * (grain - 1)) * np.linspace(1.2, 0.9, height)[:, None]
    return np.asarray(plane * colour[:, None, None], np.float32)


ORGANIC = ("blob", "blob", "disc", "blade", "polygon")
PLAIN = np.ones((3, TILE, TILE), np.float32)


def _landscape(rng: Generator, height: int, width: int, palette: Palette) -> Array:
    horizon = int(height * rng.uniform(0.2, 0.6))
    clouds = np.exp(rng.uniform(0.05, 0.5) * pink_tile(rng, rng.uniform(1.5, 2.2), 0.4, np.pi / 2))
    sky = palette.colour(1.2, 0.3) * np.array([0.85, 1.0, 1.2], np.float32)
    canvas = _wall(rng, height, width, np.stack([clouds] * 3), sky)
    soil = draw_material(rng, NATURAL, 0.8)
    canvas[:, horizon:] = _ground(rng, height - horizon, width, soil, palette.colour(-0.3, 0.5))
    y = np.arange(height)[:, None]
    for ridge in range(int(rng.integers(1, 5))):
        profile = pink_tile(rng, 1.6)[0].take(np.arange(width) % TILE) * height * rng.uniform(0.02, 0.08)
        crest = horizon - height * 0.12 * (1 - ridge / 4) + profile
        coverage = np.clip(y - crest[None], 0, 1) * (y < horizon)
        rock = draw_material(rng, NATURAL, 0.4)
        hill = _wall(rng, height, width, rock, palette.colour(-0.2 * ridge, 0.4))
        canvas += coverage.astype(np.float32) * (hill - canvas)
    foliage = [draw_material(rng, (noise, spots), 0.9) for _ in range(3)]
    count, power, top = int(rng.integers(5, 120)), rng.uniform(2, 3), horizon / height - 0.05
    shapes = ("blob", "blob", "blade")
    trees = Leaves(shapes, foliage, count, 5, height * 0.25, power, shadow=0.4, luminance=-0.6, top=top)
    _scatter(rng, canvas, trees, palette)
    return canvas


def _close_up(rng: Generator, height: int, width: int, palette: Palette) -> Array:
    """Paint dead leaves over the whole view: foliage, pebbles, a crowd."""
    materials = [draw_material(rng, NATURAL, rng.uniform(0.2, 0.9)) for _ in range(4)]
    canvas = _wall(rng, height, width, materials[0], palette.colour())
    smallest, power = rng.choice([4.0, 10.0, 25.0]), rng.uniform(2, 3.2)
    shapes = tuple(rng.choice(ORGANIC, 2))
    shading, shadow = rng.uniform(0, 0.7), rng.choice([0.0, 0.35, 0.6])
    for defocus in (rng.choice([0.0, 0.0, 2.0, 5.0]), 0.0):
        count = int(rng.integers(60, 260))
        leaves = Leaves(shapes, materials, count, smallest, 160, power, 0, shading, shadow)
        _scatter(rng, canvas, leaves, palette)
        canvas = _blur(canvas, defocus)
    return canvas


def _street(rng: Generator, height: int, width: int, palette: Palette) -> Array:
    canvas = _wall(rng, height, width, PLAIN, palette.colour(0.8, 0.3))
    facades = [draw_material(rng, MAN_MADE, rng.uniform(0.3, 0.9)) for _ in range(4)]
    for _ in range(int(rng.integers(4, 14))):
        wide, tall = int(width * rng.uniform(0.12, 0.5)), int(height * rng.uniform(0.3, 0.95))
        edge = int(rng.uniform(-0.1, 0.95) * width)
        left, right = max(0, edge), min(width, edge + wide)
        if left < right:
            facade = facades[int(rng.integers(len(facades)))]
            house = _wall(rng, tall, right - left, facade, palette.colour(-0.2))
            canvas[:, height - tall :, left:right] = house
    canvas = _blur(canvas, rng.choice([0.0, 0.0, 0.0, 3.0]))
    depth = int(height * rng.uniform(0.05, 0.3))
    asphalt = draw_material(rng, (noise, stripes), 0.4)
    canvas[:, -depth:] = _ground(rng, depth, width, asphalt, palette.colour(-0.4, 0.4))
    shapes = ("box", "box", "blob", "disc", "blade")
    things = Leaves(shapes, facades, int(rng.integers(5, 60)), 5, 90, 2.2, shadow=0.4, top=0.4)
    _scatter(rng, canvas, things, palette)
    return canvas


def _surface(rng: Generator, height: int, width: int, palette: Palette) -> Array:
    """Paint one material that fills the view, flat or receding: water, grass, cloth, a wall."""
    material = draw_material(rng, NATURAL + MAN_MADE, rng.uniform(0.2, 1))
    build = _wall if rng.random() < 0.5 else _ground
    canvas = build(rng, height, width, material, palette.colour())
    fills = [material, draw_material(rng, NATURAL, 0.5)]
    few = Leaves(ORGANIC, fills, int(rng.integers(0, 12)), 12, 120, 2.5, shadow=0.5)
    _scatter(rng, canvas, few, palette)
    return canvas


def _night(rng: Generator, height: int, width: int, palette: Palette) -> Array:
    """Paint a dim scene with lights, in focus or as bokeh."""
    canvas = _blur(_street(rng, height, width, palette) * 0.06, rng.choice([0.0, 2.0, 4.0]))
    size = rng.choice([3.0, 6.0, 14.0])
    count, softness = int(rng.integers(15, 90)), size * rng.uniform(0.1, 1)
    lights = Leaves(("disc",), [PLAIN], count, size, size * 3, 3, softness, 0, luminance=1.0)
    _scatter(rng, canvas, lights, palette)
    return canvas


def _page(rng: Generator, height: int, width: int, palette: Palette) -> Array:
    """Paint print or a screen: panels of text, grids and pictures."""
    canvas = _wall(rng, height, width, PLAIN, palette.colour(0.5, 0.3))
    for _ in range(int(rng.integers(4, 12))):
        tall, wide = int(height * rng.uniform(0.15, 0.6)), int(width * rng.uniform(0.15, 0.6))
        y, x = int(rng.uniform(0, height - tall)), int(rng.uniform(0, width - wide))
        material = draw_material(rng, (text, text, text, bricks, noise), rng.uniform(0.4, 1))
        canvas[:, y : y + tall, x : x + wide] = _wall(rng, tall, wide, material, palette.colour(0.3))
    return canvas


def _portrait(rng: Generator, height: int, width: int, palette: Palette) -> Array:
    """Paint a few large, smooth, shaded things before a background out of focus."""
    build = (_close_up, _landscape, _street)[int(rng.integers(3))]
    canvas = _blur(build(rng, height, width, palette), rng.uniform(2, 7))
    kinds = (noise, noise, veins, stripes)
    materials = [draw_material(rng, kinds, rng.uniform(0.05, 0.5)) for _ in range(3)]
    count, shading = int(rng.integers(2, 7)), rng.uniform(0.3, 0.9)
    bodies = Leaves(("disc", "blob", "blob"), materials, count, 60, 220, 2.0, shading=shading)
    _scatter(rng, canvas, bodies, palette)
    details = Leaves(("disc", "blob", "blade"), materials, int(rng.integers(0, 80)), 4, 40, 2.5, shading=0.6)
    _scatter(rng, canvas, details, palette)
    return canvas


_OFTEN = (_landscape, _close_up, _portrait)
_RECIPES = (*_OFTEN, *_OFTEN, _street, _surface, _night, _page)


def paint_scene(rng: Generator, height: int, width: int, palette: Palette) -> Array:
    """Paint a scene of a kind drawn at random.

    Returns:
        (3, height, width) RGB in linear light, > 0, of no particular exposure; sides in canvas pixels.
    """
    return _RECIPES[int(rng.integers(len(_RECIPES)))](rng, height, width, palette)


def paint_object(rng: Generator, radius: float, softness: float, palette: Palette) -> tuple[Array, Array]:
    """Paint a thing with markings of its own, all inside its outline.

    Args:
        rng: source of the draw.
        radius: canvas pixels, at most 150.
        softness: width of its edge in canvas pixels: how far it is out of focus.
        palette: where its colours come from.

    Returns:
        Light (3, n, n), linear, and coverage (n, n) in [0, 1].
    """
    kind = str(rng.choice(["blob", "disc", "box", "polygon", "blade"]))
    coverage, light = _leaf(rng, kind, radius, softness, rng.uniform(0.1, 0.8))
    materials = [draw_material(rng, NATURAL + MAN_MADE, rng.uniform(0.1, 0.8)) for _ in range(2)]
    body = _cut(rng, materials[0], coverage.shape[0]) * palette.colour()[:, None, None]
    count = int(rng.integers(0, 14))
    marks = Leaves(("blob", "disc", "box", "blade"), materials, count, 3, radius / 2, 2.0)
    _scatter(rng, body, marks, palette)
    return body * light, coverage
