"""The four-parameter logistic: its optimum against a search from everywhere, its limits, its speed."""

import time

import numpy as np
import pytest
from scipy.optimize import curve_fit

from datamodules.errors import InputError
from vqa_lightning.metrics.logistic import Logistic, fit_logistic


def square_error(curve: Logistic, x: np.ndarray, y: np.ndarray) -> float:
    return float(((curve(x) - y) ** 2).sum())


def field_fit(x: np.ndarray, y: np.ndarray, starts: int, generator: np.random.Generator) -> float:
    """The least error that the field's own way, curve_fit on all four parameters, finds from many starts."""

    def curve(x: np.ndarray, b1: float, b2: float, b3: float, b4: float) -> np.ndarray:
        return b2 + (b1 - b2) / (1 + np.exp(np.clip(-(x - b3) / abs(b4), -500, 500)))

    errors = []
    for _ in range(starts):
        guess = [y.max(), y.min(), generator.choice(x), x.std() * 10 ** generator.uniform(-2, 1)]
        if generator.random() < 0.5:
            guess[:2] = guess[1::-1]
        try:
            found, _ = curve_fit(curve, x, y, guess, maxfev=400)
        except RuntimeError:  # curve_fit's word for too many steps
            continue
        errors.append(float(((curve(x, *found) - y) ** 2).sum()))
    return min(errors)


@pytest.mark.filterwarnings("ignore::scipy.optimize.OptimizeWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize("noise", [0.2, 1.0, 4.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_no_start_of_the_usual_fit_finds_a_better_curve(noise: float, sign: int) -> None:
    generator = np.random.default_rng(0)
    for n in (8, 30, 120):
        x = generator.normal(size=n)
        y = sign * np.tanh(2 * x) + noise * generator.normal(size=n)
        ours = square_error(fit_logistic(x, y), x, y)
        # curve_fit may run into limits that the bounded family only approaches: a millionth of all variance
        assert ours <= field_fit(x, y, 25, generator) + 1e-6 * len(x) * y.var()


def test_a_curve_without_noise_is_found_again() -> None:
    x = np.linspace(20, 80, 50)
    for truth in (Logistic(90, 10, 55, 8), Logistic(1, 5, 40, 3)):
        # least squares to 1e-10 of a sum that vanishes: parameters to about the root of it
        assert fit_logistic(x, truth(x)) == pytest.approx(truth, rel=1e-4)


def test_shift_and_unit_of_scores_do_not_matter() -> None:
    generator = np.random.default_rng(1)
    x = generator.normal(size=200)
    y = np.tanh(x) + 0.3 * generator.normal(size=200)
    base = fit_logistic(x, y)
    moved = fit_logistic(1e6 + 1e-3 * x, 50 + 10 * y)
    # at 1e6 a double resolves the scores to 1e-7 of their deviation
    assert moved(1e6 + 1e-3 * x) == pytest.approx(50 + 10 * base(x), abs=1e-4)


def test_outliers_and_steps() -> None:
    generator = np.random.default_rng(2)
    x = np.concatenate([generator.normal(size=100), [1e4, -1e5]])
    y = np.tanh(x) + 0.1 * generator.normal(size=102)
    assert np.corrcoef(fit_logistic(x, y)(x), y)[0, 1] > 0.98
    step = (x > 0.3).astype(float)
    assert square_error(fit_logistic(x, step), x, step) == pytest.approx(0, abs=1e-6)


def test_it_is_quick() -> None:
    generator = np.random.default_rng(3)
    x = generator.normal(size=7000)
    y = np.tanh(x) + 0.5 * generator.normal(size=7000)
    begin = time.perf_counter()
    first = fit_logistic(x, y)
    middle = time.perf_counter()
    again = fit_logistic(x, y, first)
    end = time.perf_counter()
    assert middle - begin < 1  # 35 ms alone; a loaded machine may be much slower
    assert end - middle < 0.2  # 2 ms alone
    assert again == pytest.approx(first, rel=1e-4)


def test_what_cannot_be_fitted_is_said() -> None:
    with pytest.raises(InputError, match="three or more"):
        fit_logistic([1, 2], [1, 2])
    with pytest.raises(InputError, match="Scores must be finite; got nan in row 3, 1 such"):
        fit_logistic([1, 2, np.nan], [1, 2, 3])
    with pytest.raises(InputError, match="got scores that are all alike"):
        fit_logistic([1, 1, 1], [1, 2, 3])
    with pytest.raises(InputError, match="got opinions that are all alike"):
        fit_logistic([1, 2, 3], [1, 1, 1])
