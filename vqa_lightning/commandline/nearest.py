"""The nearest right name of a setting that a user has misspelt or typed at the wrong level."""

from collections.abc import Collection
from difflib import SequenceMatcher

_LEAST = 0.6
"""Likeness, from 0 to 1, below which a name is no help."""

_BESIDE = 0.8
"""Likeness of its last part from which a name in the same group is meant, whatever others are like."""


def not_a_setting(typed: str, known: Collection[str]) -> str:
    """Return the sentence on a flag that is no setting, with the nearest one that is.

    Args:
        typed: the flag, with dashes.
        known: names of all settings, without dashes.

    Example:
        >>> not_a_setting("--data.blur", ["data.labelling.blur", "data.batch_size"])
        '--data.blur is not a setting; the nearest is --data.labelling.blur.'
    """
    name = nearest(typed.removeprefix("--"), known)
    if name is None:
        return f"{typed} is not a setting; --help lists the settings."
    return f"{typed} is not a setting; the nearest is --{name}."


def nearest(typed: str, known: Collection[str]) -> str | None:
    """Return the known name that is most like a typed one; None if none is like it.

    What a name begins with is most like it, for that is how a name is shortened. The last part of a name
    counts twice, for whole settings are moved more often than they are renamed.

    Args:
        typed: parts joined by dots, such as `data.batchsize`.
        known: names in the same form.

    Example:
        >>> nearest("epochs_per_round", ["callbacks.SelfImprovement.epochs_per_round", "trainer.max_epochs"])
        'callbacks.SelfImprovement.epochs_per_round'
    """
    if begun := [name for name in known if typed and name.startswith(typed)]:
        return min(begun, key=lambda name: (len(name), name))
    group, _, last = typed.rpartition(".")
    beside = [name for name in known if group and name.rpartition(".")[0] == group]
    ranked = [(ratio, name) for name in beside if (ratio := _ratio(last, name.rpartition(".")[2])) >= _BESIDE]
    ranked = ranked or [(_likeness(typed, name), name) for name in known]
    best = max(ranked, key=lambda one: one[0], default=(0.0, ""))
    return best[1] if best[0] >= _LEAST else None


def _likeness(typed: str, name: str) -> float:
    own, other = typed.rpartition(".")[2], name.rpartition(".")[2]
    last = _ratio(own, other)
    if set(other.split("_")) <= set(own.split("_")) and own != other:
        last = max(last, 0.9)  # teacher_pairs for counts.teacher
    return (2 * last + _ratio(typed, name)) / 3


def _ratio(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other).ratio()
