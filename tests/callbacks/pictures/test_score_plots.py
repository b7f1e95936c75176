import numpy as np

from callbacks.pictures.score_plots import complete_ladders, plot_annotators, plot_severity


class TestCompleteLadders:
    def test_takes_videos_of_which_every_level_is_scored(self) -> None:
        scores = {("a", None, 0): 3.0, ("a", "blur", 1): 2.0, ("a", "blur", 2): 1.0}
        scores |= {("b", None, 0): 9.0, ("b", "blur", 1): 8.0}
        assert complete_ladders(scores, ["a", "b", "c"], "blur", 2).tolist() == [[3, 2, 1]]

    def test_is_empty_with_a_column_a_level_where_none_is(self) -> None:
        assert complete_ladders({}, ["a"], "blur", 2).shape == (0, 3)


class TestSeverity:
    def test_draws_the_mean_over_contents_by_simulator(self) -> None:
        scores = np.array([[60, 50, 40], [50, 40, 20]], dtype=float)
        figure = plot_severity("", {"blur": scores, "jpeg": np.empty((0, 4))})
        blur, jpeg = figure.axes[:2]
        assert [axes.get_title() for axes in (blur, jpeg)] == ["blur", "jpeg"]
        assert blur.lines[-1].get_ydata().tolist() == [55, 45, 30]
        assert [text.get_text() for text in jpeg.texts] == ["not scored"]

    def test_many_contents_have_no_lines_of_their_own(self) -> None:
        figure = plot_severity("", {"blur": np.random.default_rng(0).normal(size=(50, 6))})
        assert len(figure.axes[0].lines) == 1


class TestAnnotators:
    def test_each_has_a_picture_with_its_srcc(self) -> None:
        student = np.array([40.0, 50, 60])
        figure = plot_annotators("", student, {"niqe": (-student, -1.0), "ssim": (student / 100, 1.0)})
        assert [axes.get_title() for axes in figure.axes] == ["niqe\nSRCC -1.00", "ssim\nSRCC +1.00"]
        assert figure.axes[1].collections[0].get_offsets().tolist() == [[0.4, 40], [0.5, 50], [0.6, 60]]
