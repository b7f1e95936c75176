"""Any settings survive the YAML that a run writes, and the checkpoint that it leaves."""

from collections.abc import Callable
from functools import cache
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonargparse import ActionConfigFile, Namespace

from datamodules import RoundDataModule
from vqa_lightning.annotators.checkpoint_teacher import load_checkpoint
from vqa_lightning.commandline.parser import Parser
from vqa_lightning.training import RankingModule

FLOATS = st.floats(1e-6, 1, exclude_min=True)
NAMES = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=12)
MODEL: dict[str, st.SearchStrategy[Any]] = {
    "sampling.frames": st.integers(1, 16),
    "scoring.draws": st.integers(2, 5),
    "scoring.whole": st.booleans(),
    "score_by": st.sampled_from(["pointwise", "pairwise"]),
}
DATA: dict[str, st.SearchStrategy[Any]] = {
    "videos": st.none() | NAMES,
    "batch_size": st.integers(1, 64),
    "counts.teacher": st.integers(0, 10**9),
    "labelling.blur": FLOATS,
    "labelling.teacher_weights": st.sampled_from(["agreement", "equal"]),
    "later.shares": st.dictionaries(st.sampled_from(["synthetic", "teacher"]), FLOATS),
    "references.doubt": FLOATS,
    "references.without": st.lists(st.sampled_from(["jpeg", "noise", "chains"]), unique=True),
    "splits.seed": st.integers(0, 2**31),
}


def some_of(values: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=values)


@cache
def parser() -> Parser:
    made = Parser()
    made.add_argument("--config", action=ActionConfigFile)
    made.add_lightning_class_args(RankingModule, "model")
    made.add_lightning_class_args(RoundDataModule, "data")
    return made


def nested(values: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in values.items():
        *groups, last = name.split(".")
        branch = tree
        for group in groups:
            branch = branch.setdefault(group, {})
        branch[last] = value
    return tree


@given(some_of(MODEL), some_of(DATA))
def test_settings_come_back_from_the_yaml_that_is_written_of_them(model, data) -> None:
    with TemporaryDirectory() as folder:
        first = Path(folder, "given.yaml")
        first.write_text(yaml.safe_dump({"model": nested(model), "data": nested(data)}))
        config = parser().parse_args(["--config", str(first)])
        written = parser().dump(config, skip_unset=False)
        for group, values in (("model", model), ("data", data)):
            for name, value in values.items():
                found = config[f"{group}.{name}"]
                assert (found.as_dict() if isinstance(found, Namespace) else found) == value
        second = Path(folder, "written.yaml")
        second.write_text(written)
        again = parser().parse_args(["--config", str(second)])
        assert parser().dump(again, skip_unset=False) == written


@settings(max_examples=settings.default.max_examples // 5)
@given(model=some_of({name: MODEL[name] for name in ("scoring.draws", "scoring.whole", "score_by")}))
def test_a_checkpoint_is_loaded_with_the_settings_it_was_trained_with(
    model, save_checkpoint: Callable[..., Path]
) -> None:
    words = [f"{name}={str(value).lower()}" for name, value in model.items()]
    with TemporaryDirectory() as folder:
        path = save_checkpoint(Path(folder, "last.ckpt"), *words)
        module = load_checkpoint(path)
    for name, value in model.items():
        assert attrgetter(name)(module) == value
