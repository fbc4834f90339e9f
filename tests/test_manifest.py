"""Manifests: round trips with hostile names, malformed rows, and where the files are looked for."""

import csv
import hashlib
import io
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lesionseg.data.manifest import COLUMNS, common_root, read_manifest, write_manifest
from lesionseg.errors import ConfigError, ManifestError, OutputError
from lesionseg.records import Case

HEADER = "case_id,image,mask,split\n"
HOSTILE = [
    "0000012",
    "NA",
    "nan",
    "1e5",
    "TRUE",
    "a,b",
    'say "hi"',
    "semi;colon",
    "Läsion",
    "病变",
    "=1+1",
    "-",
    "'",
    "#x",
]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder apart from the test's own, without LESIONSEG_DATA."""
    monkeypatch.delenv("LESIONSEG_DATA", raising=False)
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    return tmp_path


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def problems_of(path: Path, root: Path | None = None) -> tuple[str, ...]:
    with pytest.raises(ManifestError) as caught:
        read_manifest(path, root)
    assert str(path) in caught.value.message
    return caught.value.problems


# --- round trips ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_ids_come_back(home: Path, name: str) -> None:
    touch(home / "photos" / f"{name}.jpg", home / "masks" / f"{name}.png")
    case = Case(
        name,
        home / "photos" / f"{name}.jpg",
        home / "masks" / f"{name}.png",
        split=name,
        group=name,
        labels={"diagnosis": name, "site": name},
        width=3,
        height=2,
        sha256="ab" * 32,
    )
    assert write_manifest([case], home / "m.csv") == home
    manifest = read_manifest(home / "m.csv")
    assert manifest.cases == (case,)
    assert (manifest.name, manifest.root) == ("m", home)
    assert manifest.sha256 == hashlib.sha256((home / "m.csv").read_bytes()).hexdigest()


words = st.text(
    st.characters(blacklist_categories=["Cs", "Cc", "Z"], blacklist_characters="/\\:."), min_size=1, max_size=12
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(words, words, words, st.booleans(), st.integers(0, 9999)), min_size=1, unique_by=lambda c: c[0])
)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str, bool, int]]) -> None:
    folder = tmp_path_factory.mktemp("m")
    cases = [
        Case(
            case_id,
            folder / "p" / f"{number}.jpg",
            folder / "q" / f"{number}.png" if masked else None,
            split=split,
            group=group,
            labels={"diagnosis": split, "site": group},
            width=width,
            height=width // 2,
        )
        for number, (case_id, group, split, masked, width) in enumerate(rows)
    ]
    touch(*(path for case in cases for path in (case.image, case.mask) if path))
    root = write_manifest(cases, folder / "m.csv")
    assert read_manifest(folder / "m.csv", root).cases == tuple(cases)
    first = (folder / "m.csv").read_bytes()
    write_manifest(read_manifest(folder / "m.csv", root).cases, folder / "m.csv", root)
    assert (folder / "m.csv").read_bytes() == first


def test_the_csv_holds_what_it_says_and_no_place_on_this_machine(home: Path) -> None:
    touch(home / "d" / "p" / "a.jpg", home / "d" / "q" / "a.png")
    write_manifest([Case("a", home / "d/p/a.jpg", home / "d/q/a.png", labels={"site": "arm"})], home / "out" / "m.csv")
    text = (home / "out" / "m.csv").read_text()
    (row,) = csv.DictReader(io.StringIO(text))
    assert tuple(row) == (*COLUMNS, "site")
    assert (row["image"], row["mask"], row["site"], row["width"]) == ("p/a.jpg", "q/a.png", "arm", "")
    assert str(home) not in text
    assert (home / "out" / "m.root").read_text() == "../d\n"


def test_labels_never_overwrite_columns(home: Path) -> None:
    touch(home / "a.jpg")
    write_manifest([Case("a", home / "a.jpg", split="train", labels={"split": "test", "image": "/x"})], home / "m.csv")
    (case,) = read_manifest(home / "m.csv").cases
    assert (case.split, case.image) == ("train", home / "a.jpg")


def test_photos_and_masks_given_by_relative_and_absolute_paths(home: Path) -> None:
    touch(home / "p" / "a.jpg", home / "q" / "a.png")
    case = Case("a", home / "p" / "a.jpg", Path("../q/a.png"))
    assert common_root([case]) == home
    assert write_manifest([case], home / "m.csv") == home
    (again,) = read_manifest(home / "m.csv").cases
    assert (again.image, again.mask) == (home / "p" / "a.jpg", home / "q" / "a.png")


def test_names_that_start_with_a_space(home: Path) -> None:
    touch(home / " a.jpg", home / "\tb.png")
    write_manifest([Case("a", home / " a.jpg", home / "\tb.png")], home / "m.csv")
    (case,) = read_manifest(home / "m.csv").cases
    assert (case.image, case.mask) == (home / " a.jpg", home / "\tb.png")


def test_files_outside_the_root_are_all_listed(home: Path) -> None:
    cases = [Case("a", home / "p/a.jpg"), Case("b", home / "q/b.jpg", home / "r/b.png")]
    with pytest.raises(ManifestError, match="outside the root") as caught:
        write_manifest(cases, home / "m.csv", home / "p")
    assert caught.value.problems == (str(home / "q/b.jpg"), str(home / "r/b.png"))
    assert not (home / "m.csv").exists()


def test_nothing_to_write(home: Path) -> None:
    with pytest.raises(ManifestError, match="at least one case"):
        write_manifest([], home / "m.csv")


def test_names_that_are_not_utf8(home: Path) -> None:
    with pytest.raises(ManifestError, match=r"m\.csv.*udcff.*is not UTF-8"):
        write_manifest([Case("a", home / os.fsdecode(b"\xff.jpg"))], home / "m.csv")
    assert not (home / "m.csv").exists()


def test_a_place_that_cannot_be_written(home: Path) -> None:
    touch(home / "file", home / "a.jpg")
    with pytest.raises(OutputError):
        write_manifest([Case("a", home / "a.jpg")], home / "file" / "m.csv")


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"case_id,image,mask,split\na,a.jpg,,train\nb,b.jpg,b.png,test\n",
        b"\xef\xbb\xbfcase_id,image,mask,split\r\na,a.jpg,,train\r\nb,b.jpg,b.png,test\r\n",
        b"case_id;image;mask;split\r\na;a.jpg;;train\r\nb;b.jpg;b.png;test",
        b"split,mask,image,case_id\ntrain,,a.jpg,a\n\ntest,b.png,b.jpg,b\n\n",
        b"case_id,image,mask,split\na , a.jpg,  ,train\nb,./b.jpg,b.png, test\n",
        "case_id\timage\tmask\tsplit\t\t\na\ta.jpg\t\ttrain\t\nb\tb.jpg\tb.png\ttest\n".encode("utf-16"),
        b'"case_id","image","mask","split"\r"a","a.jpg","","train"\r"b","b.jpg","b.png","test"',
    ],
    ids=["plain", "bom crlf", "semicolons", "columns blank lines", "spaces", "tabs utf-16", "quotes cr"],
)
def test_dialects(home: Path, data: bytes) -> None:
    touch(home / "a.jpg", home / "b.jpg", home / "b.png")
    (home / "m.csv").write_bytes(data)
    manifest = read_manifest(home / "m.csv")
    assert manifest.cases == (
        Case("a", home / "a.jpg", split="train"),
        Case("b", home / "b.jpg", home / "b.png", split="test"),
    )
    assert manifest.sha256 == hashlib.sha256(data).hexdigest()


def test_splits_of_a_manifest(home: Path) -> None:
    touch(home / "a.jpg")
    (home / "m.csv").write_text(HEADER + "a,a.jpg,,train\nb,a.jpg,,\nc,a.jpg,,train\n")
    manifest = read_manifest(home / "m.csv")
    assert [case.case_id for case in manifest.split("train")] == ["a", "c"]
    with pytest.raises(ManifestError, match="manifest m has no 'test' split") as caught:
        manifest.split("test")
    assert caught.value.fix == "use one of: (none), train"


def test_splits_are_known_in_any_case_of_letters(home: Path) -> None:
    touch(home / "a.jpg")
    (home / "m.csv").write_text(HEADER + "a,a.jpg,,Train\nb,a.jpg,,TEST\nc,a.jpg,,Val\nd,a.jpg,,Fold A\n")
    assert [case.split for case in read_manifest(home / "m.csv").cases] == ["train", "test", "val", "Fold A"]


def test_names_with_colons_and_backslashes(home: Path) -> None:
    touch(home / "10:30.jpg")
    touch(home / "a\\b.jpg")
    write_manifest([Case("a", home / "10:30.jpg", None, split="train")], home / "m.csv")
    assert read_manifest(home / "m.csv").cases[0].image == home / "10:30.jpg"
    with pytest.raises(ManifestError, match="with a backslash"):
        write_manifest([Case("a", home / "a\\b.jpg", None, split="train")], home / "m.csv")


def test_every_malformed_row_is_listed_with_its_line(home: Path) -> None:
    rows = [
        "a,a.jpg,,train",
        "",
        ",b.jpg,,train",
        "c,../c.jpg,,train",
        "d,/d.jpg,,train",
        "e,C:\\e.jpg,,train",
        "f,x/../../f.jpg,,train",
        "g,a.jpg,..\\g.png,train",
        "h,,,train",
        "i,.,,train",
        "j,a.jpg",
        "k,a.jpg,,train,more",
        "a,a.jpg,,train",
        '"two\nlines",/l.jpg,,train',
        "m,/m.jpg,,train",
    ]
    (home / "m.csv").write_text(HEADER + "\n".join(rows) + "\n")
    assert problems_of(home / "m.csv") == (
        "line 4: a case needs an id",
        "line 5: image '../c.jpg' is not a path below the root",
        "line 6: image '/d.jpg' is not a path below the root",
        "line 7: image 'C:\\\\e.jpg' is not a path below the root",
        "line 8: image 'x/../../f.jpg' is not a path below the root",
        "line 9: mask '..\\\\g.png' is not a path below the root",
        "line 10: image '' is not a path below the root",
        "line 11: image '.' is not a path below the root",
        "line 12: it has 2 cells, the header 4",
        "line 13: it has 5 cells, the header 4",
        "line 16: image '/l.jpg' is not a path below the root",
        "line 17: image '/m.jpg' is not a path below the root",
        "a: more than one row",
    )


@pytest.mark.parametrize("size", ["-1", "1.5", "big", "²", "9" * 5000])
def test_sizes_are_whole_numbers(home: Path, size: str) -> None:
    (home / "m.csv").write_text(f"case_id,image,mask,split,width,height\na,a.jpg,,,{size},{size}\n")
    assert len(problems_of(home / "m.csv")) == 1


@pytest.mark.parametrize(
    ("data", "problems"),
    [
        (b"", [f"no column {name!r} (found: nothing)" for name in ("case_id", "image", "mask", "split")]),
        (b"case_id,photo,mask\na,b,c\n", ["no column 'image' (found: case_id, photo, mask)", "no column 'split'"]),
        (b"case_id,image,mask,split,image\na,b,,d,e\n", ["more than one column 'image'"]),
    ],
    ids=["empty", "columns", "repeated"],
)
def test_what_is_no_manifest(home: Path, data: bytes, problems: list[str]) -> None:
    (home / "m.csv").write_bytes(data)
    found = problems_of(home / "m.csv")
    assert len(found) == len(problems)
    assert all(line.startswith(start) for line, start in zip(found, problems, strict=True))


def test_wrong_columns_are_not_wrong_rows(home: Path) -> None:
    (home / "m.csv").write_text("id,photo\na,b\n")
    with pytest.raises(ManifestError, match="does not have the columns") as caught:
        read_manifest(home / "m.csv")
    assert "rows" not in caught.value.fix
    assert "case_id, image, mask, split" in caught.value.fix


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (HEADER.encode(), "no row below the header"),
        (b"\xff\xfe\x00", "not UTF-16 text"),
        (b"\xff", "not UTF-8 text"),
        (HEADER.encode() + b'a,"b.jpg,,train\n', "cannot be read as CSV"),
        (HEADER.encode() + b'a,"' + b"x" * 140_000 + b'",,train\n', "cannot be read as CSV"),
    ],
    ids=["no row", "utf-16", "utf-8", "open quote", "long cell"],
)
def test_manifests_that_cannot_be_read(home: Path, data: bytes, says: str) -> None:
    (home / "m.csv").write_bytes(data)
    with pytest.raises(ManifestError, match=says):
        read_manifest(home / "m.csv")


def test_a_root_file_that_is_no_text_is_named(home: Path) -> None:
    (home / "m.csv").write_text(HEADER + "a,a.jpg,,train\n")
    (home / "m.root").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ManifestError, match=r"m\.root is not UTF-16 text"):
        read_manifest(home / "m.csv")


def test_missing_files_are_all_listed(home: Path) -> None:
    touch(home / "a.jpg")
    (home / "m.csv").write_text(HEADER + f"a,a.jpg,a.png,\nb,b.jpg,,\nc,{'x' * 300},,\n")
    assert problems_of(home / "m.csv") == tuple(str(home / name) for name in ("a.png", "b.jpg", "x" * 300))


def test_a_first_row_that_is_too_long_for_a_file_is_missing_too(home: Path) -> None:
    (home / "m.csv").write_text(HEADER + f"c,{'x' * 300},,\n")
    assert str(home) in problems_of(home / "m.csv")


@pytest.mark.parametrize("source", ["nowhere", "nowhere.csv", "sub/isic2016.csv"])
def test_a_manifest_that_is_nowhere(home: Path, source: str) -> None:
    with pytest.raises(ConfigError, match="neither a file nor a shipped name") as caught:
        read_manifest(source)
    assert "isic2016" in caught.value.fix


# --- where the files are ----------------------------------------------------------------------------------------------


def test_the_root_is_searched_in_its_order(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = home / "manifests" / "m.csv"
    places = [home / name for name in ("given", "remembered", "data", "data/m", "manifests", "cwd")]
    touch(*(place / "p" / "a.jpg" for place in places))
    manifest.write_text(HEADER + "a,p/a.jpg,,train\n")
    manifest.with_suffix(".root").write_text("../remembered\n")
    monkeypatch.setenv("LESIONSEG_DATA", str(home / "data"))
    assert read_manifest(manifest, home / "given").root == home / "given"
    for place in places[1:]:
        assert read_manifest(manifest).root == place
        (place / "p" / "a.jpg").unlink()
    with pytest.raises(ManifestError, match=r"its photos were not found, looking for p/a\.jpg below") as caught:
        read_manifest(manifest)
    assert [os.path.normpath(problem) for problem in caught.value.problems] == [str(place) for place in places[1:]]
    assert "data.root" in caught.value.fix
    assert "LESIONSEG_DATA" in caught.value.fix


def test_a_root_that_is_given_is_not_second_guessed(home: Path) -> None:
    touch(home / "a.jpg")
    (home / "m.csv").write_text(HEADER + "a,a.jpg,,train\n")
    with pytest.raises(ManifestError) as caught:
        read_manifest(home / "m.csv", home / "elsewhere")
    assert caught.value.problems == (str(home / "elsewhere"),)


def test_a_root_below_the_home_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(home / "photos" / "a.jpg")
    (home / "m.csv").write_text(HEADER + "a,a.jpg,,train\n")
    monkeypatch.setenv("HOME", str(home))
    assert read_manifest(home / "m.csv", "~/photos").root == home / "photos"


@pytest.mark.real
def test_the_shipped_manifest_finds_its_files(monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = read_manifest("isic2016", Path(os.environ["LESIONSEG_DATA"]) / "isic2016")
    assert (len(manifest.split("train")), len(manifest.split("test"))) == (806, 339)
