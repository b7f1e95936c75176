"""Two trivial students on pretrained early features: what the prior and the labels give without a model.

Each is trained on versions of other repositories' clips with VMAF as label, and judged on what it has not
seen. A checkpoint that they beat has added nothing to its own tower.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from carry_over_clips import fold_of
from carry_over_fidelity import Row
from scipy.stats import rankdata
from torch import Tensor, nn

from datamodules.files import written_whole
from datamodules.video import Sampling, probe, read_clip

Floats = npt.NDArray[np.float32]
Features = Callable[[Tensor], Tensor]
"""From frames (N, 3, H, W) in [0, 1] to (N, D)."""

RIDGE, LAYERS = "ridge on the tower", "two layers on it"

PLACES = (1 / 3, 2 / 3)
"""Parts of the clip at which the frames lie whose features are averaged."""

CLIP = 4.0
"""Deviations at which standardised features are cut off."""

PENALTY = 100.0
"""Of ridge: so many versions' worth of zeros for each standardised feature."""

WIDTH, DROPOUT, BATCH, STEPS, RATE, DECAY, SEEDS = 96, 0.5, 128, 1000, 1e-3, 1e-2, 4

VMAF_DOUBT = 5.0
"""Deviation of a difference of VMAF, by which it becomes the probability that one version is better."""

FOLDS = 4
"""Where all clips are judged, each fold of repositories by students of the others."""


def tower() -> Features | None:
    """Return the pretrained early tower's features, None where this package has none."""
    try:
        from vqa_lightning.lmm.quality_features import quality_features
    except ModuleNotFoundError:
        return None
    features: Features = quality_features
    return features


def describe(file: str, features: Features) -> Floats:
    """Return what the students see of a version, (D + 6,): features of two frames, and how frames differ."""
    video = probe(file)
    frames = (
        read_clip(video, Sampling(1, max(1, round(video.duration * video.fps)), window=None)).frames / 255
    )
    chosen = frames[[int(len(frames) * place) for place in PLACES]]
    with torch.inference_mode():
        seen = features(chosen).mean(dim=0)
    return torch.cat([seen, differences(frames)]).numpy()


def differences(frames: Tensor) -> Tensor:
    """Return six numbers of how the green channel of frames (T, 3, H, W) in [0, 1] changes, for repetition.

    They are of the mean absolute differences of neighbouring frames: mean, deviation, median, share below .15
    of the mean, maximum and minimum over the mean; zeros for a still clip.
    """
    steps = frames[:, 1].diff(dim=0).abs().mean(dim=(1, 2))
    if not len(steps) or steps.max() == 0:
        return frames.new_zeros(6)
    mean = steps.mean()
    low = (steps < 0.15 * mean).float().mean()
    return torch.stack(
        [mean, steps.std(correction=0), steps.median(), low, steps.max() / mean, steps.min() / mean]
    )


def described(rows: Sequence[Row], features: Features) -> Floats:
    """Return what is seen of the versions (n, D), kept beside them under a hash of the tower."""
    ramp = torch.linspace(0, 1, 3 * 224 * 224).view(1, 3, 224, 224)
    with torch.inference_mode():
        known = hashlib.sha256(features(ramp).numpy().round(3).tobytes()).hexdigest()[:8]
    found: dict[str, Floats] = {}
    for folder in dict.fromkeys(Path(row.file).parent for row in rows):
        file = folder / f"features-{known}.npz"
        kept = dict(np.load(file)) if file.is_file() else {}
        own = [row for row in rows if Path(row.file).parent == folder]
        missing = [row for row in own if row.video_id not in kept]
        if missing:
            kept |= {row.video_id: describe(row.file, features) for row in missing}
            with written_whole(file) as hidden, hidden.open("wb") as stream:
                np.savez(stream, **kept)
        found |= kept
    return np.stack([found[row.video_id] for row in rows])


def held_out(rows: Sequence[Row], judged: Sequence[bool]) -> Iterator[tuple[list[int], list[int]]]:
    """Yield places of versions to learn from and to judge, no repository being in both.

    Where every repository has a judged version, repositories are dealt into folds; otherwise the students
    learn from the repositories that have none.
    """
    repos = {row.repo for row, one in zip(rows, judged, strict=True) if one}
    places = range(len(rows))
    others = [place for place in places if rows[place].repo not in repos]
    wanted = [place for place in places if judged[place]]
    if others:
        yield others, wanted
        return
    for fold in range(FOLDS):
        inside = [place for place in wanted if fold_of(rows[place].repo, FOLDS) == fold]
        outside = [place for place in places if fold_of(rows[place].repo, FOLDS) != fold]
        if inside and outside:
            yield outside, inside


def student_scores(
    rows: Sequence[Row], judged: Sequence[bool], features: Features
) -> dict[str, npt.NDArray[np.float64]]:
    """Return the scores (n,) of both students for the judged versions, NaN for the others."""
    seen = described(rows, features)
    vmaf = np.array([math.nan if row.vmaf is None else row.vmaf for row in rows])
    found = {name: np.full(len(rows), math.nan) for name in (RIDGE, LAYERS)}
    for learnt, asked in held_out(rows, judged):
        learnt = [place for place in learnt if not math.isnan(vmaf[place])]
        first, second = standardised(seen[learnt], seen[asked])
        found[RIDGE][asked] = ridge(first, vmaf[learnt], second)
        found[LAYERS][asked] = two_layers(first, vmaf[learnt], second)
    return found


def standardised(learnt: Floats, asked: Floats) -> tuple[Tensor, Tensor]:
    """Standardise features by those that are learnt from, and cut both off at four deviations."""
    mean, deviation = learnt.mean(axis=0), learnt.std(axis=0)
    scaled = [(values - mean) / np.maximum(deviation, 1e-6) for values in (learnt, asked)]
    first, second = (torch.from_numpy(values.clip(-CLIP, CLIP)) for values in scaled)
    return first, second


def ridge(features: Tensor, vmaf: npt.NDArray[np.float64], asked: Tensor) -> npt.NDArray[np.float64]:
    """Fit ranks of VMAF by linear regression with a penalty; return the predictions for `asked`."""
    target = torch.from_numpy(rankdata(vmaf) / len(vmaf)).double()
    inputs = features.double()
    gram = inputs.T @ inputs + PENALTY * torch.eye(inputs.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(gram, inputs.T @ (target - target.mean()))
    return (asked.double() @ weights).numpy()


def two_layers(
    features: Tensor, vmaf: npt.NDArray[np.float64], asked: Tensor, steps: int = STEPS
) -> npt.NDArray[np.float64]:
    """Fit two layers by the probit loss of all pairs of a batch; return the mean score of several seeds."""
    labels = torch.from_numpy(vmaf).float()
    found = []
    for seed in range(SEEDS):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = nn.Sequential(
                nn.Linear(features.shape[1], WIDTH), nn.GELU(), nn.Dropout(DROPOUT), nn.Linear(WIDTH, 1)
            )
            optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
            for _ in range(steps):
                batch = torch.randint(len(features), (BATCH,))
                loss = pair_loss(model(features[batch])[:, 0], labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
            with torch.inference_mode():
                found.append(model.eval()(asked)[:, 0])
    return torch.stack(found).mean(dim=0).double().numpy()


def pair_loss(values: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of Phi(score difference) against Phi(VMAF difference over its doubt)."""
    first, second = torch.triu_indices(len(values), len(values), offset=1)
    difference = values[first] - values[second]
    better = torch.special.ndtr((labels[first] - labels[second]) / VMAF_DOUBT)
    log, log_other = torch.special.log_ndtr(difference), torch.special.log_ndtr(-difference)
    return -(better * log + (1 - better) * log_other).mean()
