"""The data sets on which video quality models are compared: lists, scales, signs and sources of each.

"The same" set has several lists in circulation, which differ in rows and even in scale. Each list is named by
the code release that it comes from. No score and no video of the sets is kept here.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

from datamodules.opinions.mos import Opinions

Domain = Literal["in-domain", "out-of-domain"]

Scale = tuple[float, float]


class PublishedList(NamedTuple):
    """A list of a set's opinions.

    Attributes:
        rows: how many videos it names.
        scale: the ends of the scale that its numbers lie on; None where there is no such scale, as for scale
            values of paired comparisons and for scores of several tests brought into line.
    """

    rows: int
    scale: Scale | None = (0.0, 100.0)


class Benchmark(NamedTuple):
    """A data set with human opinions.

    Attributes:
        lists: release -> its list of this set.
        citation: authors, title, venue, year.
        url: page of the project, where the videos are or are asked for; None where no page is known for sure.
        domain: the average of W2S-VQA (arXiv 2505.03631) that counts this set; None: neither average does.
        higher_is_better: whether a larger number in its lists means a better video.
        average_repeated: whether the list is known to name videos twice.
    """

    lists: Mapping[str, PublishedList]
    citation: str
    url: str | None
    domain: Domain | None = None
    higher_is_better: bool = True
    average_repeated: bool = False

    def release(self, opinions: Opinions) -> str | None:
        """Find the release whose list has as many rows; of several such releases, one whose scale fits."""
        found = [name for name, known in self.lists.items() if known.rows == len(opinions.names)]
        numbers = opinions.mos if self.higher_is_better else -opinions.mos
        fitting = [name for name in found if _covers(self.lists[name].scale, numbers.min(), numbers.max())]
        return next(iter(fitting or found), None)


def _covers(scale: Scale | None, low: np.float64, high: np.float64) -> bool:
    return scale is None or bool(scale[0] <= low and high <= scale[1])


_FIVE = (1.0, 5.0)

_FAST_VQA, _W2S, _BVQA, _MINIMALISTIC = "FAST-VQA/DOVER", "W2S-VQA", "BVQA_Benchmark", "MinimalisticVQA"

_PATCH_VQ = (
    "Z. Ying, M. Mandal, D. Ghadiyaram, A. Bovik: Patch-VQ: 'Patching Up' the Video Quality Problem. "
    "CVPR 2021",
    "https://github.com/baidut/PatchVQ",
)

_LIVE = "https://live.ece.utexas.edu/research"

_VMAF = "https://github.com/Netflix/vmaf/blob/master/resource/doc/datasets.md"

BENCHMARKS: dict[str, Benchmark] = {
    "LSVQ-test": Benchmark(
        {_FAST_VQA: PublishedList(7186), _W2S: PublishedList(7182)}, *_PATCH_VQ, "in-domain"
    ),
    "LSVQ-1080p": Benchmark(
        {_FAST_VQA: PublishedList(3573), _W2S: PublishedList(3573)}, *_PATCH_VQ, "in-domain"
    ),
    "KoNViD-1k": Benchmark(
        # W2S-VQA multiplies by 20.
        {
            _FAST_VQA: PublishedList(1200, _FIVE),
            _BVQA: PublishedList(1200, _FIVE),
            _W2S: PublishedList(1200, (20.0, 100.0)),
        },
        "V. Hosu, F. Hahn, M. Jenadeleh, H. Lin, H. Men, T. Szirányi, S. Li, D. Saupe: The Konstanz "
        "natural video database (KoNViD-1k). QoMEX 2017",
        "https://database.mmsp-kn.de/konvid-1k-database.html",
        "in-domain",
    ),
    "LIVE-VQC": Benchmark(
        {_FAST_VQA: PublishedList(585), _BVQA: PublishedList(585), _W2S: PublishedList(585)},
        "Z. Sinno, A. C. Bovik: Large-Scale Study of Perceptual Video Quality. IEEE TIP 28(2), 2019",
        f"{_LIVE}/LIVEVQC/index.html",
        "in-domain",
    ),
    "YouTube-UGC": Benchmark(
        {
            _FAST_VQA: PublishedList(1147, _FIVE),
            _W2S: PublishedList(1020, _FIVE),
            _BVQA: PublishedList(1380, _FIVE),
        },
        "Y. Wang, S. Inguva, B. Adsumilli: YouTube UGC Dataset for Video Compression Research. MMSP 2019",
        "https://media.withyoutube.com",
        "in-domain",
    ),
    "LIVE-YT-Gaming": Benchmark(
        {_W2S: PublishedList(600), _MINIMALISTIC: PublishedList(600)},
        "X. Yu, Z. Ying, N. Birkbeck, Y. Wang, B. Adsumilli, A. C. Bovik: Subjective and Objective "
        "Analysis of Streamed Gaming Videos. IEEE Transactions on Games, 2023",
        f"{_LIVE}/LIVE-YT-Gaming/index.html",
        "out-of-domain",
    ),
    "CGVDS": Benchmark(
        # The seven-point continuous scale of ITU-T P.809; means rise with the bitrate from 2.2 to 5.3.
        {_W2S: PublishedList(357, (1.0, 7.0))},
        "S. Zadtootaghaj, S. Schmidt, S. S. Sabet, S. Möller, C. Griwodz: Quality Estimation Models for "
        "Gaming Video Streaming Services Using Perceptual Video Quality Dimensions. MMSys 2020",
        None,
        "out-of-domain",
    ),
    "LIVE-YT-HFR": Benchmark(
        # It rises with the frame rate: 38 at 24 frames/s, 57 at 120 on average.
        {_W2S: PublishedList(480)},
        "P. C. Madhusudana, X. Yu, N. Birkbeck, Y. Wang, B. Adsumilli, A. C. Bovik: Subjective and "
        "Objective Quality Assessment of High Frame Rate Videos. IEEE Access 9, 2021",
        f"{_LIVE}/LIVE_YT_HFR/LIVE_YT_HFR/index.html",
        "out-of-domain",
    ),
    "Waterloo-IVC-4K": Benchmark(
        {_W2S: PublishedList(1200)},
        "Z. Li, Z. Duanmu, W. Liu, Z. Wang: AVC, HEVC, VP9, AVS2 or AV1? A Comparative Study of "
        "State-of-the-Art Video Encoders on 4K Videos. ICIAR 2019",
        "https://ivc.uwaterloo.ca/database/4KVQA.html",
        "out-of-domain",
    ),
    "KVQ": Benchmark(
        {_W2S: PublishedList(2926, _FIVE)},
        "Y. Lu, X. Li, Y. Pei, K. Yuan, Q. Xie, Y. Qu, M. Sun, C. Zhou, Z. Chen: KVQ: Kwai Video Quality "
        "Assessment for Short-form Videos. CVPR 2024",
        "https://lixinustc.github.io/projects/KVQ/",
        "out-of-domain",
    ),
    "LSVQ-train": Benchmark({_FAST_VQA: PublishedList(28056)}, *_PATCH_VQ),
    "KoNViD-150k-B": Benchmark(
        {_MINIMALISTIC: PublishedList(1576, _FIVE)},
        "F. Götz-Hahn, V. Hosu, H. Lin, D. Saupe: KonVid-150k: A Dataset for No-Reference Video Quality "
        "Assessment of Videos in-the-Wild. IEEE Access 9, 2021",
        "https://database.mmsp-kn.de/konvid-150k-vqa-database.html",
    ),
    "CVD2014": Benchmark(
        # FAST-VQA's are realigned over the six tests, down to -6.5; MinimalisticVQA's are each test's own,
        # rounded: the two agree at PLCC .85 only.
        {_MINIMALISTIC: PublishedList(234), _FAST_VQA: PublishedList(234, None)},
        "M. Nuutinen, T. Virtanen, M. Vaahteranoksa, T. Vuori, P. Oittinen, J. Häkkinen: CVD2014 - A "
        "Database for Evaluating No-Reference Video Quality Assessment Algorithms. IEEE TIP 25(7), 2016",
        "https://zenodo.org/records/2646315",
    ),
    "LIVE-Qualcomm": Benchmark(
        {_FAST_VQA: PublishedList(208)},
        "D. Ghadiyaram, J. Pan, A. C. Bovik, A. K. Moorthy, P. Panda, K.-C. Yang: In-Capture Mobile Video "
        "Distortions: A Study of Subjective Behavior and Objective Algorithms. IEEE TCSVT 28(9), 2018",
        f"{_LIVE}/incaptureDatabase/index.html",
    ),
    "LIVE-VQA": Benchmark(
        # A difference from the reference: the larger, the worse. Two of its 150 videos are not listed.
        {_FAST_VQA: PublishedList(148)},
        "K. Seshadrinathan, R. Soundararajan, A. C. Bovik, L. K. Cormack: Study of Subjective and "
        "Objective Quality Assessment of Video. IEEE TIP 19(6), 2010",
        f"{_LIVE}/quality/live_video.html",
        higher_is_better=False,
    ),
    "CVQAD": Benchmark(
        # Of 1022 rows three name a video again, with another score.
        {_FAST_VQA: PublishedList(1019, None)},
        "A. Antsiferova, S. Lavrushkin, M. Smirnov, A. Gushchin, D. Vatolin, D. Kulikov: Video "
        "compression dataset and benchmark of learning-based video-quality metrics. NeurIPS 2022 Datasets "
        "and Benchmarks",
        "https://videoprocessing.ai/datasets/cvqad.html",
        average_repeated=True,
    ),
    "NFLX-public": Benchmark(
        {"VMAF/SUREAL": PublishedList(79, _FIVE)},
        "Z. Li, A. Aaron, I. Katsavounidis, A. Moorthy, M. Manohara: Toward a Practical Perceptual Video "
        "Quality Metric. Netflix Technology Blog, 2016",
        _VMAF,
    ),
    "VQEG-HD3": Benchmark(
        {"VMAF/SUREAL": PublishedList(72, _FIVE)},
        "Video Quality Experts Group: Report on the Validation of Video Quality Models for High "
        "Definition Video Content. 2010",
        _VMAF,
    ),
}
"""Name -> data set, sets of the two averages first. Rows and signs are as found in the lists themselves."""
