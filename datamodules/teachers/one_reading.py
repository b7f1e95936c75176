"""Teachers that cut clips alike, in one pass: each clip is read, encoded and distorted for all of them once.

What several teachers ask of a frame is computed once, too (`pictures`).

Without a GPU, light teachers score in the workers that read: two cores then do twice the work of one, which
torch's own threads hardly do on frames of this size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import islice

from datamodules.errors import InputError
from datamodules.labels import Annotator, ClipDataset, LabelStore, Request
from datamodules.labels.annotation import Parts, annotate_missing, missing_requests
from datamodules.teachers.batch import batches
from datamodules.teachers.scored_clips import Onlooker, Scoring
from datamodules.teachers.teacher import Teacher

CLIPS = 32
"""Read before every teacher scores them."""


def alike(annotators: Sequence[Annotator]) -> Iterator[list[Annotator]]:
    """Yield the annotators in groups that can be shown the same clips, in order of the first of each.

    Example:
        >>> from datamodules import NIQE, Laplacian
        >>> [[one.name for one in group] for group in alike([NIQE(), Laplacian()])]
        [['niqe', 'laplacian']]
    """
    groups: dict[object, list[Annotator]] = {}
    for annotator in annotators:
        if isinstance(annotator, Teacher) and _is_shown_clips(annotator):
            key: object = str(_cut(annotator))
        else:
            key = id(annotator)
        groups.setdefault(key, []).append(annotator)
    yield from groups.values()


def _is_shown_clips(teacher: Teacher) -> bool:
    """Return whether it scores what it is shown; others find their clips themselves."""
    return type(teacher).annotate is Teacher.annotate


def _cut(teacher: Teacher) -> tuple[object, ...]:
    return asdict(teacher.sampling), teacher.draws, teacher.pad, str(teacher.device)


def _by_limits(teachers: Sequence[Teacher]) -> list[tuple[tuple[int, int], list[Teacher]]]:
    """Return the teachers that can be shown the same batches, behind the most clips and bytes of a batch."""
    groups: dict[tuple[int, int], list[Teacher]] = {}
    for teacher in teachers:
        groups.setdefault((teacher.batch_clips, teacher.batch_bytes), []).append(teacher)
    return list(groups.items())


def annotate_together(
    annotators: Sequence[Annotator],
    requests: Sequence[Request],
    store: LabelStore,
    *,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
    onlooker: Onlooker | None = None,
) -> dict[str, int]:
    """Have annotators score what the store lacks of each, as `annotate_missing` does for one, in round 0.

    Args:
        annotators: one group of `alike`.
        requests: all that is to be scored, by all ranks together.
        store: where scores are kept.
        rank: this process.
        world_size: the number of processes.
        workers: processes that read clips, of this rank.
        onlooker: is shown every request whose clips are read for teachers, with its clips.

    Returns:
        Name of each annotator -> how many scores were computed here.

    Raises:
        InputError: the store cannot be written to.
    """
    teachers = [one for one in annotators if isinstance(one, Teacher) and _is_shown_clips(one)]
    if not teachers:
        (only,) = annotators
        done = annotate_missing(only, requests, store, 0, rank=rank, world_size=world_size, workers=workers)
        return {only.name: done}
    lacking = {
        teacher.name: missing_requests(teacher, requests, store, 0, rank, world_size) for teacher in teachers
    }
    wanted = list({one.key: one for some in lacking.values() for one in some}.values())
    if not wanted:
        return dict.fromkeys(lacking, 0)
    store.require_writable()
    parts = {teacher.name: Parts(teacher, store, 0, rank) for teacher in teachers}
    keys = {name: {request.key for request in some} for name, some in lacking.items()}
    for teacher in teachers:
        if lacking[teacher.name]:
            teacher.fit(workers)
        # After a restart only the clips on which it failed may be missing: the fault is not the teacher's.
        teacher.proven |= bool(store.have(0, teacher.fingerprint))
    there = [one for one in teachers if one.in_workers and one.device.type == "cpu"]
    others = [one for one in teachers if one not in there]
    by_limits = _by_limits(others)
    scoring = Scoring(there, keys, None if onlooker is None else onlooker.look, clips=bool(others))
    first, named = teachers[0], {teacher.name: teacher for teacher in teachers}
    items = ClipDataset(wanted, first.sampling, first.draws, first.pad, scoring).read(workers)
    try:
        while some := list(islice(items, CLIPS)):
            for item in some:
                if isinstance(item.said, InputError):
                    raise item.said
                for name, annotation in item.said:
                    if annotation is None:
                        video = wanted[item.position].video
                        named[name].fail_on(video, f"{name} failed on {video.path}")
                    else:
                        named[name].proven = True
                        parts[name].add(annotation)
                if onlooker is not None and item.seen is not None:
                    onlooker.keep(wanted[item.position], item.seen)
            for (most, most_bytes), group in by_limits:
                for batch in batches(wanted, some, first.device, max(1, most // first.draws), most_bytes):
                    for teacher in group:
                        if (own := batch.of(keys[teacher.name])).items:
                            for annotation in teacher.annotate_batch(own):
                                parts[teacher.name].add(annotation)
    finally:
        for part in parts.values():
            part.flush()  # also on Ctrl-C
    for name, part in parts.items():
        part.tell(len(lacking[name]))
    return {name: part.count for name, part in parts.items()}
