"""Pairs on which two scores disagree most: group maximum differentiation (gMAD).

The pairs of one bin share no video, so that one odd clip cannot fill a list by itself.
"""

import numpy as np
import numpy.typing as npt


def gmad_pairs(
    attacker: npt.NDArray[np.float64], defender: npt.NDArray[np.float64], count: int, bins: int = 5
) -> npt.NDArray[np.intp]:
    """Find pairs that the defender scores alike and the attacker does not (Ma et al., CVPR 2016, TPAMI 2018).

    Videos are cut into equally filled bins by the defender's score. A bin's first pair is what the attacker
    scores lowest and highest in it, its second what comes next from either end, and so on.

    Args:
        attacker: (n,) scores, any unit.
        defender: (n,) scores of the same videos, any unit.
        count: how many pairs at most.
        bins: number of bins; more of them make the defender's scores in a pair more alike.

    Returns:
        (k, 2) indices, the one the attacker scores lower first: all bins' first pairs, the largest gap of the
        attacker first, then their second ones; k may be below `count`, for pairs without a gap are left out.
    """
    found: list[tuple[int, float, int, int]] = []
    for members in np.array_split(np.argsort(defender, kind="stable"), bins):
        ranked = members[np.argsort(attacker[members], kind="stable")]
        for place in range(min(len(ranked) // 2, count)):
            low, high = int(ranked[place]), int(ranked[-1 - place])
            found.append((place, float(attacker[high] - attacker[low]), low, high))
    found = sorted((pair for pair in found if pair[1] > 0), key=lambda pair: (pair[0], -pair[1]))
    return np.array([pair[2:] for pair in found[:count]], dtype=np.intp).reshape(-1, 2)
