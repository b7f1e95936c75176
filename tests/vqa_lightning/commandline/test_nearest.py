"""The nearest right name, among names that lie at many levels."""

import pytest

from vqa_lightning.commandline.nearest import nearest, not_a_setting

KNOWN = (
    *("data.batch_size", "data.teachers", "data.later.shares"),
    *("data.counts.teacher", "data.counts.reference", "data.later.hard.share"),
    *("data.labelling.blur", "data.labelling.teacher_weights", "data.drawing.reference_ladders"),
    *("model.lmm.embedded.patch_size", "model.loss.pairwise", "model.scoring.draws", "model.score_by"),
    *("trainer.max_epochs", "trainer.callbacks", "callbacks.SelfImprovement.ladders"),
    "callbacks.SelfImprovement.epochs_per_round",
)


@pytest.mark.parametrize(
    ("typed", "right"),
    [
        ("data.batchsize", "data.batch_size"),
        ("batch_size", "data.batch_size"),
        ("data.blur", "data.labelling.blur"),
        ("data.teacher_weights", "data.labelling.teacher_weights"),
        ("data.teacher_pairs", "data.counts.teacher"),
        ("data.reference_pairs", "data.counts.reference"),
        ("data.counts.teachers", "data.counts.teacher"),
        ("data.later.hard.shares", "data.later.hard.share"),
        ("data.hard_share", "data.later.hard.share"),
        ("model.lmm.patchsize", "model.lmm.embedded.patch_size"),
        ("model.pairwise_loss", "model.loss.pairwise"),
        ("model.score_draws", "model.scoring.draws"),
        ("modle.score_by", "model.score_by"),
        ("epochs_per_round", "callbacks.SelfImprovement.epochs_per_round"),
        ("trainer.callbacks.ladders", "callbacks.SelfImprovement.ladders"),
        ("trainer.max", "trainer.max_epochs"),
        ("data.later.hard", "data.later.hard.share"),
        ("callbacks.SelfImprovment.ladder", "callbacks.SelfImprovement.ladders"),
    ],
)
def test_the_nearest_is_the_right_one(typed: str, right: str) -> None:
    assert nearest(typed, KNOWN) == right


def test_nothing_near_is_not_guessed() -> None:
    assert nearest("zzz", KNOWN) is None
    assert not_a_setting("--zzz", KNOWN) == "--zzz is not a setting; --help lists the settings."
