import io
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from callbacks.rounds.report import print_rounds, print_teachers, print_truth
from callbacks.rounds.rows import RoundRow, TeacherRow, pair_counts, write_rows
from datamodules.labels import Consensus, Labelling
from datamodules.pairs.drawing import evaluation_pairs
from datamodules.pairs.scored import teacher_pairs

ROUND = RoundRow(
    round=1,
    pairs={"synthetic": 48, "teacher": 0, "reference": 0, "hard": 4},
    rank_accuracy=0.75,
    level_accuracy=0.5,
    flipped=np.nan,
    seconds=10.04,
    srcc={"truth": {"student": 0.25}, "severity": {"student": 1.0}, "teacher": {"niqe": np.nan}},
    probe=(0.5, 0.4, 0.6),
    verdict="rejected",
    label_entropy=2.0,
    score_spread=1.0,
    annotation_seconds=2.0,
)
TRUTH = {"student": (0.25, 0.125, 0.375), "over_best": (0.5, 0.25, 0.75)}
TEACHER = TeacherRow("niqe", "0a", 0.3, -0.02, 0.52, "order", 1.0, "noise")


class TestRoundRow:
    def test_the_file_is_as_it_ever_was(self, tmp_path: Path) -> None:
        write_rows(tmp_path / "rounds.csv", [ROUND])
        assert (tmp_path / "rounds.csv").read_text() == (
            "round,pairs_synthetic,pairs_teacher,pairs_reference,pairs_hard,rank_accuracy,level_accuracy,"
            "flipped,seconds,truth_srcc_student,severity_srcc_student,teacher_srcc_niqe,"
            "probe,probe_low,probe_high,verdict,label_entropy,score_spread,annotation_seconds\n"
            "1,48,0,0,4,0.750000,0.500000,nan,10.0,0.250000,1.000000,nan,"
            "0.500000,0.400000,0.600000,rejected,2.000000,1.000000,2.0\n"
        )

    def test_intervals_of_the_truth_stand_at_the_end(self) -> None:
        columns = replace(ROUND, truth=TRUTH).columns()
        before = len(ROUND.columns())
        assert dict(list(columns.items())[before:]) == {
            "truth_low_student": 0.125,
            "truth_high_student": 0.375,
            "truth_over_best": 0.5,
            "truth_over_best_low": 0.25,
            "truth_over_best_high": 0.75,
        }

    def test_what_people_say_stands_before_the_probe(self) -> None:
        row = replace(ROUND, pairs=ROUND.pairs | {"human": 6}, srcc=ROUND.srcc | {"mos": {"student": 0.1}})
        columns = row.columns()
        before, people = [*ROUND.columns()], ["pairs_human", "mos_srcc_student"]
        place = before.index("probe")
        assert [*columns] == [*before[:place], *people, *before[place:]]
        assert [columns[name] for name in people] == [6, 0.1]

    def test_survives_a_checkpoint(self) -> None:
        stream = io.BytesIO()
        told = replace(ROUND, flipped=0.5, srcc={"truth": {"student": None}}, truth=TRUTH)
        torch.save(asdict(told), stream)
        stream.seek(0)
        assert RoundRow(**torch.load(stream, weights_only=True)) == told


def test_files_are_replaced_whole_and_an_empty_cell_is_no_number(tmp_path: Path) -> None:
    file = tmp_path / "rounds.csv"
    write_rows(file, [ROUND])
    write_rows(file, [replace(ROUND, srcc={"truth": {"student": None}})])
    assert ",10.0,,0.500000," in file.read_text()
    assert list(tmp_path.iterdir()) == [file]


def test_teachers_are_written_with_what_judged_them(tmp_path: Path) -> None:
    write_rows(tmp_path / "teachers.csv", [TEACHER])
    assert (tmp_path / "teachers.csv").read_text() == (
        "teacher,fingerprint,agreement,low,high,with,weight,verdict\n"
        "niqe,0a,0.300000,-0.020000,0.520000,order,1.000000,noise\n"
    )


class TestPrinted:
    @pytest.fixture(autouse=True)
    def narrow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "80")

    def test_rounds_fit_eighty_columns_and_leave_open_what_was_not_measured(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        print_rounds([ROUND], ["niqe"])
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= 80
        assert ["1", "52", "0.750", "0.500!", "-", "-", "+0.25", "10"] in [line.split() for line in lines]

    def test_truth_is_told_with_its_intervals(self, capsys: pytest.CaptureFixture[str]) -> None:
        print_truth(replace(ROUND, truth=TRUTH))
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= 80
        cells = [line.split() for line in lines]
        assert ["student", "+0.25", "+0.12..+0.38"] in cells
        assert ["student", "less", "best", "teacher", "+0.50", "+0.25..+0.75"] in cells

    @pytest.mark.parametrize("verdict", ["sound", "noise"])
    def test_teachers_fit_eighty_columns_and_noise_is_explained(
        self, verdict: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        print_teachers([replace(TEACHER, teacher="artefacts", verdict=verdict)])
        printed = capsys.readouterr().out
        assert max(map(len, printed.splitlines())) <= 80
        assert ("may be chance" in " ".join(printed.split())) == (verdict == "noise")


def test_pair_counts_add_up() -> None:
    consensus = Consensus(tuple("abcd"), np.arange(4.0), np.ones(4))
    ladder = {"blur": 2, "noise": 2}
    scored = teacher_pairs(np.random.default_rng(0), consensus, 5, draws=8, labelling=Labelling())
    pairs = pa.concat_tables([evaluation_pairs(list("abcd"), ladder, 7, seed=0), scored])
    counts = {"synthetic": 7, "teacher": 5, "reference": 0, "hard": 0}
    assert pair_counts(pairs, human=False) == counts
    assert pair_counts(pairs, human=True) == counts | {"human": 0}
