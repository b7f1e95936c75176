from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from datamodules.corpus import build_corpus, videos
from datamodules.errors import InputError
from datamodules.labels import Annotator, ClipDataset, LabelStore, Request, annotate_missing
from vqa_lightning import Checkpoint, RankingModule


def test_it_scores_as_predict_does(tiny_checkpoint: Path, small_corpus: Path, tmp_path: Path) -> None:
    module = RankingModule.load_from_checkpoint(tiny_checkpoint).eval()
    requests = [Request(video) for video in videos(build_corpus(small_corpus, cache=tmp_path))[:3]]
    items = ClipDataset(requests, module.sampling, module.scoring.draws).read(workers=0)
    raw = torch.stack([module.rate_video(item.frames) for item in items])
    scores, errors = module.t_scores(raw)
    rows = list(Checkpoint(str(tiny_checkpoint)).annotate(requests))
    # Another batch size: float32 sums in another order.
    assert [row.score for row in rows] == pytest.approx(scores.tolist(), rel=1e-5)
    assert [row.stderr for row in rows] == pytest.approx(errors.tolist(), rel=1e-3)


def test_it_annotates_as_any_teacher(tiny_checkpoint: Path, small_corpus: Path, tmp_path: Path) -> None:
    teacher: Annotator = Checkpoint(str(tiny_checkpoint), name="before")
    requests = [Request(video) for video in videos(build_corpus(small_corpus, cache=tmp_path))[:3]]
    store = LabelStore(tmp_path / "labels")
    assert annotate_missing(teacher, requests, store, 0) == 3
    rows = store.read().to_pylist()
    assert {row["annotator"] for row in rows} == {"before"}
    assert all(row["stderr"] >= 0 for row in rows)


def test_the_fingerprint_is_that_of_the_weights(
    tiny_checkpoint: Path, save_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    first = Checkpoint(str(tiny_checkpoint))
    copy = tmp_path / "copy.ckpt"
    copy.write_bytes(tiny_checkpoint.read_bytes())
    other = Checkpoint(str(save_checkpoint(tmp_path / "other.ckpt", seed=1)))
    assert Checkpoint(str(copy)).fingerprint == first.fingerprint
    assert other.fingerprint != first.fingerprint
    assert other.name != first.name


def test_a_checkpoint_within_a_round_is_told(
    tiny_checkpoint: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    Checkpoint(str(tiny_checkpoint))
    assert not [one for one in recwarn if "within a round" in str(one.message)]
    within = torch.load(tiny_checkpoint, weights_only=True) | {"scale_current": False}
    torch.save(within, tmp_path / "within.ckpt")
    with pytest.warns(UserWarning, match="saved within a round"):
        Checkpoint(str(tmp_path / "within.ckpt"))


@pytest.mark.parametrize("content", [None, b"no checkpoint", {"state_dict": {"weight": torch.zeros(1)}}])
def test_a_wrong_file_is_one_sentence(tmp_path: Path, content: object) -> None:
    path = tmp_path / "wrong.ckpt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(InputError, match=r"wrong\.ckpt") as caught:
        Checkpoint(str(path))
    assert "\n" not in str(caught.value)
