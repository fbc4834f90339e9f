"""Tables of diagnoses, groups and splits: read by the names of their columns, as data sets publish them."""

import codecs
import os
from pathlib import Path

import pytest

from lesionseg.data.label_tables import merge_labels, read_groups, read_labels, read_splits
from lesionseg.errors import DataError


@pytest.fixture
def table(tmp_path: Path):
    def write(text: str, encoding: str = "utf-8") -> Path:
        path = tmp_path / "t.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return write


# As published: ISIC 2016, 2017 and 2018, HAM10000, PAD-UFES-20.
ISIC_2017 = "image_id,melanoma,seborrheic_keratosis\nA,0.0,0.0\nB,1.0,0.0\nC,0.0,1.0\n"
ISIC_2018 = "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC\nA,0.0,1.0,0.0,0.0,0.0,0.0,0.0\nB,0.0,0.0,1.0,0.0,0.0,0.0,0.0\n"
HAM = "lesion_id,image_id,dx,dx_type,age,sex\nL1,A,bkl,histo,80,male\nL1,B,bkl,histo,80,male\nL2,C,nv,histo,55,male\n"
PAD = "patient_id,lesion_id,smoke,diagnostic,img_id,biopsed\nP1,7,True,BCC,PAT_1_7_1.png,True\n"
SIIM = (
    "image_name,patient_id,sex,age_approx,anatom_site,diagnosis,benign_malignant,target\n"
    "A,IP_1,male,45,torso,unknown,benign,0\nB,IP_1,male,50,head,melanoma,malignant,1\n"
)
ARCHIVE = (
    "isic_id,attribution,copyright_license,age_approx,benign_malignant,lesion_id,sex\n"
    "A,Hospital,CC-0,55,benign,IL_1,male\nB,Hospital,CC-0,60,malignant,IL_1,male\n"
)


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("A,benign\nB,malignant\n", {"A": "benign", "B": "malignant"}),
        ("A,0\nB,1\n", {"A": "benign", "B": "malignant"}),
        ("A,0.0\nB,1.0\nA,benign\n", {"A": "benign", "B": "malignant"}),
        (ISIC_2017, {"A": "nevus", "B": "melanoma", "C": "seborrheic_keratosis"}),
        (ISIC_2018, {"A": "NV", "B": "BCC"}),
        (HAM, {"A": "bkl", "B": "bkl", "C": "nv"}),
        (PAD, {"PAT_1_7_1": "BCC"}),
        (ARCHIVE, {"A": "benign", "B": "malignant"}),
        ("image_id,target\nA,0.0\nB,1.0\n", {"A": "benign", "B": "malignant"}),
        ("image,malignant\nA,True\nB,False\n", {"A": "malignant", "B": "benign"}),
        ("image;MEL;NV\nA;1,0;0,0\nB;0,00;1\n", {"A": "MEL", "B": "NV"}),
        ("image,benign,malignant\nA,1,0\nB,0,1\n", {"A": "benign", "B": "malignant"}),
        ("image,class\nA,0\nB,1\nC,2\n", {"A": "0", "B": "1", "C": "2"}),
        ("\ufeffISIC_ID,diagnosis\r\nA,nevus\r\n\r\nB, melanoma \r\n", {"A": "nevus", "B": "melanoma"}),
        ("sex,dx,Image ID\nmale,nv,0000012\n", {"0000012": "nv"}),
        ("id;dx\r\nA;1,5 mm\r\nB;nevus\r\n", {"A": "1,5 mm", "B": "nevus"}),
        ("sep=;\r\nid;dx\r\nA;nevus\r\n", {"A": "nevus"}),
        ("image\tdx\nA\tmel, in situ\n", {"A": "mel, in situ"}),
        ('id,dx\n"a, b","x ""y"""\n', {"a, b": 'x "y"'}),
        ("file,dx,,\nphotos/A.JPG,nv,,\nphotos\\B.tiff,mel,,\n", {"A": "nv", "B": "mel"}),
        ("image,dx,label\nA.jpg,nv,nv\n", {"A": "nv"}),
        ("image,dx,label\nA,nv,\n", {"A": "nv"}),
        ("image,dx\nA,nv\nB,\n", {"A": "nv"}),
    ],
)
def test_labels(table, text: str, labels: dict[str, str]) -> None:
    assert read_labels(table(text)) == labels


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_encodings_of_spreadsheets(table, encoding: str) -> None:
    mark = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}.get(encoding, b"").decode(encoding)
    assert read_labels(table(mark + "image\tdx\nMüller\tnv\n", encoding)) == {"Müller": "nv"}


def test_a_column_can_be_chosen(table) -> None:
    path = table(SIIM)
    assert read_labels(path, label_column="diagnosis") == {"A": "unknown", "B": "melanoma"}
    assert read_labels(path, label_column="Target") == {"A": "benign", "B": "malignant"}
    assert read_labels(path, id_column="patient_id", label_column="sex") == {"IP_1": "male"}
    assert read_labels(table("who,what\nA,nv\n"), id_column="who", label_column="what") == {"A": "nv"}
    assert read_labels(table("image,dx,MEL,NV\nA,x,1,0\n"), label_column="NV") == {"A": "MEL"}
    assert read_labels(table("image,dx,MEL,NV\nA,x,1,1\n"), label_column="dx") == {"A": "x"}
    assert read_labels(table("image,melanoma\nA,1\nB,0\n"), label_column="melanoma") == {
        "A": "melanoma",
        "B": "not melanoma",
    }


@pytest.mark.parametrize(
    ("text", "message", "problems", "fix"),
    [
        (
            SIIM,
            "3 columns that may hold the diagnosis",
            ("diagnosis (unknown, melanoma)", "benign_malignant (benign, malignant)", "target (benign, malignant)"),
            "--label-column",
        ),
        ("image,dx,MEL,NV\nA,x,1,0\n", "2 columns that may hold the diagnosis", ("dx (x)", "MEL, NV (MEL)"), "--label"),
        ("id,image,dx\n1,A,nv\n", "2 columns that may hold the image id", ("id (1)", "image (A)"), "--id-column"),
        ("image,image,dx\nB,A,nv\n", "2 columns that may hold the image id", ("image (B)", "image (A)"), "--id-column"),
        (
            "image,sex,age\nA,male,50\n",
            "no column .* known for the diagnosis",
            ("its columns: image, sex, age",),
            "--lab",
        ),
        ("image,melanoma\nA,1\n", "no column .* known for the diagnosis", ("its columns: image, melanoma",), "--label"),
        ("dx,who\nnv,A\n", "no column .* known for the image id", ("its columns: dx, who",), "--id-column"),
        ("A,nevus\nB,melanoma\n", "no header with a known column", ("its first row: A, nevus",), "case_id"),
        ("A,0,1\n", "no header with a known column", ("its first row: A, 0, 1",), "case_id"),
        ("1,A\n0,B\n", "no header with a known column", ("its first row: 1, A",), "case_id"),
        ("", "no row", (), "rows"),
        ("image,dx\n", "no row", (), "rows"),
    ],
)
def test_columns_that_are_not_known_or_ambiguous(table, text: str, message: str, problems: tuple, fix: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_labels(table(text))
    assert set(problems) <= set(caught.value.problems)
    assert fix in caught.value.fix
    assert "these rows" not in caught.value.fix


def test_a_chosen_column_that_is_not_there(table) -> None:
    for chosen in ({"label_column": "nothing"}, {"id_column": "nothing"}):
        with pytest.raises(DataError, match="no column 'nothing'") as caught:
            read_labels(table(HAM), **chosen)
        assert "its columns: lesion_id, image_id, dx, dx_type, age, sex" in caught.value.problems


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        (
            "id,dx\na,0\nb\na,1\n\nc,0\nc,1\n,1\n",
            (
                "row 3: 'b' has no dx",
                "row 4: a is malignant here and benign above",
                "row 7: c is malignant here and benign above",
                "row 8: no id",
            ),
        ),
        ("id,dx\na,nv,more\n", ("row 2: 3 cells, the header has 2",)),
        (
            "image,MEL,NV\nA,1,1\nB,0,0\nC,0.3,0.7\nD,1\n",
            (
                "row 2: MEL and NV of MEL, NV is 1, not one",
                "row 3: no class of MEL, NV is 1, not one",
                "row 4: MEL is '0.3', NV is '0.7', where a class has 0 or 1",
                "row 5: NV is '', where a class has 0 or 1",
            ),
        ),
    ],
)
def test_wrong_rows_are_all_listed(table, text: str, problems: tuple[str, ...]) -> None:
    with pytest.raises(DataError) as caught:
        read_labels(table(text))
    assert caught.value.problems == problems
    assert caught.value.fix == "correct these rows"


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00\x01\x02", b'a,"' + b"x" * 200_000, b'"a'])
def test_tables_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "l.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"l\.csv"):
        read_labels(tmp_path / "l.csv")


def test_groups(table) -> None:
    assert read_groups(table(HAM)) == {"A": "L1", "B": "L1", "C": "L2"}
    assert read_groups(table("a;case_id;patient\n;x.png;0\n")) == {"x": "0"}
    # A column in which nothing is known does not make it ambiguous.
    assert read_groups(table("image,patient_id,lesion_id\nA,,L\nB,NA,L\n")) == {"A": "L", "B": "L"}
    both = table("image,patient_id,lesion_id\nA,P,L1\nB,P,L2\n")
    assert read_groups(both, group_column="patient_id") == {"A": "P", "B": "P"}
    with pytest.raises(DataError, match="2 columns that may hold the group") as caught:
        read_groups(both)
    assert caught.value.problems == ("patient_id (P)", "lesion_id (L1, L2)")
    assert "--group-column" in caught.value.fix
    with pytest.raises(DataError, match="no header with a known column"):
        read_groups(table("A,P1\nB,P1\n"))


def test_splits(table) -> None:
    assert read_splits(table("image;set\nA.jpg;train\nB.jpg;test\n")) == {"A": "train", "B": "test"}
    with pytest.raises(DataError, match="known for the split") as caught:
        read_splits(table("case_id,fold\nA,1\n"))
    assert caught.value.fix == "name its column split"


def test_tables_that_contradict_each_other() -> None:
    assert merge_labels([(Path("a"), {"A": "x"}), (Path("b"), {"A": "x", "B": "y"})]) == {"A": "x", "B": "y"}
    with pytest.raises(DataError, match="contradict") as caught:
        merge_labels([(Path("a"), {"A": "x"}), (Path("b"), {"A": "y"})])
    assert caught.value.problems == ("A: y in b, x before",)


@pytest.mark.real
def test_published_metadata() -> None:
    path = Path(os.environ["LESIONSEG_DATA"]) / "imaplusplus" / "metadata.csv"
    assert read_labels(path, label_column="diagnosis_3")["ISIC_0000000"] == "Nevus"
    with pytest.raises(DataError, match="that may hold the diagnosis") as caught:
        read_labels(path)
    assert [line.partition(" (")[0] for line in caught.value.problems] == ["diagnosis_1", "diagnosis_3"]
