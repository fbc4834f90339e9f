"""Held-out parts: whole groups, near their share, the same for the same ids."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lesionseg.data.splits import hold_out
from lesionseg.errors import DataError
from lesionseg.records import Case

fractions = st.floats(0.01, 0.99)
seeds = st.integers(0, 2**32 - 1)


def cases_of(*sizes: int) -> list[Case]:
    return [Case(f"g{g}-{n}", Path("x"), group=f"g{g}") for g, size in enumerate(sizes) for n in range(size)]


grouped = st.lists(st.integers(1, 6), min_size=2, max_size=15).map(lambda sizes: cases_of(*sizes))


@given(grouped, fractions, seeds)
def test_a_partition_in_the_order_given_that_no_group_straddles(cases: list[Case], fraction: float, seed: int) -> None:
    kept, held = hold_out(cases, fraction, seed)
    assert kept
    assert held
    groups = {case.group for case in held}
    assert groups.isdisjoint(case.group for case in kept)
    assert kept == [case for case in cases if case.group not in groups]
    assert held == [case for case in cases if case.group in groups]


@given(grouped, fractions, seeds, st.randoms(use_true_random=False))
def test_the_order_of_cases_plays_no_part(cases: list[Case], fraction: float, seed: int, random: object) -> None:
    expected = {case.case_id for case in hold_out(cases, fraction, seed)[1]}
    shuffled = cases[:]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert {case.case_id for case in hold_out(shuffled, fraction, seed)[1]} == expected


@given(st.integers(2, 60), fractions, seeds)
def test_groups_of_one_give_the_share_exactly(size: int, fraction: float, seed: int) -> None:
    held = hold_out(cases_of(*[1] * size), fraction, seed)[1]
    assert abs(len(held) - min(max(fraction * size, 1), size - 1)) <= 0.5 + 1e-9


@given(grouped, fractions, seeds)
def test_the_share_is_missed_by_no_more_than_groups_make_necessary(
    cases: list[Case], fraction: float, seed: int
) -> None:
    kept, held = hold_out(cases, fraction, seed)
    want = fraction * len(cases)
    sizes = [sum(case.group == group for case in cases) for group in {case.group for case in held}]
    if len(sizes) > 1:
        # Each further group brought it nearer: at most half a group too much.
        assert len(held) - want < max(sizes) / 2
    rest = [sum(case.group == group for case in kept) for group in {case.group for case in kept}]
    if len(rest) > 1:
        # Every group that stayed would have gone too far when its turn came, or afterwards.
        assert want - len(held) <= max(rest) / 2


@pytest.mark.parametrize("seed", range(20))
def test_a_large_group_does_not_swallow_the_training_part(seed: int) -> None:
    kept, held = hold_out(cases_of(90, *[1] * 10), 0.1, seed)
    assert (len(kept), len(held)) == (90, 10) or len(held) < 45
    assert "g0" not in {case.group for case in held}


@pytest.mark.parametrize("seed", range(5))
def test_where_every_group_is_too_large_the_smallest_is_held_out(seed: int) -> None:
    assert {case.group for case in hold_out(cases_of(40, 30, 50), 0.01, seed)[1]} == {"g1"}


def test_the_seed_matters_and_nothing_else() -> None:
    cases = cases_of(*[1] * 40)
    held = {tuple(case.case_id for case in hold_out(cases, 0.25, seed)[1]) for seed in range(10)}
    assert len(held) == 10
    assert {len(part) for part in held} == {10}
    assert hold_out(cases, 0.25, 3) == hold_out(cases, 0.25, 3)


def test_every_case_is_held_out_about_equally_often() -> None:
    cases = cases_of(*[1] * 20)
    counts = dict.fromkeys((case.case_id for case in cases), 0)
    for seed in range(400):
        for case in hold_out(cases, 0.25, seed)[1]:
            counts[case.case_id] += 1
    # Binomial(400, 0.25): mean 100, standard deviation 8.7.
    assert all(60 < count < 140 for count in counts.values())


def test_a_pinned_split_so_that_old_runs_can_be_repeated() -> None:
    held = hold_out(cases_of(*[1] * 10), 0.3, 0)[1]
    assert [case.case_id for case in held] == ["g1-0", "g4-0", "g7-0"]


@pytest.mark.parametrize("cases", [[], cases_of(1), cases_of(5)])
def test_fewer_than_two_groups_cannot_be_split(cases: list[Case]) -> None:
    with pytest.raises(DataError, match=f"^{len(cases)} cases in") as caught:
        hold_out(cases, 0.1, 0)
    assert "two groups" in caught.value.fix
