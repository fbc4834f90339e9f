"""Model card and data card: what a reader has to know before believing the numbers.

After Mitchell et al. 2019, "Model cards for model reporting", arXiv:1810.03993, and Gebru et al. 2021, "Datasheets for
datasets", arXiv:1803.09010, as far as the run folders know the answers.
"""

from __future__ import annotations

from collections.abc import Sequence

from lesionseg import RESEARCH_USE
from lesionseg.evaluation.runs import RunResult, shared_groups
from lesionseg.evaluation.subgroups import subgroups_of

__all__ = ["LIMITS", "USE", "data_card", "model_cards"]

Card = list[tuple[str, str]]

USE = f"{RESEARCH_USE} To mark the lesion in a dermoscopy photo that shows one; it says nothing of what the lesion is."
"""What a model is for."""
LIMITS = (
    "Scores hold for photos like those scored here. Other cameras, skin tones and body sites that are rare or absent "
    "in the tables by subgroup may do worse. Intervals cover the choice of photos, not the chance in training."
)
"""Of every score."""


def model_cards(results: Sequence[RunResult]) -> list[tuple[str, Card]]:
    """Run name -> its card."""
    return [(result.name, _model_card(result)) for result in results]


def _model_card(result: RunResult) -> Card:
    info, means = result.info, result.summary["means"]
    scores = (
        f"Dice {means['dice']:.4f}, IoU {means['iou']:.4f} on {result.summary['n']} {result.summary['split']} photos"
    )
    if not result.trained:
        return [
            ("What it is", f"Predictions of another tool, read from {info['predictions']}"),
            ("Scores", scores),
            ("Use", USE),
            ("Limits", LIMITS),
        ]
    config, parts = info["config"], info["parameters"]
    size = config["data"].get("image_size")
    shape = " x ".join(map(str, reversed(size))) + " pixels, " if isinstance(size, list) else ""
    architecture = config.get("model", {}).get("architecture", "segmentation model")
    frozen = "frozen" if config["optim"]["encoder_lr"] == 0 else "trained"
    return [
        ("What it is", f"{architecture}, {shape}{parts['total']:,} parameters, {parts['trainable']:,} of them trained"),
        ("Encoder", f"{info['encoder_weights']['source']}, {frozen}"),
        ("Trained on", f"{info['manifest'].get('train', '?')} photos of {info['manifest']['name']}; "
                       f"{info['manifest'].get('val', '?')} more chose the state ({result.summary['checkpoint']})"),
        ("Scores", scores),
        ("Threshold", f"{result.summary['threshold']:g}, fixed beforehand"),
        ("Use", USE),
        ("Limits", LIMITS),
    ]  # fmt: skip


def data_card(results: Sequence[RunResult]) -> Card:
    """Of the scored photos."""
    result = results[0]
    frame, summary = result.per_image, result.summary
    empty = int((frame["lesion_fraction"] == 0).sum())
    share = frame["lesion_fraction"]
    clusters = shared_groups(results)
    grouped = f"{len(set(clusters))} of patient or lesion" if clusters else "no two photos share one, as far as known"
    card = [
        ("Photos", f"{summary['n']} of the split {summary['split']}" + (f", {empty} without lesion" if empty else "")),
        ("Lesion size", f"{share.min():.1%} to {share.max():.1%} of the photo, median {share.median():.1%}"),
        ("Groups", grouped),
    ]
    for attribute, members in subgroups_of(results).items():
        if attribute != "lesion size":
            card.append((attribute.capitalize(), ", ".join(f"{name} {len(ids)}" for name, ids in members.items())))
    card.append(("Skin tone, hair, ruler", "estimated from the pixels by simple detectors; not labels"))
    card.append(("Manifest", summary["manifest_sha256"] or "none: masks from a folder"))
    return card
