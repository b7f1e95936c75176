from pathlib import Path

import pytest
import torch
from lightning.pytorch.cli import LightningCLI

from datamodules.corpus import build_corpus, videos
from datamodules.errors import InputError
from datamodules.labels import Annotator, ClipDataset, LabelStore, Request, annotate_missing
from vqa_lightning import Checkpoint, RankingModule


def save(path: Path, seed: int = 0) -> RankingModule:
    """Saves untrained weights as fit does: with the command line's hyper-parameters."""
    lmm = ("image_size=32", "hidden_size=32", "vision_layers=1", "text_layers=1")
    sampling = ("frames=2", "window=32")
    cli = LightningCLI(
        RankingModule,
        run=False,
        save_config_callback=None,
        seed_everything_default=seed,
        auto_configure_optimizers=False,
        trainer_defaults={"accelerator": "cpu", "barebones": True},
        args=[
            *(f"--model.lmm.embedded.{setting}" for setting in lmm),
            *(f"--model.sampling.{setting}" for setting in sampling),
            "--model.scoring.anchors=3",
        ],
    )
    module: RankingModule = cli.model
    module.configure_model()
    module.scale.copy_(torch.tensor([0.5, 2.0, 0.7, 0.1]))
    cli.trainer.strategy.connect(module)
    cli.trainer.save_checkpoint(path)
    return module.eval()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RankingModule]:
    path = tmp_path_factory.mktemp("run") / "last.ckpt"
    return path, save(path)


def test_it_scores_as_predict_does(
    trained: tuple[Path, RankingModule], small_corpus: Path, tmp_path: Path
) -> None:
    path, module = trained
    requests = [Request(video) for video in videos(build_corpus(small_corpus, cache=tmp_path))[:3]]
    items = ClipDataset(requests, module.sampling, module.scoring.draws).read(workers=0)
    raw = torch.stack([module.rate_video(item.frames) for item in items])
    scores, errors = module.t_scores(raw)
    rows = list(Checkpoint(str(path)).annotate(requests))
    # Another batch size: float32 sums in another order.
    assert [row.score for row in rows] == pytest.approx(scores.tolist(), rel=1e-5)
    assert [row.stderr for row in rows] == pytest.approx(errors.tolist(), rel=1e-3)


def test_it_annotates_as_any_teacher(
    trained: tuple[Path, RankingModule], small_corpus: Path, tmp_path: Path
) -> None:
    teacher: Annotator = Checkpoint(str(trained[0]), name="before")
    requests = [Request(video) for video in videos(build_corpus(small_corpus, cache=tmp_path))[:3]]
    store = LabelStore(tmp_path / "labels")
    assert annotate_missing(teacher, requests, store, 0) == 3
    rows = store.read().to_pylist()
    assert {row["annotator"] for row in rows} == {"before"}
    assert all(row["stderr"] >= 0 for row in rows)


def test_the_fingerprint_is_that_of_the_weights(trained: tuple[Path, RankingModule], tmp_path: Path) -> None:
    first = Checkpoint(str(trained[0]))
    copy = tmp_path / "copy.ckpt"
    copy.write_bytes(trained[0].read_bytes())
    save(tmp_path / "other.ckpt", seed=1)
    other = Checkpoint(str(tmp_path / "other.ckpt"))
    assert Checkpoint(str(copy)).fingerprint == first.fingerprint
    assert other.fingerprint != first.fingerprint
    assert other.name != first.name


def test_a_checkpoint_within_a_round_is_told(
    trained: tuple[Path, RankingModule], tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    Checkpoint(str(trained[0]))
    assert not [one for one in recwarn if "within a round" in str(one.message)]
    within = torch.load(trained[0], weights_only=True) | {"scale_current": False}
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
