"""Labels of any margins and severities are distributions that mirror and follow them."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from datamodules.labels.levels import LEVELS, hard_levels, preference, severity_levels, soft_levels

MARGINS = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20).map(lambda one: torch.tensor(one).double())
BLURS = st.one_of(st.just(0.0), st.floats(1e-3, 10))
CUTS = st.tuples(st.floats(1e-3, 5), st.floats(1e-3, 5)).map(lambda one: (one[0], one[0] + one[1]))


@given(MARGINS, CUTS, BLURS)
def test_labels_are_distributions(margin, cuts, blur) -> None:
    levels = soft_levels(margin, cuts, blur)
    assert levels.shape == (*margin.shape, len(LEVELS))
    assert (levels >= 0).all()
    torch.testing.assert_close(levels.sum(dim=-1), torch.ones_like(margin))


@given(MARGINS, CUTS, BLURS)
def test_the_other_order_of_a_pair_has_the_mirrored_label(margin, cuts, blur) -> None:
    forward, backward = soft_levels(margin, cuts, blur), soft_levels(-margin, cuts, blur)
    torch.testing.assert_close(backward, forward.flip(-1), atol=1e-12, rtol=0)
    torch.testing.assert_close(preference(backward), 1 - preference(forward), atol=1e-12, rtol=0)


@given(MARGINS, CUTS, BLURS)
def test_the_preference_rises_with_the_margin(margin, cuts, blur) -> None:
    preferred = preference(soft_levels(margin.sort().values, cuts, blur))
    assert (preferred.diff() >= -1e-12).all()


@given(MARGINS, CUTS)
def test_little_blur_gives_the_hard_label_away_from_the_cuts(margin, cuts) -> None:
    distance = (margin.abs()[:, None] - torch.tensor(cuts)).abs().min(dim=-1).values
    margin = margin[distance > 1e-2]
    sharp, hard = soft_levels(margin, cuts, 1e-3), soft_levels(margin, cuts, 0)
    assert torch.equal(hard_levels(sharp), hard_levels(hard))


SEVERITIES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=20)


@given(SEVERITIES)
def test_severities_turned_round_mirror_their_label(pairs) -> None:
    first, second = torch.tensor(pairs).T
    levels = severity_levels(first, second)
    assert torch.equal(levels, severity_levels(second, first).flip(-1))
    assert torch.equal((preference(levels) - 0.5).sign().long(), (first - second).sign())
