import pytest
import torch

from datamodules.video import Sampling
from vqa_lightning.families import EmbeddedSizes
from vqa_lightning.lmm import LMMConfig
from vqa_lightning.scoring import Scoring
from vqa_lightning.training import RankingModule

TINY = EmbeddedSizes(image_size=32, hidden_size=32, vision_layers=1, text_layers=1)


@pytest.mark.parametrize("pictures", [False, True])
def test_bytes_that_never_become_floats_give_the_same_scores_to_the_bit(pictures: bool) -> None:
    torch.manual_seed(0)
    config = LMMConfig(
        quality_tower="efficientnet_lite0", pictures=pictures, motion="differences", embedded=TINY
    )
    sampling = Sampling(segments=2, frames=4, window=40)
    module = RankingModule(lmm=config, sampling=sampling, scoring=Scoring(draws=2))
    module.configure_model()
    module.eval()
    assert module.lmm.takes_bytes is not pictures
    clips = torch.randint(256, (2, 8, 3, 90, 160), dtype=torch.uint8)
    if pictures:
        clips = clips[..., :40, :40]
    with torch.inference_mode():
        assert torch.equal(module.rate_video(clips), module.rate(clips / 255))
