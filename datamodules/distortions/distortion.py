"""Simulators of known severity: pure functions of a batch of clips with a strength per sample, on any device.

Severity is data: levels come with the batch and every draw from the caller's generators, so that the same
generator states give the same pixels; with a generator for each clip, they do so in whatever batch. Level 0,
the source, never passes through arithmetic.
"""

import hashlib
import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

import torch
from torch import Tensor

from datamodules.checks import check_between, check_choice, check_least, check_that
from datamodules.devices import for_device
from datamodules.distortions.arguments import DRAWS, DistortionFunction, Generators, drawn
from datamodules.distortions.camera import gaussian_noise, jitter
from datamodules.distortions.compression import banding, jpeg
from datamodules.distortions.sharpness import SIZED, gaussian_blur, motion_blur, resize
from datamodules.distortions.temporal import frame_rate, freeze, stutter
from datamodules.distortions.tone import brighten, contrast, darken, saturation

Family = Literal["sharpness", "noise", "tone", "compression", "temporal", "geometry", "other"]
"""Kinds of loss: simulators of one family look alike, so that one may be held out to test generalisation."""


@dataclass(frozen=True)
class Distortion:
    """A simulator with ordered levels: level 0 is the source, level k has the strength `levels[k - 1]`.

    Any function of the right form becomes a distortion, and any operator of this room can be given other
    strengths.

    Attributes:
        name: what pairs, labels and configs call it.
        function: pure in its four arguments; it need neither clip its result nor know of level 0.
        levels: the strengths, mildest first, in the function's own unit; finite and above 0.
        family: the kind of loss.
        source: text of the module that the function stands in; empty where there is no file.

    Raises:
        InputError: there are no levels, one of them is not finite and above 0, or `function` is not made with
            `def` or `lambda`.

    Example:
        >>> def fade(clips, strength, times, generator):
        ...     return clips * (1 - strength[:, None, None, None, None])
        >>> mine = Distortion("fade", fade, levels=(0.25, 0.5, 0.75))
        >>> mine(torch.ones(3, 1, 1, 1, 1), torch.tensor([0, 1, 3])).flatten()
        tensor([1.0000, 0.7500, 0.2500])
    """

    name: str
    function: DistortionFunction
    levels: tuple[float, ...]
    family: Family = "other"
    source: str = field(init=False, repr=False, compare=False)
    _strengths: tuple[float, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_that(
            inspect.isfunction(self.function),
            f"The function of {self.name!r}",
            "made with def or lambda, whose name and source tell it from others",
            repr(self.function),
        )
        # now, since the file may be edited while a run lasts
        object.__setattr__(self, "source", _source_of(self.function))
        check_least(f"The number of levels of {self.name!r}", len(self.levels), 1)
        for strength in self.levels:
            finite = 0 < strength < math.inf
            check_that(finite, f"A strength of {self.name!r}", "a finite number above 0", strength)
        # as the operators' float32 has them, whether they are read on the host or on a device
        object.__setattr__(self, "_strengths", tuple(torch.tensor(self.levels, dtype=torch.float32).tolist()))

    @property
    def identity(self) -> str:
        """The name under which scores of its clips are kept: `NAME-HASH`.

        HASH is eight hexadecimal digits: of a built-in simulator its entry in `REVISIONS`; of any other over
        the name, the strengths, the function and the text of the module that the function stands in, so that
        no score outlives the code that made it. Code that is called from other modules does not count: give
        the distortion a new name when such code changes.
        """
        known = DISTORTIONS.get(self.name)
        if known and (known.function, known.levels) == (self.function, self.levels):
            return f"{self.name}-{REVISIONS[self.name]}"
        function = f"{self.function.__module__}.{self.function.__qualname__}"
        definition = repr((self.name, [float(level) for level in self.levels], function, self.source))
        return f"{self.name}-{hashlib.sha256(definition.encode()).hexdigest()[:8]}"

    def __call__(
        self,
        clips: Tensor,
        level: Tensor | Sequence[int],
        *,
        times: Tensor | None = None,
        generator: Generators | None = None,
    ) -> Tensor:
        """Distort each clip at its own level.

        Args:
            clips: (B, T, C, H, W), floating, RGB in [0, 1]; not modified.
            level: (B,), integers from 0 (the source, returned bit for bit) to `len(levels)`, of the host; a
                tensor of an accelerator is waited for.
            times: (B, T), seconds; tells temporal distortions where one segment of a clip ends and the next
                begins.
            generator: on the clips' device; required where something is drawn. One for each clip makes the
                draws of a clip its own, whatever the others.

        Returns:
            Tensor of the clips' shape and dtype in [0, 1], computed in float32 whatever the autocast.

        Raises:
            InputError: clips, level or times have a wrong shape or type, a level is out of range, the
                function changes the shape, or generators are missing, on another device or not as many as
                clips.

        Example:
            >>> clips = torch.rand(3, 4, 3, 64, 48)
            >>> noisy = DISTORTIONS["gaussian_noise"](
            ...     clips, torch.tensor([0, 1, 5]), generator=torch.Generator().manual_seed(0)
            ... )
            >>> noisy.shape, torch.equal(noisy[0], clips[0])
            (torch.Size([3, 4, 3, 64, 48]), True)
        """
        levels = _of_host(level)
        _check(clips, level, times, generator)
        for value in levels:
            check_between(f"A level of {self.name!r}", value, 0, len(self.levels))
        changed = [sample for sample, value in enumerate(levels) if value]
        if not changed:
            return clips.clone()
        whole = len(changed) == len(clips)
        generator = _chosen(generator, changed)
        strengths = [self._strengths[levels[sample] - 1] for sample in changed]
        here = for_device(torch.tensor(changed), clips.device)
        affected = (clips if whole else clips.index_select(0, here)).float()
        moments = None if times is None else for_device(times, clips.device).index_select(0, here)
        with torch.autocast(clips.device.type, enabled=False):
            distorted = self._distort(affected, strengths, moments, generator)
        made = tuple(distorted.shape)
        check_that(made == affected.shape, f"The result of {self.name!r}", "of its clips' shape", made)
        distorted = distorted.clamp(0, 1).to(clips.dtype)
        return distorted if whole else clips.index_copy(0, here, distorted)

    @property
    def ours(self) -> bool:
        """Whether the function is an operator of this package, which knows a generator for each clip."""
        return self.function.__module__.startswith(f"{__package__}.")

    def ahead(self, generator: torch.Generator, clip: Tensor) -> torch.Generator | Tensor:
        """Return what to give for a clip in place of its generator: the numbers that the operator will draw.

        With them the operator is a function of tensors and numbers alone, as `torch.compile` wants it. The
        generator comes back where nothing is drawn, or where only the function, a user's, knows what.

        Args:
            generator: of the clip.
            clip: (T, C, H, W), on the device on which it will be distorted.

        Example:
            >>> DISTORTIONS["stutter"].ahead(torch.Generator(), torch.rand(4, 3, 8, 8)).shape
            torch.Size([4])
        """
        name = self.function.__name__
        known = self.ours and name in DRAWS
        return drawn(name, generator, clip.shape, clip.device) if known else generator

    def _distort(
        self, clips: Tensor, strengths: list[float], times: Tensor | None, generator: Generators | None
    ) -> Tensor:
        if self.function in SIZED:
            return self.function(clips, strengths, times, generator)
        strength = for_device(torch.tensor(strengths), clips.device)
        if self.ours or not isinstance(generator, Sequence):
            return cast(Tensor, self.function(clips, strength, times, generator))
        # A user's function knows one generator only.
        moments = [None] * len(clips) if times is None else torch.split(times, 1)
        each = zip(torch.split(clips, 1), torch.split(strength, 1), moments, generator, strict=True)
        return torch.cat([self.function(*arguments) for arguments in each])


def apply(
    clips: Tensor,
    names: Sequence[str],
    levels: Tensor | Sequence[int],
    *,
    times: Tensor | None = None,
    generator: Generators | None = None,
    distortions: Mapping[str, Distortion] | None = None,
) -> Tensor:
    """Apply one distortion per sample, each simulator once on all of its samples.

    Simulators run in the alphabetical order of their names, so that the numbers drawn from one generator
    depend on nothing but the generator and the batch.

    Args:
        clips: (B, T, C, H, W), RGB, uint8 in [0, 255] or floating in [0, 1]; not modified.
        names: one key of `distortions` for each clip; at level 0 it is not looked up and may be empty.
        levels: (B,), integers from 0 (the source) to the simulator's number of levels, of the host; a tensor
            of an accelerator is waited for.
        times: (B, T), seconds; None: every clip is one segment.
        generator: on the clips' device, for all clips or one for each; required if a simulator that draws is
            named.
        distortions: what the names mean, `DISTORTIONS` by default.

    Returns:
        Tensor (B, T, C, H, W) in [0, 1], float32 for uint8 clips, else of the clips' dtype.

    Raises:
        InputError: a name is unknown, there is not one name for each clip, or as for `Distortion`.

    Example:
        >>> clips = torch.randint(256, (3, 4, 3, 64, 48), dtype=torch.uint8)
        >>> result = apply(clips, ["jpeg", "resize", ""], torch.tensor([2, 1, 0]))
        >>> result.shape, result.dtype, torch.equal(result[2], clips[2] / 255)
        (torch.Size([3, 4, 3, 64, 48]), torch.float32, True)
    """
    distortions = DISTORTIONS if distortions is None else distortions
    result = clips / 255 if clips.dtype == torch.uint8 else clips.clone()
    _check(result, levels, times, generator)
    _check_count("names", names, clips)
    values = _of_host(levels)
    changed = [sample for sample, value in enumerate(values) if value]
    for name in sorted({names[sample] for sample in changed}):
        check_choice("A distortion", name, sorted(distortions))
        samples = [sample for sample in changed if names[sample] == name]
        here = for_device(torch.tensor(samples), clips.device)
        # Not from the result: torch.compile (2.14) would read of a sample what it has written of it.
        chosen = clips.index_select(0, here)
        distorted = distortions[name](
            chosen / 255 if chosen.dtype == torch.uint8 else chosen,
            [values[sample] for sample in samples],
            times=None if times is None else for_device(times, clips.device).index_select(0, here),
            generator=_chosen(generator, samples),
        )
        result.index_copy_(0, here, distorted)
    return result


def _source_of(function: DistortionFunction) -> str:
    file = inspect.getsourcefile(function)
    return Path(file).read_text(encoding="utf-8") if file is not None and Path(file).is_file() else ""


def _chosen(generator: Generators | None, samples: Sequence[int]) -> Generators | None:
    """Return the samples' own generators, or the one for all."""
    return [generator[sample] for sample in samples] if isinstance(generator, Sequence) else generator


def _of_host(levels: Tensor | Sequence[int]) -> Sequence[int]:
    return levels.tolist() if isinstance(levels, Tensor) else levels


def _check(
    clips: Tensor, level: Tensor | Sequence[int], times: Tensor | None, generator: Generators | None
) -> None:
    given = f"{clips.dtype} of shape {tuple(clips.shape)}"
    check_that(
        clips.ndim == 5 and clips.is_floating_point(), "Clips", "floats of shape (B, T, C, H, W)", given
    )
    if isinstance(level, Tensor):
        whole = level.shape == clips.shape[:1] and not level.is_floating_point()
        given = f"{level.dtype} of shape {tuple(level.shape)}"
        check_that(whole, "Levels", f"one integer for each of {len(clips)} clips", given)
    else:
        _check_count("levels", level, clips)
    if times is not None:
        shape, must_be = tuple(times.shape), tuple(clips.shape[:2])
        check_that(shape == must_be, "Times", f"seconds of shape {must_be}", shape)
    if isinstance(generator, Sequence):
        _check_count("generators", generator, clips)


def _check_count(what: str, given: Sequence[object], clips: Tensor) -> None:
    count = len(clips)
    check_that(len(given) == count, f"The number of {what}", f"{count}, one for each clip", len(given))


DISTORTIONS: dict[str, Distortion] = {
    distortion.name: distortion
    for distortion in (
        Distortion("resize", resize, (2, 3, 4, 8, 16), "sharpness"),
        Distortion("gaussian_blur", gaussian_blur, (0.1, 0.5, 1, 2, 5), "sharpness"),
        Distortion("motion_blur", motion_blur, (4, 8, 14, 24), "sharpness"),
        Distortion("gaussian_noise", gaussian_noise, (0.001, 0.002, 0.003, 0.005, 0.01), "noise"),
        Distortion("darken", darken, (0.05, 0.1, 0.2, 0.4, 0.8), "tone"),
        Distortion("brighten", brighten, (0.1, 0.2, 0.4, 0.7, 1.1), "tone"),
        Distortion("contrast", contrast, (0.2, 0.4, 0.6, 0.75, 0.88), "tone"),
        Distortion("saturation", saturation, (0.3, 0.55, 0.8, 1), "tone"),
        Distortion("jpeg", jpeg, (40, 20, 12, 6, 3), "compression"),
        Distortion("banding", banding, (0.2, 0.4, 0.7, 1), "compression"),
        Distortion("jitter", jitter, (1.5, 4, 10), "geometry"),
        Distortion("stutter", stutter, (0.25, 0.5, 0.85), "temporal"),
        Distortion("frame_rate", frame_rate, (1.5, 3, 6), "temporal"),
        Distortion("freeze", freeze, (0.25, 0.5, 0.75), "temporal"),
    )
}
"""The built-in simulators by name; strengths of W2S-VQA (arXiv 2505.03631) where it gives them, else ours."""

REVISIONS = {
    "resize": "3f97b4de",
    "gaussian_blur": "f320d656",
    "motion_blur": "f5915a8d",
    "gaussian_noise": "348b22d0",
    "darken": "10656f26",
    "brighten": "2974c40f",
    "contrast": "5c4baed8",
    "saturation": "7b59cdc4",
    "jpeg": "d7410dc5",
    "banding": "caa7cc23",
    "jitter": "ad921ed6",
    "stutter": "b250a10b",
    "frame_rate": "cac2645d",
    "freeze": "3c87c63e",
}
"""For each built-in simulator, the digits that follow its name where scores are kept and noise is seeded.

A simulator whose pixels change gets eight other digits, so that scores of its old clips do not count; a new
comment or docstring changes nothing.
"""
