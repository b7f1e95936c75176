from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from lightning.pytorch import Trainer

from callbacks.self_improvement import SLOW, SelfImprovement
from datamodules.decoding import Sampling
from datamodules.errors import InputError
from datamodules.label_store import LabelStore
from datamodules.round_data import RoundDataModule
from datamodules.simulators import SIMULATORS
from vqa_lightning.calibration import fit_errors
from vqa_lightning.lmm import LMMConfig
from vqa_lightning.module import RankingModule

TINY = LMMConfig(image_size=32, hidden_size=32, vision_layers=1, text_layers=1)


def one_round(
    corpus: Path, folder: Path, calibration_simulators: list[str] | None = None
) -> tuple[RankingModule, RoundDataModule, pa.Table]:
    """Fits for one round on blur and noise; also returns what the student said of the select split."""
    data = RoundDataModule(
        str(corpus),
        batch_size=4,
        synthetic_pairs=8,
        teacher_pairs=4,
        evaluation_pairs=4,
        simulators=["gaussian_blur", "gaussian_noise"],
        shares=(0.4, 0.4, 0.2),
        duplicates=False,
    )
    module = RankingModule(lmm=TINY, sampling=Sampling(frames=2, window=32), score_draws=3)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        reload_dataloaders_every_n_epochs=1,
        limit_val_batches=0,
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[SelfImprovement(calibration_simulators=calibration_simulators)],
    )
    trainer.fit(module, data)
    table = LabelStore(folder / "labels").read(round=1)
    select = [video.video_id for video in data.split("select")]
    return module, data, table.filter(pc.is_in(table["video_id"], pa.array(select)))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def simulators_of(table: pa.Table) -> set[str]:
    identities = {simulator.identity: name for name, simulator in SIMULATORS.items()}
    return {identities[one] for one in table["simulator"].to_pylist() if one is not None}


class TestCalibration:
    def test_errors_are_scaled_on_simulators_that_are_not_trained_on(
        self, mixed_corpus: Path, tmp_path: Path
    ) -> None:
        module, data, table = one_round(mixed_corpus, tmp_path)
        assert simulators_of(table) == set(SIMULATORS) - set(data.simulators) - set(SLOW)
        # The buffer is float32.
        assert module.scale[2:].tolist() == pytest.approx(list(fit_errors(table)), rel=1e-5)

    def test_simulators_that_are_named_are_taken(self, mixed_corpus: Path, tmp_path: Path) -> None:
        _, _, table = one_round(mixed_corpus, tmp_path, ["jpeg", "gaussian_blur"])
        assert simulators_of(table) == {"jpeg", "gaussian_blur"}

    @pytest.mark.parametrize("names", [["h264", "blurr"], []])
    def test_names_that_nobody_knows_end_in_one_sentence(self, names: list[str]) -> None:
        with pytest.raises(InputError, match=r"calibration_simulators \[.*choose among resize.*leave it out"):
            SelfImprovement(calibration_simulators=names)
