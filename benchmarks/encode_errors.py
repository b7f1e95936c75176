"""Does P(B better) of two encodes of one content come true, with what their errors share and without it?

    python benchmarks/encode_errors.py --ckpt_path runs/round/version_0/checkpoints/last.ckpt [--every 3]

The encodes are those of benchmarks/carry_over.py: ladders of four encoders from real clips. Of every two
rungs of a ladder the milder is the better. `compare` takes the difference of the two scores over its standard
error, in which clips at the same places share what makes them hard or easy. Beside it stands the error as if
both scores erred apart. The script prints for all pairs of rungs and for neighbours the share that is in
order, the mean confidence, the expected calibration error, the mean surprise (negative log-likelihood, in
nats) and the median standard error of a difference.
"""

from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from carry_over_clips import sources
from carry_over_fidelity import all_rows
from experiment import arguments, table
from rich.console import Console
from scipy.special import log_ndtr, ndtr

from datamodules.files import cache_folder
from vqa_lightning import Scorer
from vqa_lightning.metrics.reliability import reliability

LADDERS = ("x264", "x265", "vp9", "av1")


def main() -> None:
    """Score the ladders and print."""
    parser = arguments(__doc__)
    parser.add_argument("--ckpt_path", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="has clips/ and real/")
    parser.add_argument("--versions", type=Path, help="where versions lie; by default in the cache")
    parser.add_argument("--every", type=int, default=1, help="take one clip in so many")
    options = parser.parse_args()
    torch.set_num_threads(1)
    scorer = Scorer(options.ckpt_path)
    clips = sources(options.data)[:: options.every]
    pairs = []
    for rows in all_rows(clips, options.versions or cache_folder() / "carry_over", LADDERS):
        for ladder in LADDERS:
            rungs = sorted((row for row in rows if row.ladder == ladder), key=lambda row: row.level)
            found = scorer.score_encodes([rung.file for rung in rungs])
            for milder, harsher in combinations(range(len(rungs)), 2):
                change, stderr = found.difference(harsher, milder)
                apart = np.hypot(found.stderr[milder], found.stderr[harsher])
                pairs.append((harsher - milder, change, stderr, apart))
    steps, changes, shared, apart = np.array(pairs).T
    figures = ("in order", "confidence", "ECE", "surprise", "stderr")
    shown = table(f"{len(clips)} clips, {len(pairs)} pairs of rungs", ("pairs", "errors"), figures)
    for name, chosen in (("all", steps > 0), ("neighbours", steps == 1)):
        for errors, stderr in (("shared", shared[chosen]), ("apart", apart[chosen])):
            z = changes[chosen] / stderr
            curve = reliability(ndtr(z), np.ones(len(z)))
            values = (curve.mean_accuracy, curve.mean_confidence, curve.ece, -log_ndtr(z).mean())
            cells = [f"{value:.3f}" for value in values]
            shown.add_row(name, errors, *cells, f"{np.median(stderr):.2f}")
    Console(width=100).print(shown)


if __name__ == "__main__":
    main()
