import json
from pathlib import Path

import av
import pytest
import torch
from torch import Tensor

from datamodules.errors import InputError
from datamodules.labels import Request
from datamodules.teachers.siti import SITI, spatial_information, temporal_information
from datamodules.video import probe

DATA = Path(__file__).resolve().parents[3].parent / "shared/data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"the shared clips are not at {DATA}")


@pytest.fixture(scope="module")
def foreman() -> Tensor:
    """The stored luma (10, 288, 352) of foreman_cif."""
    with av.open(str(DATA / "clips/foreman_cif.y4m")) as container:
        planes = [torch.from_numpy(frame.to_ndarray()[: frame.height]) for frame in container.decode(video=0)]
    return torch.stack(planes)


@needs_data
class TestInformation:
    def test_agrees_with_the_plain_definition_of_p910(self, foreman: Tensor) -> None:
        reference = json.loads((DATA / "reference/siti/foreman_cif-legacy.json").read_text())
        si, ti = spatial_information(foreman).tolist(), temporal_information(foreman).tolist()
        assert si == pytest.approx(reference["si"], abs=1e-9)  # both are float64
        assert ti == pytest.approx(reference["ti"], abs=1e-9)

    def test_leading_axes_are_a_batch(self, foreman: Tensor) -> None:
        batch = foreman[:4].unflatten(0, (2, 2))
        si, ti = spatial_information(batch), temporal_information(batch)
        assert si.shape == (2, 2)
        assert ti.shape == (2, 1)
        # Sums over another number of frames are made in another order: float64.
        assert torch.allclose(si.flatten(), spatial_information(foreman[:4]), rtol=1e-12)
        assert torch.allclose(ti[1], temporal_information(foreman[2:4]), rtol=1e-12)

    def test_teacher_says_what_the_functions_say_of_a_distorted_clip(self) -> None:
        video = probe(DATA / "clips/foreman_cif.y4m")
        (si,) = SITI("si").annotate([Request(video)])
        (ti,) = SITI("ti").annotate([Request(video)])
        (turned,) = SITI("ti", higher_is_better=False).annotate([Request(video)])
        # Full-range luma stretches the 219 steps of the stored range to 255; what passes white is clipped.
        assert si.score == pytest.approx(79.3 * 255 / 219, rel=0.02)
        assert ti.score == pytest.approx(9.9 * 255 / 219, rel=0.15)  # a sample of the nine changes
        assert turned.score == -ti.score


class TestEdges:
    def test_flat_and_still_is_zero(self) -> None:
        grey = torch.full((3, 8, 8), 128, dtype=torch.uint8)
        assert spatial_information(grey).tolist() == [0, 0, 0]
        assert temporal_information(grey).tolist() == [0, 0]

    def test_ti_of_single_frames_is_refused(self) -> None:
        with pytest.raises(InputError, match=r"must be 2 or more; got 1\.$"):
            SITI("ti", frames=1)

    def test_measures_and_signs_have_their_own_fingerprints(self) -> None:
        teachers = [SITI("si"), SITI("ti"), SITI("si", higher_is_better=False)]
        assert len({teacher.fingerprint for teacher in teachers}) == 3
