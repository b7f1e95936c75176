"""Every kind of label through the real command line, on a small corpus with a tiny model."""

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from datamodules.labels import LabelStore
from datamodules.pairs import PAIR_SCHEMA
from vqa_lightning.cli import main

OWN = """
def fade(clips, strength, times, generator):
    return clips * (1 - strength[:, None, None, None, None])
"""

SIMULATORS = """
data:
  class_path: RoundDataModule
  init_args:
    simulators:
      - gaussian_blur
      - h264
      - {name: fade, function: own_fading.fade, levels: [0.3, 0.6]}
"""


@pytest.fixture
def here(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a simulator of the user's own, and a cache of its own."""
    (here / "own_fading.py").write_text(OWN)
    (here / "simulators.yaml").write_text(SIMULATORS)
    monkeypatch.syspath_prepend(str(here))
    return here


@pytest.fixture
def fit(smallest: list[str]) -> Callable[..., None]:
    """Trains one round with the teachers of `round.yaml` and simulators of several kinds."""
    words = [*smallest, "--config", "simulators.yaml", "--trainer.max_epochs=1", "--data.teachers=null"]
    return lambda *more: main([*words, *more])


def test_all_kinds_of_labels_in_one_round(here: Path, fit: Callable[..., None]) -> None:
    few = ("--data.counts.reference=8", "--data.references.metric=ssim")
    fit("--data.counts.synthetic=24", *few, "--data.drawing.composed=1.0")
    run = here / "runs" / "round" / "version_0"
    pairs = pq.read_table(run / "pairs" / "round-0.parquet")
    assert Counter(pairs["source"].to_pylist()) == {"synthetic": 24, "teacher": 8, "reference": 8}
    composed = [
        row
        for row in pairs.to_pylist()
        if row["source"] == "synthetic"
        and "h264" in str(row["distortions_first"] + row["distortions_second"])
    ]
    assert len(composed) == 8
    assert all(row["distortions_first"][0] == row["distortions_second"][0] for row in composed)
    assert {row["distortions_first"][0]["name"] for row in composed} == {"gaussian_blur"}

    stored = LabelStore(here / "labels").read(round=0)
    assert set(stored["annotator"].to_pylist()) == {
        "ssim", "niqe", "brisque", "artefacts", "laplacian",
    }  # fmt: skip
    versions = {name.split("-")[0] for name in stored["simulator"].to_pylist() if name is not None}
    assert {"gaussian_blur", "h264"} <= versions  # the report's ladders, one simulator a content
    with (run / "teachers.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["teacher"] for row in rows] == ["niqe", "brisque", "artefacts"]
    assert sum(float(row["weight"]) for row in rows) == pytest.approx(1, abs=1e-5)  # six decimals


def test_given_pairs_are_added_to_the_round(here: Path, fit: Callable[..., None]) -> None:
    fit("--data.counts.synthetic=24")
    first = pq.read_table("runs/round/version_0/pairs/round-0.parquet")
    given = first.filter(pc.equal(first["source"], "teacher"))
    known = given.slice(0, 1).to_pylist()[0]
    table = [known | {"source": "human", "margin": None}, known | {"first": "elsewhere", "source": "human"}]
    pq.write_table(pa.Table.from_pylist(table, schema=PAIR_SCHEMA), "given.parquet")
    fit("--data.counts.synthetic=24", "--data.drawing.imported=given.parquet")
    second = pq.read_table("runs/round/version_1/pairs/round-0.parquet")
    human = second.filter(pc.equal(second["source"], "human"))
    assert human["first"].to_pylist() == [known["first"]]
    assert len(second) == len(first) + 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--data.drawing.imported=absent.parquet"], "absent.parquet cannot be read"),
        (["--data.drawing.composed=1.5"], "data.drawing.composed must be from 0 to 1; got 1.5."),
        (
            ["--data.labelling.min_confidence=2"],
            "min_confidence must be from 0 to 1; got 2.0.",
        ),
        (["--data.drawing.draws=0"], "data.drawing.draws must be 1 or more; got 0."),
        (["--data.counts.evaluation=0"], "data.counts.evaluation must be 1 or more; got 0."),
        (["--data.teachers=[{class_path: datamodules.SITI}, {class_path: datamodules.SITI}]"], "'si'"),
        (["--data.simulators=[sepia]"], "'sepia'"),
        (["--data.simulators=[h264, h264]"], "'h264' twice"),
        (["--data.simulators=[{name: x, encoder: libtheora, levels: [20]}]"], "libtheora"),
        (["--data.simulators=[{name: x, encoder: libx264, levels: [20, 70]}]"], "70"),
    ],
)
def test_bad_input_is_one_sentence(
    here: Path, fit: Callable[..., None], refused: Callable[..., str], words: list[str], sentence: str
) -> None:
    assert sentence in refused(fit, "--data.counts.synthetic=24", *words)
