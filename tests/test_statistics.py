"""Intervals that cover, tests that agree with the definition, and a verdict that claims no more than they allow."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lesionseg.evaluation import statistics
from lesionseg.evaluation.comparison import format_p, verdict
from lesionseg.evaluation.statistics import (
    Comparison,
    PairedDifference,
    bootstrap_mean,
    compare_all,
    holm,
    paired_difference,
)

SCORES = np.random.default_rng(5).random(80)


def test_mean_and_interval():
    mean, low, high = bootstrap_mean(SCORES)
    assert mean == SCORES.mean()
    half = 1.96 * SCORES.std() / np.sqrt(80)
    assert (low, high) == pytest.approx((mean - half, mean + half), abs=0.1 * half)


def test_same_arguments_same_interval():
    assert bootstrap_mean(SCORES, draws=500, seed=1) == bootstrap_mean(SCORES.tolist(), draws=500, seed=1)
    assert bootstrap_mean(SCORES, draws=500, seed=1) != bootstrap_mean(SCORES, draws=500, seed=2)


def test_chunks_do_not_change_the_interval(monkeypatch):
    whole = bootstrap_mean(SCORES, draws=301)
    monkeypatch.setattr(statistics, "_CHUNK", 7 * SCORES.size)
    assert bootstrap_mean(SCORES, draws=301) == whole


def test_interval_covers_the_truth_about_95_times_in_100():
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(300):
        _, low, high = bootstrap_mean(rng.beta(8, 2, 60), draws=400, seed=seed)
        covered += low <= 0.8 <= high
    assert 0.91 <= covered / 300 <= 0.98


def test_groups_widen_the_interval_of_dependent_photos():
    # Ten photos of each of eight patients, nearly alike within a patient.
    patients = np.repeat(np.arange(8), 10)
    values = np.random.default_rng(1).random(8)[patients]
    _, low, high = bootstrap_mean(values)
    _, wide_low, wide_high = bootstrap_mean(values, groups=[f"p{i}" for i in patients])
    assert wide_high - wide_low > 2 * (high - low)


def test_groups_of_one_change_nothing():
    names = [f"g{i:02d}" for i in range(80)]
    assert bootstrap_mean(SCORES, draws=300, groups=names) == pytest.approx(bootstrap_mean(SCORES, draws=300))


def test_unequal_groups_are_weighted_by_their_photos():
    # Draws are ab, ba, aa or bb; the mean of ab is that of the photos, (3 * 1 + 0) / 4, not of the groups.
    values, groups = [1.0, 1.0, 1.0, 0.0], ["a", "a", "a", "b"]
    mean, low, high = bootstrap_mean(values, groups=groups)
    assert (mean, low, high) == (0.75, 0, 1)
    assert paired_difference(values, [0.0] * 4, groups=groups).mean_difference == 0.75


def test_paired_difference_by_hand():
    d = paired_difference([0.9, 0.8, 0.5, 0.7], [0.8, 0.8, 0.6, 0.4], draws=200)
    assert (d.n, d.wins, d.ties, d.losses) == (4, 2, 1, 1)
    assert d.mean_difference == pytest.approx(0.075)
    assert d.low <= d.mean_difference <= d.high


def exact_signed_rank(differences):
    """Two-sided p-value by going through every assignment of signs; no ties, no zeros."""
    ranks = np.argsort(np.argsort(np.abs(differences))) + 1
    middle = ranks.sum() / 2
    seen = abs(ranks[differences > 0].sum() - middle)
    sums = [np.dot(ranks, signs) for signs in itertools.product((0, 1), repeat=len(ranks))]
    return np.mean([abs(s - middle) >= seen for s in sums])


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=8, unique=True), st.integers(0, 255))
@settings(max_examples=40, deadline=None)
def test_wilcoxon_is_exact_for_few_photos(sizes, signs):
    differences = np.array([size if signs >> i & 1 else -size for i, size in enumerate(sizes)]) / 1e6
    p_value = paired_difference(differences, np.zeros(len(sizes)), draws=1).p_value
    assert p_value == pytest.approx(exact_signed_rank(differences))


def test_zero_differences_are_left_out_of_the_test():
    a, b = np.array([0.9, 0.7, 0.6, 0.8, 0.3]), np.array([0.8, 0.5, 0.3, 0.4, 0.35])
    same = np.full(3, 0.5)
    with_ties = paired_difference(np.append(a, same), np.append(b, same), draws=10)
    assert with_ties.p_value == pytest.approx(exact_signed_rank(a - b))
    assert with_ties.ties == 3


def test_effect_size_by_hand():
    # Ranks of the differences 0.1, 0, -0.1 and 0.3 without the zero: 1.5, 1.5 and 3.
    d = paired_difference([0.9, 0.8, 0.5, 0.7], [0.8, 0.8, 0.6, 0.4], draws=10)
    assert d.effect_size == pytest.approx((1.5 - 1.5 + 3) / 6)
    assert paired_difference(SCORES + 0.1, SCORES, draws=10).effect_size == 1


def test_equal_runs():
    d = paired_difference(SCORES, SCORES)
    assert d == PairedDifference(80, 0.0, 0.0, 0.0, 1.0, 0, 80, 0, 0.0)


def test_rounding_is_a_tie():
    d = paired_difference([0.1 + 0.2, 0.5], [0.3, 0.5], draws=10)
    assert (d.ties, d.mean_difference, d.p_value) == (2, 0.0, 1.0)


def test_groups_are_the_observations_of_the_test():
    # Thirty photos of two patients are not thirty observations.
    a = np.linspace(0.6, 0.9, 30)
    loose = paired_difference(a, a - 0.1, draws=10)
    grouped = paired_difference(a, a - 0.1, draws=10, groups=["a", "b"] * 15)
    assert loose.p_value < 1e-5
    assert grouped.p_value == 0.5
    assert (grouped.n, grouped.wins) == (30, 30)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30))
@settings(max_examples=30, deadline=None)
def test_antisymmetric_and_without_warnings(pairs):
    a, b = (np.array(side) for side in zip(*pairs, strict=True))
    there, back = paired_difference(a, b, draws=50), paired_difference(b, a, draws=50)
    assert there.p_value == pytest.approx(back.p_value)
    assert (there.wins, there.losses) == (back.losses, back.wins)
    assert there.mean_difference == pytest.approx(-back.mean_difference)
    assert there.effect_size == pytest.approx(-back.effect_size)
    assert -1 <= there.effect_size <= 1
    assert -1 <= there.low <= there.high <= 1
    assert 0 <= there.p_value <= 1
    assert there.wins + there.ties + there.losses == there.n


@pytest.mark.parametrize(
    ("a", "b", "options", "message"),
    [
        ([], [], {}, "at least one photo"),
        ([0.1], [0.1, 0.2], {}, "cannot pair 1 scores with 2"),
        ([0.1, np.nan], [0.1, 0.2], {}, "1 of 2 scores are not finite"),
        ([0.1, 0.2], [0.1, 0.2], {"groups": ["a"]}, "1 groups for 2 scores"),
        ([[0.1], [0.2]], [[0.1], [0.2]], {}, "one score per photo"),
        ([0.1], [0.1], {"draws": 0}, "at least one draw"),
    ],
)
def test_unfit_scores_are_refused(a, b, options, message):
    with pytest.raises(ValueError, match=message):
        paired_difference(a, b, **options)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        holm([0.5, 1.2])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_only_raises_and_keeps_the_order(p_values):
    corrected = holm(p_values)
    assert all(p <= c <= min(1, len(p_values) * p) for p, c in zip(p_values, corrected, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(corrected)[order]) >= 0).all()
    assert min(corrected) == pytest.approx(min(1, len(p_values) * min(p_values)))


def test_compare_all_pairs():
    runs = {"a": SCORES + 0.1, "b": SCORES, "c": SCORES[::-1]}
    pairs = compare_all(runs, draws=100)
    assert [(c.a, c.b) for c in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert pairs[0].difference.mean_difference == pytest.approx(0.1)
    assert [c.p_holm for c in pairs] == holm([c.difference.p_value for c in pairs])
    assert pairs[0].p_holm == 3 * pairs[0].difference.p_value
    assert compare_all({"a": SCORES}) == []


def pair(low, high, p_value, *, mean=0.012, ties=0, names=("fine", "frozen"), p_holm=None):
    difference = PairedDifference(339, mean, low, high, p_value, 200, ties, 139, 0.2)
    return Comparison(*names, difference, p_value if p_holm is None else p_holm)


@pytest.mark.parametrize(
    ("comparison", "says"),
    [
        (
            pair(0.008, 0.016, 1e-9),
            "fine scores 0.0120 higher in Dice than frozen on 339 test photos "
            "(95 % interval 0.0080 to 0.0160, Wilcoxon p < 0.001).",
        ),
        (
            pair(-0.004, 0.008, 0.3, mean=0.002),
            "fine and frozen cannot be told apart by their Dice on 339 test photos: the mean difference is 0.0020 "
            "(95 % interval -0.0040 to 0.0080, Wilcoxon p = 0.300).",
        ),
        (
            pair(0.001, 0.02, 0.2),
            "fine scores 0.0120 higher in Dice than frozen on 339 test photos (95 % interval 0.0010 to 0.0200, "
            "Wilcoxon p = 0.200); interval and test disagree at the 5 % level, so this is not settled.",
        ),
        (pair(0, 0, 1, mean=0, ties=339), "fine and frozen have the same Dice on each of the 339 test photos."),
    ],
    ids=["clear", "open", "mixed", "equal"],
)
def test_verdict_of_two_runs(comparison, says):
    assert verdict([comparison], "339 test photos") == says


def test_a_test_that_found_the_opposite_settles_nothing():
    apart = PairedDifference(200, 0.0193, 0.0118, 0.0274, 2e-8, 30, 0, 170, -0.45)
    said = verdict([Comparison("a", "b", apart, 2e-8)], "200 test photos")
    assert said.endswith("but lower on 170 of them, which is what the test found: this is not settled.")


def test_verdict_of_more_runs_uses_the_corrected_p_value():
    pairs = [
        pair(0.001, 0.02, 0.03, p_holm=0.09),
        pair(0.1, 0.2, 1e-9, names=("fine", "other")),
        pair(0.1, 0.2, 1e-9, names=("frozen", "other")),
    ]
    said = verdict(pairs, "339 test photos")
    assert said.startswith("fine, the best of 3 runs, scores 0.0120 higher in Dice than frozen on 339 test photos")
    assert "p = 0.090, Holm-corrected" in said
    assert said.endswith("not settled.")


def test_format_p():
    assert [format_p(p) for p in (0, 0.00099, 0.001, 0.0124, 1)] == [
        "p < 0.001",
        "p < 0.001",
        "p = 0.001",
        "p = 0.012",
        "p = 1.000",
    ]
