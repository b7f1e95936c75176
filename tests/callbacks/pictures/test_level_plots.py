import numpy as np
import pytest
from matplotlib.figure import Figure

from callbacks.pictures.cards import card_style
from callbacks.pictures.level_plots import confusion, plot_confusion, plot_flips


def words(figure: Figure) -> list[str]:
    """All that is written in the first axes besides ticks."""
    return [text.get_text() for text in figure.axes[0].texts]


class TestConfusion:
    def test_counts_given_by_predicted(self) -> None:
        counts = confusion([0, 0, 4, 2], [0, 1, 4, 3])
        assert counts.sum() == 4
        assert counts[0].tolist() == [1, 1, 0, 0, 0]
        assert counts[2, 3] == counts[4, 4] == 1

    def test_picture_shows_shares_of_the_row_and_numbers(self) -> None:
        figure = plot_confusion("", confusion([0, 0, 0, 4], [0, 0, 1, 4]))
        assert {"67%\n2", "33%\n1", "100%\n1"} <= set(words(figure))

    def test_a_level_that_was_never_given_is_said_to_be_so(self) -> None:
        assert words(plot_confusion("", confusion([0], [0]))).count("no such pair") == 4


class TestFlips:
    def test_bars_and_flipped_share_follow_the_counts(self) -> None:
        flow = np.zeros((5, 5), dtype=np.int64)
        flow[0, 0], flow[0, 4] = 3, 1
        figure = plot_flips("", ["0", "1"], [flow])
        assert "25% flipped" in words(figure)
        heights = np.array([bar.get_height() for bar in figure.axes[0].patches]).reshape(2, 5)
        assert heights.tolist() == [[1, 0, 0, 0, 0], [0.75, 0, 0, 0, 0.25]]

    @pytest.mark.parametrize("rounds", [1, 4])
    def test_is_drawn_at_the_size_of_a_card(self, rounds: int) -> None:
        flow = np.full((5, 5), 2)
        with card_style():
            figure = plot_flips("title", [str(one) for one in range(rounds + 1)], [flow] * rounds)
        assert figure.get_figwidth() * figure.dpi == 700
        figure.draw_without_rendering()
