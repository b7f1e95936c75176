"""Checks of settings, in one form of message: the setting, what it must be, what was given."""

from collections.abc import Iterable

from datamodules.errors import InputError


def check_least(name: str, value: float, least: float) -> None:
    """Check that a value is not below the least one.

    Args:
        name: of the setting, as a user writes it.
        value: what was given; nan is refused.
        least: the least value that is allowed.

    Raises:
        InputError: the value is less.

    Example:
        >>> check_least("data.draws", 0, 1)
        Traceback (most recent call last):
        datamodules.errors.InputError: data.draws must be 1 or more; got 0.
    """
    if not value >= least:
        raise InputError(f"{name} must be {least} or more; got {value}.")


def check_above(name: str, value: float, bound: float) -> None:
    """Check that a value is more than a bound; the arguments are those of `check_least`.

    Raises:
        InputError: the value is the bound, less, or nan.
    """
    if not value > bound:
        raise InputError(f"{name} must be more than {bound}; got {value}.")


def check_between(name: str, value: float, low: float, high: float) -> None:
    """Check that a value lies between two bounds, both allowed; the arguments are those of `check_least`.

    Raises:
        InputError: the value lies outside, or is nan.
    """
    if not low <= value <= high:
        raise InputError(f"{name} must be from {low} to {high}; got {value}.")


def check_choice(name: str, value: object, choices: Iterable[object]) -> None:
    """Check that a value is one of the choices.

    Raises:
        InputError: the value is another.

    Example:
        >>> check_choice("data.hard.rule", "worst", ("gmad", "loss"))
        Traceback (most recent call last):
        datamodules.errors.InputError: data.hard.rule must be one of gmad, loss; got 'worst'.
    """
    known = list(choices)
    if value not in known:
        raise InputError(f"{name} must be one of {', '.join(map(str, known))}; got {value!r}.")
