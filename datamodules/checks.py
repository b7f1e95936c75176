"""Checks of what a user gives, in one form of message: the thing, what it must be, what was given."""

import math
from collections.abc import Iterable

from datamodules.errors import InputError


def is_number(value: float | None) -> bool:
    """Return whether a cell of a table has a finite number.

    Example:
        >>> is_number(1.0), is_number(None), is_number(float("nan"))
        (True, False, False)
    """
    return value is not None and math.isfinite(value)


def check_that(holds: bool, name: str, must_be: str, given: object) -> None:
    """Check that a condition holds; the other checks are this one with words of their own.

    Args:
        holds: the condition.
        name: of the setting or argument, as a user knows it.
        must_be: what satisfies the condition, in words that follow "must be".
        given: what was given.

    Raises:
        InputError: the condition does not hold.

    Example:
        >>> shape = (3, 64, 64)
        >>> check_that(len(shape) == 4, "A clip", "of shape (T, 3, H, W)", shape)
        Traceback (most recent call last):
        datamodules.errors.InputError: A clip must be of shape (T, 3, H, W); got (3, 64, 64).
    """
    if not holds:
        raise InputError(f"{name} must be {must_be}; got {given}.")


def check_least(name: str, value: float, least: float) -> None:
    """Check that a value is not below the least one.

    Args:
        name: of the setting, as a user writes it.
        value: what was given; nan is refused.
        least: the least value that is allowed.

    Raises:
        InputError: the value is less.

    Example:
        >>> check_least("data.drawing.draws", 0, 1)
        Traceback (most recent call last):
        datamodules.errors.InputError: data.drawing.draws must be 1 or more; got 0.
    """
    check_that(value >= least, name, f"{least} or more", value)


def check_above(name: str, value: float, bound: float) -> None:
    """Check that a value is more than a bound; the arguments are those of `check_least`.

    Raises:
        InputError: the value is the bound, less, or nan.

    Example:
        >>> check_above("data.score_every", 0.0, 0)
        Traceback (most recent call last):
        datamodules.errors.InputError: data.score_every must be more than 0; got 0.0.
    """
    check_that(value > bound, name, f"more than {bound}", value)


def check_between(name: str, value: float, low: float, high: float) -> None:
    """Check that a value lies between two bounds, both allowed; the arguments are those of `check_least`.

    Raises:
        InputError: the value lies outside, or is nan.

    Example:
        >>> check_between("data.later.hard.share", 1.5, 0, 1)
        Traceback (most recent call last):
        datamodules.errors.InputError: data.later.hard.share must be from 0 to 1; got 1.5.
    """
    check_that(low <= value <= high, name, f"from {low} to {high}", value)


def check_choice(name: str, value: object, choices: Iterable[object]) -> None:
    """Check that a value is one of the choices.

    Raises:
        InputError: the value is another.

    Example:
        >>> check_choice("data.later.hard.rule", "worst", ("gmad", "loss"))
        Traceback (most recent call last):
        datamodules.errors.InputError: data.later.hard.rule must be one of gmad, loss; got 'worst'.
    """
    known = list(choices)
    check_that(value in known, name, f"one of {', '.join(map(str, known))}", repr(value))
