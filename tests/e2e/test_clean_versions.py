"""A run as `round.yaml` has it, made small: frozen eyes, versions of clean sources, whole frames scored."""

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from datamodules.labels import LabelStore
from vqa_lightning.cli import main

EYES = [
    "--model.lmm.quality_tower=efficientnet_lite0",
    "--model.lmm.pictures=false",
    "--model.lmm.feature_cache=memory",
    '--model.sampling={"frames": 4, "window": 64}',
    "--model.scoring.whole=true",
    "--data.counts.reference=16",
    "--data.references.versions=8",
    "--trainer.max_epochs=2",
]


@pytest.fixture
def fit(smallest: list[str]) -> Callable[..., None]:
    return lambda *more: main([*smallest, *EYES, *more])


def test_two_rounds_end_with_a_scorer_and_go_on(
    here: Path, fit: Callable[..., None], small_corpus: Path
) -> None:
    fit(f"--data.videos={small_corpus}")  # the folder, so that the select split has more than one content
    run = here / "runs" / "round" / "version_0"
    with (run / "rounds.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["pairs_reference"] for row in rows] == ["16", "16"]
    assert all(-1 <= float(row["probe_across"]) <= 1 for row in rows)
    pairs = pq.read_table(run / "pairs" / "round-0.parquet").to_pylist()
    assert Counter(row["source"] for row in pairs) == {"synthetic": 12, "teacher": 8, "reference": 16}
    assert all(row["place_first"] is not None for row in pairs if row["source"] == "reference")

    stored = LabelStore(here / "labels").read(round=0)
    versions = {
        row["annotator"] for row in stored.to_pylist() if (row["simulator"] or "").startswith("circuits")
    }
    assert versions == {"vmaf", "artefacts", "si"}

    fit(f"--data.videos={small_corpus}", "--ckpt_path=last", "--trainer.max_epochs=3")
    with (run / "rounds.csv").open() as file:
        assert [row["pairs_reference"] for row in csv.DictReader(file)] == ["16", "16", "16"]

    checkpoint = run / "checkpoints" / "last.ckpt"
    assert not checkpoint.with_name("base.ckpt").exists()  # what is frozen is published, or not passed
    main(["predict", "--ckpt_path", str(checkpoint), "--data.videos", str(small_corpus / "manifest.csv")])
    with (here / "scores.csv").open(newline="") as file:
        scores = list(csv.DictReader(file))
    assert {row["status"] for row in scores} == {"ok"}
    assert len({row["score"] for row in scores}) == len(scores)
