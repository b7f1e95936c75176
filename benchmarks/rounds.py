"""Rank correlations of a finished run, round by round, with intervals over contents.

    python benchmarks/rounds.py runs/round/version_0

For every round's student, every teacher, their ensemble and the mean absolute Laplacian it prints, on the
report split, SRCC across contents against the hidden truth (embedded corpus only) and within content against
severity, and by how much the last student exceeds each of the others. Intervals are 95 % of a bootstrap over
contents.
"""

import csv
from pathlib import Path

import numpy as np
import yaml
from experiment import arguments, table, with_interval
from jsonargparse import ArgumentParser
from rich.console import Console

from callbacks.rounds.scores import Scores, ensemble_scores, scores_of, severity_srcc
from datamodules.labels import LabelStore, fit_consensus
from datamodules.procedural import read_truth
from datamodules.round_data import RoundDataModule
from datamodules.teachers import Laplacian, Teacher
from vqa_lightning.metrics import bootstrap_interval, srcc


def read_scores(run: Path, data: RoundDataModule) -> dict[str, Scores]:
    """Return each annotator's scores: students in order of rounds, teachers, ensemble and baseline."""
    labels = LabelStore(run / "labels").read()
    found: dict[str, Scores] = {}
    for number in sorted(set(labels["round"].to_pylist())):
        rows = labels.filter(np.asarray(labels["round"]) == number)
        found[f"student, round {number - 1}"] = scores_of(rows, rows["fingerprint"][-1].as_py())
    table = data.labels.read(round=0)
    annotators = [*data.teachers, Laplacian()]
    for annotator in annotators:
        if isinstance(annotator, Teacher):
            annotator.prepare(data.split("train"))
        found[annotator.name] = scores_of(table, annotator.fingerprint)
    with (run / "teachers.csv").open() as file:
        weights = {row["fingerprint"]: float(row["weight"]) for row in csv.DictReader(file)}
    train = [video.video_id for video in data.split("train")]
    fitted = fit_consensus(table, train, list(weights), weights=weights)
    found["ensemble"] = ensemble_scores(fitted, list(found["laplacian"]))
    return found


def main() -> None:
    """Print the table."""
    parser = arguments(__doc__)
    parser.add_argument("run", type=Path, help="a run folder, runs/NAME/version_N")
    run = parser.parse_args().run
    settings = yaml.safe_load((run / "config.yaml").read_text())["data"]
    made = ArgumentParser()
    made.add_subclass_arguments(RoundDataModule, "data")
    data = made.instantiate(made.parse_object({"data": settings})).data
    data.setup("fit")
    scores = read_scores(run, data)
    report = data.split("report")
    report = [v for v in report if all((v.video_id, None, 0) in own for own in scores.values())]
    contents = [video.content for video in report]
    truth = None
    if data.embedded is not None:
        hidden = read_truth(data.embedded)
        truth = np.array([hidden[content] for content in contents])
    columns = ("annotator", "across contents, truth", "last student above it by", "within content, severity")
    found = table(f"{run}: report split, {len(set(contents))} contents", columns)
    last = [name for name in scores if name.startswith("student")][-1]
    across = {name: np.array([own[v.video_id, None, 0] for v in report]) for name, own in scores.items()}
    for name, own in scores.items():
        cells = ["", ""]
        if truth is not None:
            interval = bootstrap_interval(srcc, across[name], truth, groups=contents)
            cells[0] = with_interval(srcc(across[name], truth), interval)
            if name != last:

                def gain(mine, other, hidden):  # type: ignore[no-untyped-def]
                    return srcc(mine, hidden) - srcc(other, hidden)

                arrays = (across[last], across[name], truth)
                cells[1] = with_interval(gain(*arrays), bootstrap_interval(gain, *arrays, groups=contents))
        within = np.array([severity_srcc(own, video, data.identity_ladder) for video in report])
        known = np.isfinite(within)
        groups = [content for content, there in zip(contents, known, strict=True) if there]
        interval = bootstrap_interval(np.mean, within[known], groups=groups)
        found.add_row(name, *cells, with_interval(float(within[known].mean()), interval))
    Console(width=120).print(found)


if __name__ == "__main__":
    main()
