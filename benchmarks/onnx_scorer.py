"""What a scorer in ONNX takes beside the model that it was made of: size, difference and time.

    python benchmarks/onnx_scorer.py CKPT [--clips FOLDER] [--turns 5]

The checkpoint is exported into a temporary folder. Both score the middle clip of every video, one clip at a
time and on one thread, in turns; decoding is not counted. The ratio is that of the summed medians.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from datamodules.corpus import build_corpus, videos
from datamodules.video import read_clip
from vqa_lightning.annotators.checkpoint_teacher import load_checkpoint
from vqa_lightning.commands.export import export_model

CLIPS = Path(__file__).resolve().parents[2] / "shared" / "data" / "clips"


def main() -> None:
    """Print one row a size of frame."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ckpt", type=Path)
    parser.add_argument("--clips", type=Path, default=CLIPS)
    parser.add_argument("--turns", type=int, default=5)
    given = parser.parse_args()
    import onnxruntime  # of an extra

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scorer.onnx"
        export_model(file, given.ckpt, format="onnx")
        size = file.stat().st_size
        one_thread = onnxruntime.SessionOptions()
        one_thread.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(file, one_thread)
    module = load_checkpoint(given.ckpt)
    table = Table("frames", "clips", "torch ms", "ONNX ms", "ratio", "largest difference", box=SIMPLE)
    rows: dict[str, list[tuple[float, float, float]]] = {}
    for video in videos(build_corpus(given.clips)):
        clip = read_clip(video, module.score_sampling).frames[None]
        taken: tuple[list[float], list[float]] = ([], [])
        for _ in range(given.turns):
            start = perf_counter()
            with torch.inference_mode():
                score = module.published(module.rate_video(clip), module.scale[0])[0]
            middle = perf_counter()
            (found,) = session.run(None, {"frames": clip.numpy()})
            for times, seconds in zip(taken, (middle - start, perf_counter() - middle), strict=True):
                times.append(seconds)
        difference = (torch.from_numpy(found) - score).abs().max().item()
        rows.setdefault(f"{video.width}x{video.height}", []).append((*map(median, taken), difference))
    rows["all"] = [row for group in rows.values() for row in group]
    for name, group in rows.items():
        torchs, onnxs, differences = zip(*group, strict=True)
        cells = f"{1e3 * sum(torchs) / len(group):.0f}", f"{1e3 * sum(onnxs) / len(group):.0f}"
        ratio = f"{sum(torchs) / sum(onnxs):.2f}"
        table.add_row(name, str(len(group)), *cells, ratio, f"{max(differences):.0e}")
    Console().print(table)
    print(f"{size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
