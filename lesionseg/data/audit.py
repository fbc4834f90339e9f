"""The audit of a data set: what is wrong with its files, which photos come twice, and its fingerprint.

One way through: ``gather_folders`` or a manifest gives cases, ``examine_cases`` looks at each file once, ``audit``
draws the conclusions.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lesionseg.data.case_ids import case_id_of, drop_lesion_ending, masks_among
from lesionseg.data.checks import check_case
from lesionseg.data.duplicates import SAME_PHOTO, cluster, find_duplicates
from lesionseg.data.examine import Examination, examine
from lesionseg.data.findings import KINDS, Finding, Severity, found
from lesionseg.data.images import IMAGE_SUFFIXES
from lesionseg.data.pairing import list_pictures
from lesionseg.records import Case

__all__ = ["QUANTILES", "Audit", "Fingerprint", "audit", "examine_cases", "gather_folders"]

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
"""Of the lesion fractions in a fingerprint."""

# In robust standard deviations (median absolute deviation times 1.4826).
_FAR = 5.5
_LEAST_CASES = 20
# Least standard deviations: of log2 of the area and of the aspect ratio, of L*, a* and b*, of the logit of the lesion's
# share. Where a set is more uniform than this, its outliers are harmless.
_SIZE_SPREAD, _SHAPE_SPREAD, _COLOUR_SPREAD, _LESION_SPREAD = 0.5, 0.125, 4.0, 0.5


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A data set in numbers; two copies of one set have the same.

    Attributes:
        cases, photos, masks: in all, with a readable photo, with a readable mask.
        splits, diagnoses: name -> cases; empty where nothing is known.
        sizes: (width, height) -> photos, in pixels, the most frequent first.
        lesion: share of the photo that is lesion, at ``QUANTILES``; empty without masks.
        mean, std: of R, G, B in [0, 1], over all pixels, each photo with the same weight; empty without photos.
        digest: SHA-256 over ids and the SHA-256 of photos and masks.
    """

    cases: int
    photos: int
    masks: int
    splits: Mapping[str, int]
    diagnoses: Mapping[str, int]
    sizes: Mapping[tuple[int, int], int]
    lesion: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    digest: str


@dataclass(frozen=True, slots=True)
class Audit:
    """What came of an audit.

    Attributes:
        findings: the gravest first, then in the order of ``KINDS``, the clearest first.
        fingerprint: the data set in numbers.
        cases: those that were looked at, in their order.
    """

    findings: tuple[Finding, ...]
    fingerprint: Fingerprint
    cases: tuple[Case, ...]

    def count(self, severity: Severity) -> int:
        """How many findings are so grave."""
        return sum(finding.severity is severity for finding in self.findings)


# --- from folders and manifests to cases ------------------------------------------------------------------------------


def gather_folders(images: Path, masks: Path) -> tuple[list[Case], list[Finding]]:
    """Pairs two folders by id as far as it goes; unlike ``pair_folders`` it refuses nothing but tells what is missing.

    Args:
        images: folder with the photos.
        masks: folder with the masks; where it is the same, masks are known by their names.

    Returns:
        one case per photo, sorted by id, without a mask where there is none; and what was found on the way.

    Raises:
        PairingError: a folder cannot be listed or holds no picture.
    """
    photos, labels = list_pictures(images), list_pictures(masks, (*IMAGE_SUFFIXES, ".nii", ".nii.gz"))
    if images.resolve() == masks.resolve():
        named = masks_among(labels)
        photos = [path for path in photos if path not in named]
        labels = [path for path in labels if path in named]
    photo_of, findings = _by_id(photos)
    mask_of, more = _by_id(labels)
    findings += more
    mask_of = drop_lesion_ending(mask_of, photo_of.keys())
    for case_id in sorted(photo_of.keys() ^ mask_of.keys()):
        told = f"no mask for {photo_of[case_id]}" if case_id in photo_of else f"no photo for {mask_of[case_id]}"
        findings.append(found("unpaired", [case_id], told))
    return [Case(case_id, path, mask_of.get(case_id)) for case_id, path in sorted(photo_of.items())], findings


def _by_id(files: Iterable[Path]) -> tuple[dict[str, Path], list[Finding]]:
    paths: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        paths[case_id_of(path)].append(path)
    collisions = [
        found("id-collision", [case_id], ", ".join(map(str, several)) + ": only the first was looked at")
        for case_id, several in sorted(paths.items())
        if len(several) > 1
    ]
    return {case_id: several[0] for case_id, several in paths.items()}, collisions


def examine_cases(
    cases: Sequence[Case], progress: Callable[[int, int], None] | None = None, threads: int | None = None
) -> list[Examination]:
    """Looks at every file once.

    Args:
        cases: ids once each.
        progress: called with (done, total) after each.
        threads: by default a few more than there are processors.
    """
    looks = []
    with ThreadPoolExecutor(threads) as pool:
        for look in pool.map(examine, cases):
            looks.append(look)
            if progress:
                progress(len(looks), len(cases))
    return looks


# --- conclusions ------------------------------------------------------------------------------------------------------


def audit(looks: Sequence[Examination], known: Iterable[Finding] = ()) -> Audit:
    """Draws the conclusions from what was seen.

    Args:
        looks: one per case, ids once each.
        known: findings from before, as ``gather_folders`` gives them.
    """
    findings = [*known, *(finding for look in looks for finding in check_case(look))]
    told = {finding.case_ids[0] for finding in findings if finding.kind == "unpaired"}
    findings += [finding for finding in _unlabelled(looks) if finding.case_ids[0] not in told]
    findings += _duplicates(looks)
    findings += _divided_groups([look.case for look in looks])
    findings += _outliers(looks)
    severities, kinds = list(Severity), list(KINDS)
    findings.sort(key=lambda f: (severities.index(f.severity), kinds.index(f.kind), -f.strength))
    return Audit(tuple(findings), _fingerprint(looks), tuple(look.case for look in looks))


def _unlabelled(looks: Sequence[Examination]) -> Iterator[Finding]:
    # A set without any mask is one for inference.
    if any(look.case.mask for look in looks):
        for look in looks:
            if look.case.mask is None:
                yield found("unpaired", [look.case.case_id], f"no mask for {look.case.image}")


def _duplicates(looks: Sequence[Examination]) -> Iterator[Finding]:
    first: dict[str, int] = {}
    pairs = [(first.setdefault(look.photo_sha256 or str(at), at), at) for at, look in enumerate(looks)]
    chosen = [(at, looks[at].photo) for at in sorted(first.values())]
    seen = [(at, photo.signature) for at, photo in chosen if photo is not None]
    strongest: dict[int, float] = {}
    across: dict[int, float] = {}
    for duplicate in find_duplicates([signature for _, signature in seen]):
        one, other = seen[duplicate.first][0], seen[duplicate.second][0]
        pairs.append((one, other))
        for at in (one, other):
            strongest[at] = max(strongest.get(at, 0.0), duplicate.correlation)
            if looks[one].case.split != looks[other].case.split:
                across[at] = max(across.get(at, 0.0), duplicate.correlation)
    for members in cluster(len(looks), pairs):
        found_in = [looks[at] for at in members]
        # How sure a leak is depends on what crosses the splits.
        counted = across if len({look.case.split for look in found_in} - {""}) > 1 else strongest
        yield _repeated(found_in, max(counted.get(at, 0.0) for at in members))


def _repeated(looks: Sequence[Examination], correlation: float) -> Finding:
    """A finding on cases that show one lesion; ``correlation`` is the highest among those that differ in bytes."""
    case_ids = [look.case.case_id for look in looks]
    splits = sorted({look.case.split for look in looks} - {""})
    # Copies within one split are no leak.
    kinds = {(look.photo_sha256, look.case.split if len(splits) > 1 else str(at)) for at, look in enumerate(looks)}
    same = len({sha for sha, _ in kinds}) < len(kinds)
    sure = same or correlation >= SAME_PHOTO
    what = "one photo or one sitting" if correlation >= SAME_PHOTO else "probably one lesion"
    near = f"{what}: registered fine detail correlates by {correlation:.2f}" if correlation else ""
    told = "; ".join(part for part in ("the same file, byte for byte" if same else "", near) if part)
    strength = 1.0 if same else correlation
    if len(splits) > 1:
        where = f"in {' and '.join(splits)}; {told}"
        return found("split-leak", case_ids, where, None if sure else Severity.WARNING, strength=strength)
    kind = "near-duplicate" if correlation else "same-bytes"
    return found(kind, case_ids, told, None if sure else Severity.NOTE, strength=strength)


def _divided_groups(cases: Sequence[Case]) -> Iterator[Finding]:
    groups: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        if case.split:
            groups[case.group].append(case)
    for group, members in groups.items():
        splits = sorted({case.split for case in members})
        if len(splits) > 1:
            yield found("split-leak", [c.case_id for c in members], f"group {group} is in {' and '.join(splits)}")


def _outliers(looks: Sequence[Examination]) -> Iterator[Finding]:
    photos = [(look.case.case_id, look.photo) for look in looks if look.photo is not None]
    masks = [(look.case.case_id, look.mask) for look in looks if look.mask and 0 < look.mask.fraction < 1]
    if len(photos) >= _LEAST_CASES:
        sizes = np.array([(photo.width, photo.height) for _, photo in photos], np.float64)
        logs = np.log2(np.column_stack([sizes.prod(1), sizes[:, 0] / sizes[:, 1]]))
        usual = f"{np.median(sizes[:, 0]):.0f} x {np.median(sizes[:, 1]):.0f}"
        for at in _far(logs, (_SIZE_SPREAD, _SHAPE_SPREAD)):
            case_id, photo = photos[at]
            yield found("photo-size", [case_id], f"{photo.width} x {photo.height} pixels; usual is {usual}")
        colours = np.stack([photo.lab for _, photo in photos])
        usual = _lab(np.median(colours, axis=0))
        for at in _far(colours, (_COLOUR_SPREAD,) * 3):
            yield found("photo-colour", [photos[at][0]], f"mean colour {_lab(colours[at])}; usual is {usual}")
    if len(masks) >= _LEAST_CASES:
        shares = np.array([mask.fraction for _, mask in masks])
        logits = np.log(shares / (1 - shares))[:, None]
        for at in _far(logits, (_LESION_SPREAD,)):
            told = f"the lesion covers {shares[at]:.2%} of the photo; usual is {np.median(shares):.0%}"
            yield found("lesion-size", [masks[at][0]], told)


def _far(values: NDArray[np.float64], spread: tuple[float, ...]) -> list[int]:
    """Rows of ``N K`` that lie far from the median in any column."""
    away = np.abs(values - np.median(values, axis=0))
    scale = np.maximum(1.4826 * np.median(away, axis=0), spread)
    return [int(at) for at in np.flatnonzero((away > _FAR * scale).any(1))]


def _lab(colour: NDArray[np.float64]) -> str:
    return "L* {:.0f}, a* {:.0f}, b* {:.0f}".format(*colour)


def _fingerprint(looks: Sequence[Examination]) -> Fingerprint:
    photos = [look.photo for look in looks if look.photo is not None]
    shares = [look.mask.fraction for look in looks if look.mask is not None]
    mean = np.mean([photo.mean for photo in photos], axis=0) if photos else np.empty(0)
    square = np.mean([photo.square for photo in photos], axis=0) if photos else np.empty(0)
    digest = hashlib.sha256()
    for look in sorted(looks, key=lambda look: look.case.case_id):
        digest.update(
            f"{look.case.case_id}\0{look.photo_sha256}\0{look.mask_sha256}\n".encode(errors="surrogateescape")
        )
    return Fingerprint(
        cases=len(looks),
        photos=len(photos),
        masks=len(shares),
        splits=_counted(look.case.split for look in looks),
        diagnoses=_counted(look.case.labels.get("diagnosis", "") for look in looks),
        sizes=dict(Counter((photo.width, photo.height) for photo in photos).most_common()),
        lesion=tuple(float(share) for share in np.quantile(shares, QUANTILES)) if shares else (),
        mean=tuple(float(value) for value in mean),
        std=tuple(math.sqrt(max(0.0, float(value))) for value in square - mean**2),
        digest=digest.hexdigest(),
    )


def _counted(names: Iterable[str]) -> dict[str, int]:
    counts = Counter(names)
    # Where nothing is known, there is nothing to count.
    return {name or "unknown": count for name, count in counts.most_common()} if set(counts) - {""} else {}
