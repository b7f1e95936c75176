"""Simulators of known severity: pure functions of a batch of clips with a strength per sample, on any device.

Severity is data: levels come with the batch and every draw from the caller's generator, so that the same
batch and the same generator state give the same pixels. Level 0, the source, never passes through arithmetic.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from kornia.filters import gaussian_blur2d
from torch import Tensor

from datamodules.errors import InputError
from datamodules.jpeg import jpeg_round_trip

DistortionFunction = Callable[[Tensor, Tensor, Tensor | None, torch.Generator | None], Tensor]
"""`f(clips, strength, times, generator)`: (B, T, C, H, W) in [0, 1], (B,), seconds (B, T), on one device."""


@dataclass(frozen=True)
class Distortion:
    """A simulator with ordered levels: level 0 is the source, level k has the strength `levels[k - 1]`.

    Any function of the right form becomes one, and any function of this module can be given other strengths:

        >>> def fade(clips, strength, times, generator):
        ...     return clips * (1 - strength[:, None, None, None, None])
        >>> mine = Distortion("fade", fade, levels=(0.25, 0.5, 0.75))
        >>> mine(torch.ones(3, 1, 1, 1, 1), torch.tensor([0, 1, 3])).flatten()
        tensor([1.0000, 0.7500, 0.2500])

    Attributes:
        name: what pairs, labels and configs call it.
        function: pure in its four arguments; it need neither clip its result nor know of level 0.
        levels: the strengths, mildest first, in the function's own unit; finite and above 0.

    Raises:
        InputError: there are no levels, or one of them is not finite and above 0.
    """

    name: str
    function: DistortionFunction
    levels: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.levels:
            raise InputError(f"The distortion {self.name!r} has no levels: give it at least one strength.")
        for strength in self.levels:
            if not (math.isfinite(strength) and strength > 0):
                raise InputError(
                    f"The distortion {self.name!r} has a strength of {strength}: give finite numbers above 0."
                )

    def __call__(
        self,
        clips: Tensor,
        level: Tensor,
        *,
        times: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Distort each clip at its own level.

        Args:
            clips: (B, T, C, H, W), floating, RGB in [0, 1]; not modified.
            level: (B,), integers from 0 (the source, returned bit for bit) to `len(levels)`, on any device;
                on the host it spares a wait for the accelerator.
            times: (B, T), seconds; tells temporal distortions where one segment of a clip ends and the next
                begins.
            generator: on the clips' device; required where something is drawn.

        Returns:
            Tensor of the clips' shape and dtype in [0, 1], computed in float32 whatever the autocast.

        Raises:
            InputError: clips, level or times have a wrong shape or type, a level is out of range, the
                function changes the shape, or the generator is missing or on another device.
        """
        _check(clips, level, times)
        host = level.cpu()
        for value in host.tolist():
            if not 0 <= value <= len(self.levels):
                raise InputError(
                    f"The level {value} of {self.name!r} is out of range: "
                    f"give 0 (the source) to {len(self.levels)} (the strongest)."
                )
        changed = host.nonzero().squeeze(1)
        if len(changed) == 0:
            return clips.clone()
        strength = torch.tensor(self.levels, dtype=torch.float32)[host[changed] - 1].to(clips.device)
        changed = changed.to(clips.device)
        affected = (clips if len(changed) == len(clips) else clips[changed]).float()
        moments = None if times is None else times.to(clips.device)[changed]
        with torch.autocast(clips.device.type, enabled=False):
            distorted = self.function(affected, strength, moments, generator)
        if distorted.shape != affected.shape:
            raise InputError(
                f"The function of {self.name!r} made {tuple(distorted.shape)} of clips of shape "
                f"{tuple(affected.shape)}: it must keep the shape."
            )
        distorted = distorted.clamp(0, 1).to(clips.dtype)
        return distorted if len(changed) == len(clips) else clips.index_copy(0, changed, distorted)


def apply(
    clips: Tensor,
    names: Sequence[str],
    levels: Tensor,
    *,
    times: Tensor | None = None,
    generator: torch.Generator | None = None,
    distortions: Mapping[str, Distortion] | None = None,
) -> Tensor:
    """Apply one distortion per sample, each simulator once on all of its samples.

    Simulators run in the alphabetical order of their names, so that the draws depend on nothing but the batch
    and the generator.

    Args:
        clips: (B, T, C, H, W), RGB, uint8 in [0, 255] or floating in [0, 1]; not modified.
        names: one key of `distortions` for each clip; at level 0 it is not looked up and may be empty.
        levels: (B,), integers from 0 (the source) to the simulator's number of levels, on any device.
        times: (B, T), seconds; None: every clip is one segment.
        generator: on the clips' device; required if a simulator that draws is named.
        distortions: what the names mean, `DISTORTIONS` by default.

    Returns:
        Tensor (B, T, C, H, W) in [0, 1], float32 for uint8 clips, else of the clips' dtype.

    Raises:
        InputError: a name is unknown, or as for `Distortion`.
    """
    distortions = DISTORTIONS if distortions is None else distortions
    result = clips / 255 if clips.dtype == torch.uint8 else clips.clone()
    _check(result, levels, times)
    if len(names) != len(clips):
        raise InputError(f"{len(names)} names of distortions came with {len(clips)} clips: give one a clip.")
    host = levels.cpu()
    samples: dict[str, list[int]] = {}
    for sample, (name, level) in enumerate(zip(names, host.tolist(), strict=True)):
        if level != 0:
            samples.setdefault(name, []).append(sample)
    for name in sorted(samples):
        if name not in distortions:
            raise InputError(
                f"There is no distortion {name!r}: choose from {', '.join(sorted(distortions))}."
            )
        here = torch.tensor(samples[name], device=clips.device)
        result[here] = distortions[name](
            result[here],
            host[samples[name]],
            times=None if times is None else times.to(clips.device)[here],
            generator=generator,
        )
    return result


def _check(clips: Tensor, level: Tensor, times: Tensor | None) -> None:
    if clips.ndim != 5 or not clips.is_floating_point():
        raise InputError(
            f"Clips are {clips.dtype} of shape {tuple(clips.shape)}: give floats of shape (B, T, C, H, W)."
        )
    if level.shape != clips.shape[:1] or level.is_floating_point():
        raise InputError(
            f"Levels are {level.dtype} of shape {tuple(level.shape)}: "
            f"give one integer for each of {len(clips)} clips."
        )
    if times is not None and times.shape != clips.shape[:2]:
        raise InputError(
            f"Times have the shape {tuple(times.shape)}: give seconds of shape {tuple(clips.shape[:2])}."
        )


def _required(generator: torch.Generator | None, clips: Tensor, name: str) -> torch.Generator:
    if generator is None:
        raise InputError(
            f"{name!r} draws at random and got no generator: give a torch.Generator on {clips.device}."
        )
    if generator.device.type != clips.device.type:
        raise InputError(
            f"{name!r} got a generator on {generator.device} for clips on {clips.device}: "
            "put both on one device."
        )
    return generator


def _per_sample(values: Tensor) -> Tensor:
    return values[:, None, None, None, None]


def resize(
    clips: Tensor, strength: Tensor, times: Tensor | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """Lose resolution: down by a factor with an antialiased bicubic kernel, up again with a bilinear one.

    The kernels are the usual chain's: an encoder's scaler goes down with bicubic, a screen goes up with
    bilinear. Both are torch's. The few factors in a batch are taken in turn, since each has a size of its
    own.

    Args:
        clips: (B, T, C, H, W) in [0, 1].
        strength: (B,), the factor; W2S-VQA has 2, 3, 4, 8, 16. The small frame has at least one pixel a side.
        times: not used.
        generator: not used.
    """
    height, width = clips.shape[-2:]
    result = torch.empty_like(clips)
    for factor in sorted(set(strength.tolist())):
        here = strength == factor
        frames = clips[here].flatten(0, 1)
        small_size = [max(1, round(height / factor)), max(1, round(width / factor))]
        small = F.interpolate(frames, small_size, mode="bicubic", antialias=True)
        # bicubic overshoots at edges, which no stored frame could hold
        large = F.interpolate(small.clamp(0, 1), [height, width], mode="bilinear")
        result[here] = large.view(-1, *clips.shape[1:])
    return result


def gaussian_blur(
    clips: Tensor, strength: Tensor, times: Tensor | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """Blur with a Gaussian of a standard deviation per sample, by kornia's separable filter.

    The kernel reaches four of the largest deviation in the batch, and never beyond the mirrored frame: less
    than 1e-4 of any sample's weight is cut off, so that none depends on its neighbours in the batch. At 0.1
    pixels a neighbour weighs e^-50: the mildest of W2S-VQA's levels is the identity.

    Args:
        clips: (B, T, C, H, W) in [0, 1].
        strength: (B,), standard deviation in pixels; W2S-VQA has 0.1, 0.5, 1, 2, 5.
        times: not used.
        generator: not used.
    """
    radius = min(math.ceil(4 * float(strength.max())), min(clips.shape[-2:]) - 1)
    # frames as channels: all of a sample's share its kernel
    blurred: Tensor = gaussian_blur2d(clips.flatten(1, 2), 2 * radius + 1, strength[:, None].expand(-1, 2))
    return blurred.view(clips.shape)


def gaussian_noise(
    clips: Tensor, strength: Tensor, times: Tensor | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """Add white Gaussian noise, independent for every frame, channel and pixel, then clip.

    Args:
        clips: (B, T, C, H, W) in [0, 1].
        strength: (B,), variance on the scale [0, 1]; W2S-VQA has 0.001, 0.002, 0.003, 0.005, 0.01.
        times: not used.
        generator: where the noise comes from.

    Raises:
        InputError: no generator, or one on another device.
    """
    generator = _required(generator, clips, "gaussian_noise")
    noise = torch.randn(clips.shape, generator=generator, device=clips.device)
    return noise.mul_(_per_sample(strength.sqrt())).add_(clips).clamp_(0, 1)


def darken(
    clips: Tensor, strength: Tensor, times: Tensor | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """Darken by the `tone_curve` through (0.5, 0.5 - 0.5 p), on each of R, G and B.

    Args:
        clips: (B, T, C, H, W) in [0, 1].
        strength: (B,), p in (0, 1]; W2S-VQA has 0.05, 0.1, 0.2, 0.4, 0.8.
        times: not used.
        generator: not used.
    """
    return tone_curve(clips, 0.5 - 0.5 * strength)


def brighten(
    clips: Tensor, strength: Tensor, times: Tensor | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """Brighten by the `tone_curve` through (0.5, 0.5 + 0.5 p), on each of R, G and B.

    Args:
        clips: (B, T, C, H, W) in [0, 1].
        strength: (B,), p above 0; W2S-VQA has 0.1, 0.2, 0.4, 0.7, 1.1. From 1 on the upper half of the range
            is white.
        times: not used.
        generator: not used.
    """
    return tone_curve(clips, 0.5 + 0.5 * strength)


def tone_curve(clips: Tensor, middle: Tensor) -> Tensor:
    """Map values by the monotone cubic through (0, 0), (0.5, `middle`) and (1, 1), clipped to [0, 1].

    Fritsch and Carlson's interpolant (SIAM J. Numer. Anal. 17, 1980) with the slopes of scipy's
    `PchipInterpolator`: smooth, and unlike a spline or a parabola it neither overshoots nor turns back
    between the points. With `middle` above 1 it turns only where the clip hides it, so the map is monotone
    for every `middle`.

    Args:
        clips: (B, T, C, H, W) in [0, 1].
        middle: (B,), the value given to 0.5; 0 or more.

    Returns:
        Tensor (B, T, C, H, W) in [0, 1].
    """
    lower, upper = 2 * middle, 2 - 2 * middle  # the slopes of the two chords
    # harmonic mean of the chords (their sum is 2), flat at a turn; at the ends three points give the slope
    inner = (lower * upper).clamp(min=0)
    first = ((3 * lower - upper) / 2).clamp(min=0).minimum(3 * lower)
    last = ((3 * upper - lower) / 2).clamp(min=0).minimum(3 * upper)
    # Hermite's cubic of the lower half in powers of x, and what is added beyond 0.5 to make the upper half's
    square = 2 * (3 * lower - 2 * first - inner)
    cube = 4 * (first + inner - 2 * lower)
    added_square = 2 * (3 * upper - 2 * inner - last) - square - 1.5 * cube
    added_cube = 4 * (inner + last - 2 * upper) - cube
    mapped = (
        (_per_sample(cube) * clips).add_(_per_sample(square)).mul_(clips).add_(_per_sample(first)).mul_(clips)
    )
    beyond = (clips - 0.5).clamp_(min=0)
    added = (_per_sample(added_cube) * beyond).add_(_per_sample(added_square)).mul_(beyond).mul_(beyond)
    return mapped.add_(added).clamp_(0, 1)


def jpeg(
    clips: Tensor, strength: Tensor, times: Tensor | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """Encode and decode every frame as baseline JPEG with 4:2:0 chroma (`jpeg_round_trip`).

    Args:
        clips: (B, T, 3, H, W) in [0, 1], any size.
        strength: (B,), libjpeg's quality, 1 to 100. Our levels 75, 50, 25, 12, 6 double the quantiser's step
            each time.
        times: not used.
        generator: not used.
    """
    quality = strength.repeat_interleave(clips.shape[1])
    return jpeg_round_trip(clips.flatten(0, 1), quality).view(clips.shape)


def jitter(
    clips: Tensor, strength: Tensor, times: Tensor | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """Shake the camera: every frame is shifted at random, and a small random crop of it is resized back.

    The shift is 0.75 s to s long and turns by 90 to 270 degrees from frame to frame, so that the picture
    jumps by s to 2 s each time and no draw of a level shakes less than one of the level below. The crop
    leaves out up to s pixels at each end of the shorter side; what is missing is mirrored. s is in pixels,
    not in parts of the frame, since clips are windows at native resolution: a hand's shake or a
    stabiliser's slip is a few pixels, however much of the frame the window shows. One bilinear warp by
    `grid_sample`.

    Args:
        clips: (B, T, C, H, W) in [0, 1], H and W well above 2 s; at least two frames, or nothing shakes.
        strength: (B,), s in pixels. W2S-VQA does not give it; our levels 1.5, 4, 10 rise by 2.5 or more.
        times: not used.
        generator: where the draws come from.

    Raises:
        InputError: no generator, or one on another device.
    """
    generator = _required(generator, clips, "jitter")
    height, width = clips.shape[-2:]
    draws = torch.rand((3, *clips.shape[:2]), generator=generator, device=clips.device)
    length = strength[:, None] * (0.75 + 0.25 * draws[0])
    turn = math.pi * (0.5 + draws[1])
    turn[:, 0] = 2 * math.pi * draws[1, :, 0]
    angle = turn.cumsum(dim=1)
    margin = strength[:, None] * draws[2]
    # affine_grid measures positions in halves of the frame
    affine = clips.new_zeros(*clips.shape[:2], 2, 3)
    affine[..., 0, 0] = affine[..., 1, 1] = 1 - 2 * margin / min(height, width)
    affine[..., 0, 2] = 2 / width * length * angle.cos()
    affine[..., 1, 2] = 2 / height * length * angle.sin()
    frames = clips.flatten(0, 1)
    grid = F.affine_grid(affine.flatten(0, 1), list(frames.shape), align_corners=False)
    warped = F.grid_sample(frames, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return warped.view(clips.shape)


def stutter(
    clips: Tensor, strength: Tensor, times: Tensor | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """Replace frames by the one shown before, each with probability p; runs of them hold the picture.

    How many is not left to chance, only which: p times the number of frames that have one before them in
    their segment, rounded, at least one. Independent draws would leave 42 % of four-frame clips untouched at
    p = 0.25, and often turn two levels round. A segment starts where the time step exceeds 1.5 times the
    clip's (lower) median; its first frame is kept, and nothing is copied across.

    Args:
        clips: (B, T, C, H, W) in [0, 1]. A clip of one frame has nothing to repeat and stays as it is.
        strength: (B,), p in (0, 1]. W2S-VQA does not give it; our levels 0.25, 0.5, 0.85 repeat one, two and
            three of four frames.
        times: (B, T), seconds, rising; None: every clip is one segment.
        generator: where the draws come from.

    Raises:
        InputError: no generator, or one on another device.
    """
    generator = _required(generator, clips, "stutter")
    batch, count = clips.shape[:2]
    opens = torch.zeros(batch, count, dtype=torch.bool, device=clips.device)
    opens[:, 0] = True
    if times is not None and count > 1:
        steps = times.diff(dim=1)
        opens[:, 1:] = steps > 1.5 * steps.median(dim=1, keepdim=True).values
    repeatable = (~opens).sum(dim=1)
    repeated = (strength * repeatable).round().clamp(min=1).minimum(repeatable)
    # the ranks of random keys choose that many frames; those that open a segment rank last
    keys = torch.rand(batch, count, generator=generator, device=clips.device).masked_fill_(opens, 2.0)
    shown_anew = keys.argsort(dim=1).argsort(dim=1) >= repeated[:, None]
    frame = torch.arange(count, device=clips.device)
    source = torch.where(shown_anew, frame, 0).cummax(dim=1).values
    return clips[torch.arange(batch, device=clips.device)[:, None], source]


DISTORTIONS: dict[str, Distortion] = {
    distortion.name: distortion
    for distortion in (
        Distortion("resize", resize, levels=(2, 3, 4, 8, 16)),
        Distortion("gaussian_blur", gaussian_blur, levels=(0.1, 0.5, 1, 2, 5)),
        Distortion("gaussian_noise", gaussian_noise, levels=(0.001, 0.002, 0.003, 0.005, 0.01)),
        Distortion("darken", darken, levels=(0.05, 0.1, 0.2, 0.4, 0.8)),
        Distortion("brighten", brighten, levels=(0.1, 0.2, 0.4, 0.7, 1.1)),
        Distortion("jpeg", jpeg, levels=(75, 50, 25, 12, 6)),
        Distortion("jitter", jitter, levels=(1.5, 4, 10)),
        Distortion("stutter", stutter, levels=(0.25, 0.5, 0.85)),
    )
}
"""The built-in simulators by name; strengths of W2S-VQA (arXiv 2505.03631) where it gives them, else ours."""
