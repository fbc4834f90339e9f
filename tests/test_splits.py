"""Parts and folds of whole groups, near their share, the same for the same ids; groups from links; official splits."""

import hashlib
import itertools
import random
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lesionseg.data.manifest import read_manifest
from lesionseg.data.splits import OFFICIAL, clusters, hold_out, k_fold, official_split
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


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_share_that_is_none(fraction: float) -> None:
    with pytest.raises(DataError, match="cannot be held out"):
        hold_out(cases_of(1, 1), fraction, 0)


# --- strata -----------------------------------------------------------------------------------------------------------

diagnoses = st.sampled_from(["benign", "malignant", ""])
# One list per group, with the diagnosis of each of its cases.
mixtures = st.lists(st.lists(diagnoses, min_size=1, max_size=5), min_size=2, max_size=25)
shuffler = st.integers(0, 2**32 - 1).map(random.Random)


def labelled(mixture: list[list[str]]) -> list[Case]:
    return [
        Case(f"g{g}-{n}", Path("x"), group=f"g{g}", labels={"diagnosis": diagnosis})
        for g, group in enumerate(mixture)
        for n, diagnosis in enumerate(group)
    ]


pure = st.lists(st.tuples(diagnoses, st.integers(1, 5)).map(lambda pair: [pair[0]] * pair[1]), min_size=2, max_size=25)
singles = st.lists(diagnoses.map(lambda diagnosis: [diagnosis]), min_size=2, max_size=60)


def count(cases: list[Case]) -> Counter[str]:
    return Counter(case.labels["diagnosis"] for case in cases)


def ids(cases: list[Case]) -> set[str]:
    return {case.case_id for case in cases}


@given(mixtures.map(labelled), fractions, seeds, shuffler)
def test_a_stratified_part_keeps_groups_whole_and_forgets_the_order(
    cases: list[Case], fraction: float, seed: int, shuffle: random.Random
) -> None:
    kept, held = hold_out(cases, fraction, seed, stratify="diagnosis")
    groups = {case.group for case in held}
    assert kept
    assert held
    assert kept == [case for case in cases if case.group not in groups]
    assert held == [case for case in cases if case.group in groups]
    shuffled = shuffle.sample(cases, len(cases))
    assert ids(hold_out(shuffled, fraction, seed, stratify="diagnosis")[1]) == ids(held)


@given(singles.map(labelled), fractions, seeds)
def test_single_cases_are_held_out_by_stratum_to_within_one(cases: list[Case], fraction: float, seed: int) -> None:
    kept, held = hold_out(cases, fraction, seed, stratify="diagnosis")
    want = fraction * len(cases)
    assert abs(len(held) - want) <= 0.5 + 1e-6 or min(len(kept), len(held)) == 1
    if min(len(kept), len(held)) > 1:
        assert all(abs(count(held)[key] - fraction * n) < 1 + 1e-6 for key, n in count(cases).items())


@given(pure.map(labelled), fractions, seeds)
def test_a_stratum_is_missed_by_no_more_than_its_groups_make_necessary(
    cases: list[Case], fraction: float, seed: int
) -> None:
    kept, held = hold_out(cases, fraction, seed, stratify="diagnosis")
    largest = max(Counter(case.group for case in cases).values())
    if len({case.group for case in kept}) > 1 and len({case.group for case in held}) > 1:
        # Half a group for each stratum's own rounding, and all of them again where the total was mended.
        bound = (len(count(cases)) + 0.5) * largest
        assert all(abs(count(held)[key] - fraction * n) <= bound for key, n in count(cases).items())


def test_many_small_strata_do_not_add_up_to_nothing() -> None:
    cases = [Case(f"{s}-{n}", Path("x"), labels={"site": str(s)}) for s in range(10) for n in range(3)]
    for fraction, expected in ((0.1, 3), (0.2, 6), (0.9, 27)):
        held = hold_out(cases, fraction, 0, stratify="site")[1]
        assert len(held) == expected
        assert max(Counter(case.labels["site"] for case in held).values()) <= (1 if fraction < 0.5 else 3)


def test_a_stratified_part_is_more_even_than_a_plain_one() -> None:
    cases = labelled([["malignant"]] * 20 + [["benign"]] * 80)
    plain = {count(hold_out(cases, 0.1, seed)[1])["malignant"] for seed in range(20)}
    even = {count(hold_out(cases, 0.1, seed, stratify="diagnosis")[1])["malignant"] for seed in range(20)}
    assert even == {2}
    assert len(plain) > 2


def test_no_strata_means_what_it_always_meant() -> None:
    cases = cases_of(3, 1, 4, 1, 5, 9, 2, 6)
    for seed in range(10):
        assert hold_out(cases, 0.3, seed) == hold_out(cases, 0.3, seed, None)
        one = [Case(c.case_id, c.image, group=c.group, labels={"diagnosis": "x"}) for c in cases]
        # One stratum is none; only the mending of the total may differ.
        assert abs(len(hold_out(one, 0.3, seed, "diagnosis")[1]) - 9.3) <= abs(len(hold_out(cases, 0.3, seed)[1]) - 9.3)


@pytest.mark.parametrize("cases", [cases_of(1, 1), labelled([["x"], ["y"]])])
def test_a_column_that_no_case_has(cases: list[Case]) -> None:
    for call in (lambda: hold_out(cases, 0.5, 0, stratify="site"), lambda: k_fold(cases, 2, 0, stratify="site")):
        with pytest.raises(DataError, match="no case has a column 'site'") as caught:
            call()
        assert ("diagnosis" if cases[0].labels else "(there is none)") in caught.value.fix


# --- folds ------------------------------------------------------------------------------------------------------------

fold_counts = st.integers(2, 6)


def folds_of(cases: list[Case], folds: int, seed: int) -> list[list[Case]]:
    return [fold for _, fold in k_fold(cases, folds, seed)]


@given(mixtures.map(labelled), fold_counts, seeds)
def test_every_case_is_in_one_fold_and_no_group_straddles(cases: list[Case], folds: int, seed: int) -> None:
    groups = len({case.group for case in cases})
    if groups < folds:
        with pytest.raises(DataError, match=f"{groups} groups cannot be split into {folds} folds"):
            k_fold(cases, folds, seed)
        return
    split = k_fold(cases, folds, seed)
    assert len(split) == folds
    assert Counter(case.case_id for _, fold in split for case in fold) == Counter(case.case_id for case in cases)
    for rest, fold in split:
        assert fold
        assert rest
        assert {case.group for case in fold}.isdisjoint(case.group for case in rest)
        assert rest == [case for case in cases if case not in fold]
        assert fold == [case for case in cases if case not in rest]


@given(mixtures.map(labelled), fold_counts, seeds, shuffler)
def test_the_order_of_cases_plays_no_part_in_folds(
    cases: list[Case], folds: int, seed: int, shuffle: random.Random
) -> None:
    if len({case.group for case in cases}) >= folds:
        expected = [ids(fold) for fold in folds_of(cases, folds, seed)]
        assert [ids(fold) for fold in folds_of(cases, folds, seed)] == expected
        assert [ids(fold) for fold in folds_of(shuffle.sample(cases, len(cases)), folds, seed)] == expected


@given(pure.map(labelled), fold_counts, seeds)
def test_a_stratum_differs_between_folds_by_at_most_its_largest_group(cases: list[Case], folds: int, seed: int) -> None:
    if len({case.group for case in cases}) < folds:
        return
    counts = [count(fold) for fold in folds_of(cases, folds, seed)]
    for stratum in count(cases):
        largest = max(Counter(case.group for case in cases if case.labels["diagnosis"] == stratum).values())
        assert max(c[stratum] for c in counts) - min(c[stratum] for c in counts) <= largest


@pytest.mark.long
@given(mixtures.map(labelled), fold_counts, seeds)
def test_mixed_groups_are_spread_too(cases: list[Case], folds: int, seed: int) -> None:
    if len({case.group for case in cases}) < folds:
        return
    totals = count(cases)
    largest = max(Counter(case.group for case in cases).values())
    for fold in folds_of(cases, folds, seed):
        for stratum, total in totals.items():
            # Dealing to the smallest share never lets the squared deviations, each by its stratum's size, grow past
            # the largest group times the number of strata.
            assert (count(fold)[stratum] - total / folds) ** 2 <= largest * len(totals) * total + 1e-6


@given(singles.map(labelled), fold_counts, seeds)
def test_single_cases_give_folds_alike_to_within_one(cases: list[Case], folds: int, seed: int) -> None:
    if len(cases) < folds:
        return
    split = folds_of(cases, folds, seed)
    sizes = [len(fold) for fold in split]
    assert max(sizes) - min(sizes) <= 1
    for stratum in count(cases):
        counts = [count(fold)[stratum] for fold in split]
        assert max(counts) - min(counts) <= 1


@given(grouped, fold_counts, seeds)
def test_without_strata_sizes_differ_by_at_most_the_largest_group(cases: list[Case], folds: int, seed: int) -> None:
    groups = Counter(case.group for case in cases)
    if len(groups) >= folds:
        sizes = [len(fold) for _, fold in k_fold(cases, folds, seed, stratify=None)]
        assert max(sizes) - min(sizes) <= max(groups.values())


def test_the_seed_matters_for_folds() -> None:
    cases = labelled([["benign"]] * 30)
    assert len({frozenset(ids(folds_of(cases, 3, seed)[0])) for seed in range(10)}) == 10


def test_pinned_folds_so_that_old_runs_can_be_repeated() -> None:
    cases = labelled([["benign"]] * 6 + [["malignant"]] * 3)
    assert [sorted(ids(fold)) for fold in folds_of(cases, 3, 0)] == [
        ["g0-0", "g1-0", "g6-0"],
        ["g2-0", "g3-0", "g8-0"],
        ["g4-0", "g5-0", "g7-0"],
    ]


@pytest.mark.parametrize("folds", [-1, 0, 1, 4])
def test_numbers_of_folds_that_cannot_be(folds: int) -> None:
    with pytest.raises(DataError, match=f"into {folds} folds") as caught:
        k_fold(labelled([["x"]] * 3), folds, 0)
    assert caught.value.fix == "use 2 to 3 folds"


def test_nothing_cannot_be_split_into_folds() -> None:
    with pytest.raises(DataError, match="0 cases in 0 groups"):
        k_fold([], 2, 0, stratify=None)


def test_a_case_that_comes_twice() -> None:
    cases = labelled([["x"], ["y"], ["z"]])
    for call in (lambda: k_fold([*cases, *cases[:2]], 2, 0), lambda: clusters([*cases, *cases[:2]])):
        with pytest.raises(DataError) as caught:
            call()
        assert caught.value.problems == ("g0-0", "g1-0")


# --- clusters ---------------------------------------------------------------------------------------------------------

patients = st.sampled_from(["", "unknown", "NaN", "p1", "p2", "p3", "p4"])
lesions = st.sampled_from(["", "l1", "l2", "l3", "l4", "p1"])
people = st.lists(st.tuples(patients, lesions, st.integers(0, 9)), min_size=1, max_size=15).map(
    lambda rows: [
        Case(f"c{n}", Path("x"), group=f"g{g}" if g < 3 else "", labels={"patient_id": p, "lesion_id": lesion})
        for n, (p, lesion, g) in enumerate(rows)
    ]
)


def components(cases: list[Case], pairs: list[tuple[str, str]]) -> set[frozenset[str]]:
    """Connected components, by walking; slow and plain."""
    near = defaultdict(set)
    for one, other in itertools.product(cases, cases):
        shared = one.group == other.group or any(
            one.labels[column] == other.labels[column] and one.labels[column] not in ("", "unknown", "NaN")
            for column in ("patient_id", "lesion_id")
        )
        if shared or (one.case_id, other.case_id) in pairs or (other.case_id, one.case_id) in pairs:
            near[one.case_id].add(other.case_id)
    found = set()
    for case in cases:
        seen, ahead = set(), [case.case_id]
        while ahead:
            here = ahead.pop()
            if here not in seen:
                seen.add(here)
                ahead += near[here]
        found.add(frozenset(seen))
    return found


def by_group(cases: list[Case]) -> set[frozenset[str]]:
    groups = defaultdict(set)
    for case in cases:
        groups[case.group].add(case.case_id)
    return {frozenset(group) for group in groups.values()}


@given(people, st.data(), shuffler)
def test_groups_are_the_connected_components(cases: list[Case], data: st.DataObject, shuffle: random.Random) -> None:
    member = st.sampled_from([case.case_id for case in cases])
    pairs = data.draw(st.lists(st.tuples(member, member), max_size=6))
    links = ["patient_id", "lesion_id", *pairs]
    merged = clusters(cases, *links)
    assert by_group(merged) == components(cases, pairs)
    assert [(c.case_id, c.labels) for c in merged] == [(c.case_id, c.labels) for c in cases]
    shuffled = clusters(shuffle.sample(cases, len(cases)), *shuffle.sample(links, len(links)))
    assert {c.case_id: c.group for c in shuffled} == {c.case_id: c.group for c in merged}


@given(people, st.data(), fold_counts, seeds)
def test_no_link_straddles_a_fold(cases: list[Case], data: st.DataObject, folds: int, seed: int) -> None:
    member = st.sampled_from([case.case_id for case in cases])
    pairs = data.draw(st.lists(st.tuples(member, member), max_size=3))
    merged = clusters(cases, "patient_id", "lesion_id", *pairs)
    if len({case.group for case in merged}) < folds:
        return
    fold_of = {
        case.case_id: number
        for number, (_, fold) in enumerate(k_fold(merged, folds, seed, stratify=None))
        for case in fold
    }
    assert all(len({fold_of[case_id] for case_id in whole}) == 1 for whole in components(cases, pairs))


def test_links_chain_across_kinds() -> None:
    cases = [
        Case("a", Path("x"), labels={"patient_id": "1"}),
        Case("b", Path("x"), labels={"patient_id": "1", "lesion_id": "7"}),
        Case("c", Path("x"), labels={"lesion_id": "7"}),
        Case("d", Path("x")),
        Case("e", Path("x"), labels={"patient_id": "7"}),
    ]
    assert [case.group for case in clusters(cases, "patient_id", "lesion_id", ("d", "c"))] == ["a", "a", "a", "a", "e"]


def test_without_links_nothing_changes() -> None:
    cases = [*cases_of(2, 3), Case("z", Path("x"))]
    assert clusters(cases) == cases
    assert clusters(cases, "group") == cases
    assert clusters([]) == []


def test_long_chains_are_no_recursion() -> None:
    cases = [Case(f"{n:05}", Path("x")) for n in range(5000)]
    chain = [(f"{n + 1:05}", f"{n:05}") for n in reversed(range(4999))]
    assert {case.group for case in clusters(cases, *chain)} == {"00000"}


def test_every_broken_link_is_listed() -> None:
    cases = labelled([["x"], ["y"]])
    with pytest.raises(DataError) as caught:
        clusters(cases, "patient_id", ("g0-0", "nobody"), ("nobody", "none"), "site", "diagnosis")
    assert caught.value.problems == (
        "no case has a column 'patient_id'",
        "nobody is linked but not among the cases",
        "none is linked but not among the cases",
        "no case has a column 'site'",
    )
    assert "diagnosis, group" in caught.value.fix


# --- official splits --------------------------------------------------------------------------------------------------


def plain(*names: str) -> list[Case]:
    return [Case(name, Path("x"), split="?") for name in names]


def test_the_official_split_of_isic2016() -> None:
    cases = plain("ISIC_0000003", "ISIC_0000000", "ISIC_0000012")
    assert [(c.case_id, c.split) for c in official_split(cases, "isic2016")] == [
        ("ISIC_0000003", "test"),
        ("ISIC_0000000", "train"),
        ("ISIC_0000012", "test"),
    ]


def test_the_shipped_list_has_every_official_id_once() -> None:
    path = Path(hold_out.__code__.co_filename).parent / "official" / "isic2016.csv"
    rows = path.read_text(encoding="ascii").splitlines()
    assert rows[0] == "case_id,split"
    assert len({row.split(",")[0] for row in rows[1:]}) == 1279
    assert Counter(row.split(",")[1] for row in rows[1:]) == {"train": 900, "test": 379}


def test_cases_of_another_data_set_are_listed() -> None:
    with pytest.raises(DataError, match="2 of 3 cases are not in the official list") as caught:
        official_split(plain("ISIC_0000000", "ISIC_9999999", "mine"), "isic2016")
    assert caught.value.problems == ("ISIC_9999999", "mine")


@pytest.mark.parametrize("name", ["isic2017", "isic2018", "ph2"])
def test_a_list_that_does_not_ship(name: str) -> None:
    with pytest.raises(DataError) as caught:
        official_split(plain("ISIC_0000000"), name)
    assert ("not shipped" if name in OFFICIAL else "not known") in caught.value.message
    assert "use isic2016" in caught.value.fix
    assert "columns case_id and split" in caught.value.fix


def test_a_list_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("split,note,case_id\ntrain,x,a\n val ,,b \n", encoding="utf-8-sig")
    assert [case.split for case in official_split(plain("b", "a"), path)] == ["val", "train"]
    assert [case.split for case in official_split(plain("b", "a"), str(path))] == ["val", "train"]


@pytest.mark.parametrize(
    ("text", "message", "problems"),
    [
        ("case_id,split\n", "no row below", []),
        ("id,part\na,train\n", "no column .* known for the split", ["its columns: id, part", "known names: split"]),
        ("case_id,split\na,dev\n,test\nb\n", "not a list of splits", ["row 2: ", "row 3: ", "row 4: "]),
        ("case_id,split\na,test\na,train\na,test\n", "one value per id", ["row 3: a is train here and test above"]),
    ],
)
def test_a_malformed_list_tells_every_row(tmp_path: Path, text: str, message: str, problems: list[str]) -> None:
    path = tmp_path / "own.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=rf"own\.csv .*{message}") as caught:
        official_split(plain("a"), path)
    assert len(caught.value.problems) == len(problems)
    assert all(found.startswith(start) for found, start in zip(caught.value.problems, problems, strict=True))


def test_a_list_of_file_names_as_a_spreadsheet_saves_it(tmp_path: Path) -> None:
    path = tmp_path / "own.tsv"
    path.write_text("image\tset\na.jpg\ttrain\nb.c.png\ttest\n", encoding="utf-16")
    assert [case.split for case in official_split(plain("a", "b.c", "b.c.png"), path)] == ["train", "test", "test"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "does not exist"),
        (b"\xff\xfe\x00", "not UTF-16"),
        (b'case_id,split\n"a,train\n', "cannot be read as CSV"),
    ],
)
def test_an_unreadable_list(tmp_path: Path, content: bytes | None, says: str) -> None:
    if content is not None:
        (tmp_path / "own.csv").write_bytes(content)
    with pytest.raises(DataError, match=says):
        official_split(plain("a"), tmp_path / "own.csv")


# --- the real thing ---------------------------------------------------------------------------------------------------


@pytest.mark.real
def test_isic2016() -> None:
    cases = read_manifest("isic2016").cases
    assert official_split(cases, "isic2016") == list(cases)
    train = [case for case in cases if case.split == "train"]

    held = hold_out(train, 0.1, 0)[1]
    # The ids that trainings without a val split have always held out.
    digest = hashlib.sha256("\n".join(case.case_id for case in held).encode()).hexdigest()
    assert (len(held), digest) == (81, "f3b9815f675643642131a32420a117e39cb5d3fd341ad17c1074ddc3d1172d0a")

    even = hold_out(train, 0.1, 0, stratify="diagnosis")[1]
    assert count(even) == {"benign": 65, "malignant": 16}
    folds = folds_of(train, 5, 0)
    assert sorted(len(fold) for fold in folds) == [161, 161, 161, 161, 162]
    assert sorted(count(fold)["malignant"] for fold in folds) == [31, 31, 31, 31, 32]

    pairs = [(one.case_id, other.case_id) for one, other in itertools.pairwise(train[:30])]
    merged = clusters(train, *pairs)
    assert len({case.group for case in merged}) == len(train) - 29
    assert sum({case.case_id for case in train[:30]} <= ids(fold) for fold in folds_of(merged, 5, 0)) == 1
