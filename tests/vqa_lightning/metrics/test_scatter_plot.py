import numpy as np
import pytest

from vqa_lightning.metrics.logistic import fit_logistic
from vqa_lightning.metrics.scatter_plot import MANY, plot_agreement


@pytest.mark.parametrize(("n", "scales"), [(40, 1), (MANY, 2)])
def test_thousands_of_videos_are_drawn_as_density_with_a_scale_of_its_own(n: int, scales: int) -> None:
    generator = np.random.default_rng(0)
    mos = generator.uniform(1, 5, n)
    scores = 50 + 5 * mos + generator.normal(size=n)
    unknown = np.full(n, np.nan)
    curve = fit_logistic(scores, mos)
    figure = plot_agreement("a set", scores, np.ones(n), mos, unknown, curve)
    assert len(figure.axes) == scales
    (line,) = (line for line in figure.axes[0].lines if line.get_label() == "four-parameter logistic")
    np.testing.assert_array_equal(line.get_ydata(), curve(line.get_xdata()))
    assert (line.get_xdata()[0], line.get_xdata()[-1]) == (scores.min(), scores.max())
    figure.canvas.draw()


def test_a_set_without_videos_is_an_empty_picture() -> None:
    nothing = np.empty(0)
    figure = plot_agreement("a set", nothing, nothing, nothing, nothing, None)
    figure.canvas.draw()
    assert not [line for line in figure.axes[0].lines if len(line.get_xdata())]
