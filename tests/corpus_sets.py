"""Folders to pair, manifests and labels of the corpus."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from corpus import Files, Found, Row, files_in
from corpus_photos import JPEG, PNG, SMOOTH
from pictures import encoded, exif

from lesionseg.data.label_tables import read_labels
from lesionseg.data.manifest import read_manifest, write_manifest
from lesionseg.data.pairing import Folders, pair_folders
from lesionseg.records import Case

MASK = np.zeros((48, 64), np.bool_)
MASK[10:30, 20:40] = True
MASK_PNG = encoded(MASK * np.uint8(255), "PNG")


def photo(seed: int) -> bytes:
    return encoded(np.roll(SMOOTH, seed, axis=1), "PNG")


# --- pairing ----------------------------------------------------------------------------------------------------------


def _run_pair(folder: Path) -> Found:
    """Pairs, writes the manifest and reads it back: names have to survive all of it."""
    told: list[str] = []
    cases = pair_folders([Folders("train", folder / "photos", folder / "masks")], warn=told.append)
    root = write_manifest(cases, folder / "m.csv")
    again = read_manifest(folder / "m.csv", root).cases
    skipped = tuple(line for line in told if "left out: " in line)
    return Found(again, tuple(line for line in told if line not in skipped), skipped)


def _pair(
    title: str,
    outcome: str,
    files: Files,
    *,
    says: str = "",
    names: str = "",
    ids: Sequence[str] = ("a",),
    right: Callable[[Sequence[Case]], bool] = lambda cases: True,
) -> Row:
    def all_right(cases: Sequence[Case]) -> bool:
        return [case.case_id for case in cases] == list(ids) and right(cases)

    return Row(title, outcome, "pair", files_in(files), _run_pair, says, all_right, names)


def _named(name: str) -> Files:
    return {f"photos/{name}.jpg": JPEG, f"masks/{name}_Segmentation.png": MASK_PNG}


PAIR = {"photos/a.png": PNG, "masks/a.png": MASK_PNG}
TURNED = encoded(np.rot90(SMOOTH), "PNG", exif=exif(6))
UPRIGHT_SIZE = [(64, 48)]


def _sizes(expected: list[tuple[int, int]]) -> Callable[[Sequence[Case]], bool]:
    return lambda cases: [(case.width, case.height) for case in cases] == expected


PAIRS: tuple[Row, ...] = (
    _pair("endings in capitals", "D", {"photos/a.JPG": JPEG, "masks/a_SEGMENTATION.PNG": MASK_PNG}),
    _pair("Unicode names", "D", _named("Läsion 病变"), ids=["Läsion 病变"]),
    _pair("names with spaces", "D", _named(" a  b "), ids=["a  b"]),
    _pair("names with a newline", "D", _named("a\nb"), ids=["a\nb"]),
    _pair(
        "ids 0000012 and NA",
        "D",
        {**_named("0000012"), "photos/NA.png": photo(3), "masks/NA.png": MASK_PNG},
        ids=["0000012", "NA"],
    ),
    _pair(
        "EXIF orientation, mask of the upright size",
        "D",
        {"photos/a.png": TURNED, "masks/a.png": MASK_PNG},
        right=_sizes(UPRIGHT_SIZE),
    ),
    _pair(
        "EXIF orientation, mask of the stored size",
        "D",
        {"photos/a.png": encoded(SMOOTH, "PNG", exif=exif(6)), "masks/a.png": MASK_PNG},
        right=_sizes(UPRIGHT_SIZE),
    ),
    _pair(
        "EXIF orientation, ambiguous",
        "W",
        {"photos/a.png": encoded(SMOOTH, "PNG", exif=exif(3)), "masks/a.png": MASK_PNG},
        says=r"a\.png: EXIF orientation 3",
    ),
    _pair(
        "mask size off by one",
        "R",
        PAIR | {"masks/a.png": encoded(MASK[:-1] * np.uint8(255), "PNG")},
        says="the mask is 64 x 47, the photo 64 x 48",
        names="a.png",
    ),
    _pair(
        "mask transposed",
        "R",
        PAIR | {"masks/a.png": encoded(MASK.T * np.uint8(255), "PNG")},
        says="the mask is 48 x 64, the photo 64 x 48",
        names="a.png",
    ),
    _pair("the same stem as .jpg and .png", "R", PAIR | {"photos/a.jpg": JPEG}, says="2 photos", names="a.jpg, a.png"),
    _pair(
        "ids that collide after _segmentation, _Segmentation and _mask",
        "R",
        {"photos/a.png": PNG} | {f"masks/a_{end}.png": MASK_PNG for end in ("segmentation", "Segmentation", "mask")},
        says="a: 3 masks: ",
        names="a_Segmentation.png, a_mask.png, a_segmentation.png",
    ),
    _pair(
        "missing masks",
        "R",
        PAIR | {"photos/b.png": photo(1), "photos/c.png": photo(2)},
        says=r"(?s)b: no mask for .*b\.png.*c: no mask for",
        names="c.png",
    ),
    _pair(
        "the same bytes under two ids",
        "W",
        PAIR | {"photos/b.png": PNG, "masks/b.png": MASK_PNG},
        says=r"a \(train\) and b \(train\): the same photo",
        ids=["a", "b"],
    ),
    _pair("orphan mask", "W", PAIR | {"masks/b.png": MASK_PNG}, says=r"b: no photo for .*b\.png"),
    _pair("._ISIC file of macOS", "S", PAIR | {"photos/._a.png": b"\0\5\x16\7"}, says=r"\._a\.png left out"),
    _pair("Thumbs.db of Windows", "S", PAIR | {"masks/Thumbs.db": b"\xd0\xcf"}, says=r"Thumbs\.db left out"),
    _pair("_superpixels.png of ISIC 2017", "S", PAIR | {"photos/a_superpixels.png": PNG}, says="_superpixels.png left"),
)


# --- manifests and labels ---------------------------------------------------------------------------------------------

HEADER = "case_id,image,mask,split\n"


def _manifest(title: str, outcome: str, text: str, says: str = "", ids: Sequence[str] = ("0000012", "NA")) -> Row:
    files = {"m.csv": text.encode("utf-8"), "a.png": PNG, "b.png": photo(1), "m.png": MASK_PNG}
    return Row(
        title,
        outcome,
        "manifest",
        files_in(files),
        lambda folder: Found(read_manifest(folder / "m.csv", folder).cases),
        says,
        lambda cases: [case.case_id for case in cases] == list(ids),
        "m.csv",
    )


PLAIN = HEADER + "0000012,a.png,m.png,train\nNA,b.png,m.png,test\n"


def _run_labels(folder: Path) -> Found:
    return Found(read_labels(folder / "l.csv"))


TABLES: tuple[Row, ...] = (
    _manifest("manifest with ids 0000012 and NA", "D", PLAIN),
    _manifest("manifest with BOM", "D", "\ufeff" + PLAIN),
    _manifest("manifest with CRLF", "D", PLAIN.replace("\n", "\r\n")),
    _manifest("manifest with semicolons", "D", PLAIN.replace(",", ";")),
    _manifest("manifest with duplicate rows", "R", PLAIN + "NA,b.png,m.png,test\n", "NA: more than one row"),
    _manifest("manifest with wrong columns", "R", "id,photo,mask\n1,a.png,m.png\n", "(?s)no column 'case_id'.*'image'"),
    _manifest(
        "manifest with escaping paths",
        "R",
        HEADER + "a,../a.png,,train\nb,/etc/passwd,,train\n",
        r"(?s)line 2: image '\.\./a\.png' is not .*line 3: image '/etc/passwd' is not",
    ),
    Row(
        "labels with BOM, CRLF and semicolons",
        "D",
        "labels",
        make=files_in({"l.csv": "\ufeffisic_id;target\r\n0000012;1\r\nNA;0\r\n".encode()}),
        run=_run_labels,
        right=lambda labels: labels == {"0000012": "malignant", "NA": "benign"},
    ),
    Row(
        "labels that contradict each other",
        "R",
        "labels",
        make=files_in({"l.csv": b"a,0\nb,1\na,1\n"}),
        run=_run_labels,
        says="row 3: a is malignant here and benign above",
        names="l.csv",
    ),
)

SETS = (*PAIRS, *TABLES)
