"""A mistake in words or configs is one sentence that names the setting, and settings of callbacks arrive."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from vqa_lightning.cli import main

CONFIGS = {
    "deep.yaml": "model: {lmm: {patchsize: 8}}",
    "group.yaml": "modle: {score_by: pointwise}",
    "data.yaml": "data: {class_path: RoundDataModule, init_args: {batchsize: 8}}",
    "callback.yaml": "trainer: {callbacks: {class_path: callbacks.SelfImprovement, init_args: {ladder: 3}}}",
    "hard.yaml": "data: {class_path: RoundDataModule, init_args: {later: {hard: {shares: 1}}}}",
    "rule.yaml": "data: {class_path: RoundDataModule, init_args: {later: {hard: {rule: x}}}}",
    "broken.yaml": "a: b: c",
    "empty.yaml": "",
    "trainer.yaml": "trainer: {max_epohcs: 3}",
}

RULE = "--data.later.hard.rule must be one of gmad, loss, confidence, random; got x."

Told = Callable[..., str]


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Told:
    """The one line on stderr with which a command ends."""
    monkeypatch.chdir(tmp_path)
    for name, text in CONFIGS.items():
        Path(name).write_text(text)

    def end(*words: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        return line.removeprefix("error: ")

    return end


@pytest.mark.parametrize(
    ("words", "typed", "right"),
    [
        (["--data.batchsize", "8"], "data.batchsize", "data.batch_size"),
        (["--data.batchsize=8"], "data.batchsize", "data.batch_size"),
        (["batch_size", "8"], "batch_size", "data.batch_size"),
        (["--data.teacher", "5"], "data.teacher", "data.teachers"),
        (["--data.counts.teachers", "3"], "data.counts.teachers", "data.counts.teacher"),
        (["--data.later.hard.shares", "1"], "data.later.hard.shares", "data.later.hard.share"),
        (["--data.labelling.blurr", ".3"], "data.labelling.blurr", "data.labelling.blur"),
        (["--data.splits.sed", "1"], "data.splits.sed", "data.splits.seed"),
        (["--config", "hard.yaml"], "data.later.hard.shares", "data.later.hard.share"),
        (["--data", "VideoDataModule", "--data.scoreevery", "1"], "data.scoreevery", "data.score_every"),
        (["--model.sampling.frame", "3"], "model.sampling.frame", "model.sampling.frames"),
        (["--modle.score_by", "x"], "modle.score_by", "model.score_by"),
        (["--trainer.max_epochz", "4"], "trainer.max_epochz", "trainer.max_epochs"),
        (["--frce"], "frce", "force"),
        (
            ["--trainer.callbacks.ladders", "4"],
            "trainer.callbacks.ladders",
            "callbacks.SelfImprovement.ladders",
        ),
        (["--epochs_per_round", "2"], "epochs_per_round", "callbacks.SelfImprovement.epochs_per_round"),
        (["--config", "group.yaml"], "modle.score_by", "model.score_by"),
        (["--config", "data.yaml"], "data.batchsize", "data.batch_size"),
        (["--config", "callback.yaml"], "trainer.callbacks.ladder", "callbacks.SelfImprovement.ladders"),
        (["--config", "trainer.yaml"], "trainer.max_epohcs", "trainer.max_epochs"),
        (
            ["--callbacks.SelfImprovement.ladder", "4"],
            "callbacks.SelfImprovement.ladder",
            "callbacks.SelfImprovement.ladders",
        ),
    ],
)
def test_an_unknown_setting_ends_with_the_nearest(
    words: list[str], typed: str, right: str, told: Told
) -> None:
    assert told("fit", "--config", "round.yaml", *words) == (
        f"--{typed} is not a setting; the nearest is --{right}."
    )


@pytest.mark.parametrize("words", [["--model.lmm.patchsize", "8"], ["--config", "deep.yaml"]])
def test_a_setting_of_the_embedded_model(words: list[str], told: Told) -> None:
    sentence = told("fit", "--config", "round.yaml", *words)
    assert sentence.startswith("--model.lmm.patchsize is not a setting; the nearest is --model.lmm.")
    assert sentence.endswith("patch_size.")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--data.batch_size", "x"], "--data.batch_size must be a whole number; got x."),
        (["--trainer.max_epochs", "x"], "--trainer.max_epochs must be a whole number or null; got x."),
        (
            ["--trainer.devices", "[1"],
            "--trainer.devices must be auto or a number or list of devices; got [1.",
        ),
        (["--data", "Foo"], "--data must be the import path of a class; got Foo."),
        (["--data.later.hard.rule", "x"], RULE),
        (["--config", "rule.yaml"], RULE),
        (["--model.score_by", "x"], "--model.score_by must be one of pairwise, pointwise; got x."),
        (["--data.counts", "3"], "--data.counts must be a mapping such as {a: 1}; got 3."),
        (["--model.loss", "3"], "--model.loss must be a mapping such as {a: 1}; got 3."),
        (["--data.teachers", "3"], "--data.teachers must be a list such as [a, b] or null; got 3."),
        (
            ["--callbacks.SelfImprovement.relabel", "nosuch"],
            "--callbacks.SelfImprovement.relabel must be one of replace, blend, never; got nosuch.",
        ),
        (
            ["--callbacks.SelfImprovement.ladders=four"],
            "--callbacks.SelfImprovement.ladders must be a whole number; got four.",
        ),
        (["--config", "broken.yaml"], "--config must be a YAML mapping; got broken.yaml (line 1, column 5)."),
        (["--config", "empty.yaml"], "--config must be a YAML mapping; got empty.yaml."),
        (["other.yaml"], "other.yaml must follow a flag; a config is given by --config other.yaml."),
        (["-x", "3"], "-x is not a setting; --help lists the settings."),
        (["--model.score_by"], "--model.score_by must be followed by a value; got none."),
        (
            ["--callbacks.ModelCheckpoint.mode"],
            "--callbacks.ModelCheckpoint.mode must be followed by a value; got none.",
        ),
        (
            ["--callbacks.ModelCheckpoint.mode", "max"],
            "--callbacks.ModelCheckpoint.mode must say which of 2 callbacks it means, "
            "as in --callbacks.ModelCheckpoint.0.mode.",
        ),
        (
            ["--callbacks.SelfImprovment.ladders=4"],
            "--callbacks.SelfImprovment.ladders names a callback that no config lists; "
            "the nearest is --callbacks.SelfImprovement.ladders.",
        ),
        (
            ["--trainer.callbacks=null", "--callbacks.SelfImprovement.ladders=4"],
            "--callbacks.SelfImprovement.ladders names a callback that no config lists; "
            "the configs list none.",
        ),
    ],
)
def test_a_wrong_value_is_named_with_what_must_be(words: list[str], sentence: str, told: Told) -> None:
    assert told("fit", "--config", "round.yaml", *words) == sentence


def test_the_other_commands_name_the_nearest_too(told: Told) -> None:
    sentence = told("agreement", "--frist", "a.csv", "--second", "b.csv", "--labels", "c.csv")
    assert sentence == "--frist is not a setting; the nearest is --first."


@pytest.mark.parametrize("flag", [["--callbacks.SelfImprovement.ladders", "four"], ["--callbacks.Foo.bar=4"]])
def test_a_callbacks_flag_may_stand_before_the_subcommand(flag: list[str], told: Told) -> None:
    before, after = told(*flag, "fit", "--config", "round.yaml"), told("fit", "--config", "round.yaml", *flag)
    assert before == after
    assert before.startswith("--callbacks.")


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    with pytest.raises(SystemExit) as ended:
        main(["fit", "--config", "round.yaml", *words, "--print_config"])
    assert ended.value.code in (0, None)
    config: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
    return config


def test_callbacks_are_set_by_class_name(capsys: pytest.CaptureFixture[str]) -> None:
    plain = printed(capsys)
    changed = printed(
        capsys,
        *("--callbacks.SelfImprovement.ladders", "4", "--callbacks.ModelCheckpoint.1.filename=newest"),
        "--callbacks.LearningRateMonitor.log_momentum=true",
    )
    before, after = ({**one["trainer"]} for one in (plain, changed))
    expected = {"SelfImprovement": ("ladders", 4), "LearningRateMonitor": ("log_momentum", True)}
    checkpoints = []
    for old, new in zip(before.pop("callbacks"), after.pop("callbacks"), strict=True):
        assert old["class_path"] == new["class_path"]
        name = old["class_path"].rpartition(".")[2]
        if name == "ModelCheckpoint":
            checkpoints.append(new["init_args"]["filename"])
        elif name in expected:
            setting, value = expected[name]
            old["init_args"][setting] = value
            assert old == new
    assert checkpoints == ["best", "newest"]
    assert before == after
    assert {**plain, "trainer": None} == {**changed, "trainer": None}


@pytest.mark.parametrize(
    ("words", "right"),
    [
        ("fit --config round.yaml --trainer.max_epoch 2", "--trainer.max_epochs"),
        ("fit --config round.yaml --data.video x", "--data.videos"),
        ("fit --config round.yaml --data=VideoDataModule --data.score 1", "--data.score_every"),
        ("fit --config round.yaml --model.lmm.embedded.image 32", "--model.lmm.embedded.image_size"),
        (
            "fit --config round.yaml --callbacks.SelfImprovement.ladder 3",
            "--callbacks.SelfImprovement.ladders",
        ),
        ("fit --conf round.yaml", "--config"),
        ("fit --print_conf", "--print_config"),
        ("fit --ckpt last", "--ckpt_path"),
        ("predict --fail-bel 3", "--fail-below"),
        ("predict --forc", "--force"),
        ("export --form onnx", "--format"),
        ("pairs export --outpu x", "--output"),
        ("select --coun 3", "--count"),
        ("compare a b --ckpt x", "--ckpt_path"),
        ("curate s.csv --dedup", "--dedupe"),
        ("report s.csv --outpu x", "--output"),
        ("gmad --outpu x", "--output"),
        ("agreement --lab x", "--labels"),
    ],
)
def test_half_a_name_is_refused_in_every_command(words: str, right: str, told: Told) -> None:
    typed = next(
        word
        for word in words.split()
        if word.startswith("--") and word != "--config" and right.startswith(word)
    )
    assert told(*words.split()) == f"{typed} is not a setting; the nearest is {right}."
