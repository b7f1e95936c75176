"""Circuits: numbers that mean the same everywhere, severities in order, and what each source goes through."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules.circuits import Circuits, drawn_circuits
from datamodules.circuits.circuit import CHAINS
from datamodules.circuits.drawing import MET
from datamodules.circuits.steps import DISTORTING, ENCODING, STRENGTHS
from datamodules.codecs import CodecCache
from datamodules.codecs.pictures import as_stored
from datamodules.errors import InputError

CIRCUITS = Circuits()


def moving_picture(frames: int = 6) -> Tensor:
    """A picture with detail at many scales that moves by two pixels a frame, uint8 (T, 3, 96, 96)."""
    random = np.random.default_rng(0)
    size = 96 + 2 * frames
    spectrum = np.fft.rfft2(random.standard_normal((size, size)))
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size))
    # Amplitudes of natural pictures fall as 1 / f, after a lens somewhat faster.
    picture = np.fft.irfft2(spectrum / np.maximum(frequency, 1 / size) ** 1.5, s=(size, size))
    values = (127 + 45 * picture / picture.std()).clip(0, 255).astype(np.uint8)[None].repeat(3, axis=0)
    cut = [values[:, :96, 2 * step : 2 * step + 96] for step in range(frames)]
    return torch.from_numpy(np.stack(cut))


CLIP = moving_picture()


def distance(version: Tensor) -> float:
    return float((version.float() - CLIP.float()).square().mean().sqrt())


class TestNumbers:
    def test_every_number_has_steps_whose_levels_exist(self) -> None:
        for number in CIRCUITS.levels:
            for name, level in CIRCUITS.steps(int(number)):
                assert 1 <= level <= len((ENCODING.get(name) or DISTORTING[name]).levels)

    def test_circuits_of_one_step_come_in_order_of_severity(self) -> None:
        for kind in CIRCUITS.kinds:
            steps = [CIRCUITS.steps(CIRCUITS.number(kind, strength)) for strength in range(1, STRENGTHS + 1)]
            assert {one.name for (one,) in steps} == {kind}
            levels = [one.level for (one,) in steps]
            assert levels == sorted(levels)
            assert (levels[0], levels[-1]) == (1, len((ENCODING.get(kind) or DISTORTING[kind]).levels))

    def test_chains_end_in_one_or_two_different_encoders(self) -> None:
        twice = 0
        for index in range(CHAINS):
            names = [step.name for step in CIRCUITS.steps(CIRCUITS.chain(index))]
            encoders = [name for name in names if name in ENCODING]
            assert names[-len(encoders) :] == encoders
            assert 1 <= len(names) - len(encoders) <= 2
            assert len(set(encoders)) == len(encoders) <= 2
            twice += len(encoders) == 2
        assert twice / CHAINS == pytest.approx(0.3, abs=0.1)  # three deviations of a binomial share

    def test_another_seed_makes_other_chains_and_another_identity(self) -> None:
        other = Circuits(seed=1)
        assert other.identity != CIRCUITS.identity
        assert other.steps(other.number("jpeg", 5)) == CIRCUITS.steps(CIRCUITS.number("jpeg", 5))
        chains = [[one.steps(one.chain(index)) for index in range(20)] for one in (CIRCUITS, other)]
        assert chains[0] != chains[1]

    @pytest.mark.parametrize("number", [-1, 0, len(CIRCUITS.levels) + 1])
    def test_unknown_numbers_are_refused(self, number: int) -> None:
        with pytest.raises(InputError, match="The number of a circuit must be from 1 to"):
            CIRCUITS.steps(number)


class TestVersions:
    @pytest.mark.parametrize("kind", CIRCUITS.kinds)
    def test_a_version_falls_with_its_strength(self, kind: str) -> None:
        versions = [CIRCUITS(CLIP, CIRCUITS.number(kind, strength), 25) for strength in (1, 16, 32, 48)]
        assert all(version.shape == CLIP.shape and version.dtype == torch.uint8 for version in versions)
        # Held frames of a moving picture may be held in other places: only the ends must be in order.
        fell = [distance(version) for version in versions]
        ends = [fell[0], fell[-1]] if kind in ("frame_rate", "freeze") else fell
        assert all(first < second for first, second in pairwise(ends))

    def test_the_mildest_can_hardly_be_seen(self) -> None:
        # Four grey levels of 255, PSNR 36 dB, is what x264 leaves at its usual CRF of 23 here.
        for kind in ("resize", "gaussian_blur", "gaussian_noise", "jpeg", "h264", "h265", "vp9", "av1"):
            assert distance(CIRCUITS(CLIP, CIRCUITS.number(kind, 1), 25)) < 4

    def test_the_same_at_every_call_with_and_without_a_cache(self, tmp_path) -> None:  # type: ignore[no-untyped-def]
        cache = CodecCache(tmp_path)
        for number in (CIRCUITS.number("gaussian_noise", 30), CIRCUITS.chain(0), CIRCUITS.chain(1)):
            plain = CIRCUITS(CLIP, number, 25)
            for _ in range(2):
                assert torch.equal(CIRCUITS(CLIP, number, 25, cache), plain)

    def test_noise_belongs_to_the_clip(self) -> None:
        number = CIRCUITS.number("gaussian_noise", 40)
        first, second = (CIRCUITS(clip, number, 25).int() - clip.int() for clip in (CLIP, CLIP.flip(-1)))
        assert not torch.equal(first, second.flip(-1))

    @pytest.mark.parametrize("kind", ["gaussian_noise", "brighten"])
    def test_a_version_is_what_a_file_can_hold(self, kind: str) -> None:
        version = CIRCUITS(CLIP, CIRCUITS.number(kind, 40), 25)
        assert (as_stored(version).int() - version.int()).abs().float().mean() < 2
        noise = torch.randint(256, CLIP.shape, dtype=torch.uint8)
        assert (as_stored(noise).int() - noise.int()).abs().float().mean() > 20

    def test_number_0_is_the_source(self) -> None:
        assert CIRCUITS(CLIP, 0, 25) is CLIP


class TestDrawing:
    IDS = [f"{n:05d}" for n in range(50)]

    def test_a_source_s_draw_is_its_own(self) -> None:
        drawn = drawn_circuits(CIRCUITS, self.IDS, 20)
        assert (drawn_circuits(CIRCUITS, self.IDS[30:40], 20) == drawn[30:40]).all()
        assert len({row.tobytes() for row in drawn}) == len(self.IDS)

    def test_what_people_meet_most_two_strengths_each_and_a_sixth_of_chains(self) -> None:
        for row in drawn_circuits(CIRCUITS, self.IDS, 24):
            assert len(set(row)) == 24
            steps = [CIRCUITS.steps(int(number)) for number in row]
            kinds = [one[0].name for one in steps if len(one) == 1]
            assert len(kinds) == 20
            assert all(kinds.count(kind) == 2 for kind in kinds)
            assert set(ENCODING) <= set(kinds)
            assert all(set(some) & set(kinds) for some in MET)

    def test_every_simulator_and_strength_is_met(self) -> None:
        drawn = drawn_circuits(CIRCUITS, [f"{n}" for n in range(2000)], 30)
        assert len(np.unique(drawn)) == len(CIRCUITS.levels)

    def test_more_than_there_are_come_again(self) -> None:
        assert drawn_circuits(CIRCUITS, ["a"], 5000).shape == (1, 5000)

    @pytest.mark.parametrize(
        "without", [["compression"], ["sharpness", "temporal"], ["chains"], ["h264", "vp9"]]
    )
    def test_what_is_left_out_is_no_step_of_any(self, without: list[str]) -> None:
        drawn = drawn_circuits(CIRCUITS, self.IDS, 24, without)
        for number in np.unique(drawn):
            steps = CIRCUITS.steps(int(number))
            assert len(steps) == 1 or "chains" not in without
            for step in steps:
                family = (ENCODING.get(step.name) or DISTORTING[step.name]).family
                assert {step.name, family}.isdisjoint(without)
        assert all(len(set(row)) == 24 for row in drawn)

    def test_something_must_be_left(self) -> None:
        families = ["compression", "sharpness", "noise", "tone", "temporal"]
        with pytest.raises(InputError, match=r"^data.references.without must leave a simulator; got all"):
            drawn_circuits(CIRCUITS, ["a"], 4, families)
