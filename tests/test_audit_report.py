import base64
import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lesionseg.data import audit_report
from lesionseg.data.audit import Audit, audit, examine_cases
from lesionseg.data.audit_report import fingerprint_rows, summary, thumbnail, write_audit
from lesionseg.data.findings import Severity, found
from lesionseg.data.synthetic import generate
from lesionseg.errors import OutputError
from lesionseg.records import Case

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def cases(tmp_path: Path) -> list[Case]:
    made = []
    for index in range(4):
        pair = generate(1, index, width=160, height=120).pair
        paths = (tmp_path / f"{index}.png", tmp_path / f"{index}_mask.png")
        Image.fromarray(pair.image).save(paths[0])
        Image.fromarray(pair.mask.astype(np.uint8) * 255).save(paths[1])
        made.append(Case(f"c{index}", *paths, "train", labels={"diagnosis": "benign"}))
    return made


def audited(cases: list[Case], *kinds: str) -> Audit:
    result = audit(examine_cases(cases))
    return replace(result, findings=tuple(found(kind, ["c0", "c1"], f"about {kind}") for kind in kinds))


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def test_the_page_stands_alone_and_shows_each_finding_with_its_photos(cases: list[Case], tmp_path: Path) -> None:
    files = write_audit(audited(cases, "split-leak", "mask-hole", "misfit"), tmp_path / "out", "a set")
    page = files.html.read_text(encoding="utf-8")
    assert page.count("Research use only. Not a medical device.") == 2
    assert "1 error and 2 warnings in 4 cases." in page
    assert "http" not in page.replace('http-equiv="Content-Security-Policy"', "")
    for title in ("One lesion in several splits", "Mask with a hole", "Mask that does not fit its photo"):
        assert len(re.findall(f"<h2[^>]*>{title}", page)) == 1
    pictures = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)" alt="(\w+)', page)
    assert [name for _, name in pictures] == ["c0", "c1"] * 3
    assert Image.open(io.BytesIO(base64.b64decode(pictures[0][0]))).size == (216, 162)
    assert [row["kind"] for row in rows(files.table)] == ["split-leak", "mask-hole", "misfit"]
    assert rows(files.table)[0]["cases"] == "c0 c1"
    told = json.loads(files.fingerprint.read_text())
    assert (told["cases"], told["splits"], told["diagnoses"]) == (4, {"train": 4}, {"benign": 4})
    assert told["sizes"] == [{"width": 160, "height": 120, "photos": 4}]
    assert list(told["lesion_fraction"]) == ["0", "0.05", "0.25", "0.5", "0.75", "0.95", "1"]
    assert told["digest"] in page


def test_names_are_text_and_never_markup_or_formulas(cases: list[Case], tmp_path: Path) -> None:
    evil = replace(cases[0], case_id=HOSTILE, split=HOSTILE)
    result = audit(examine_cases([evil, *cases[1:]]))
    result = replace(result, findings=(found("misfit", [HOSTILE], f"=1+1 {HOSTILE}", fix=HOSTILE),))
    files = write_audit(result, tmp_path / "out", HOSTILE)
    page = files.html.read_text(encoding="utf-8")
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 5
    assert "script-src" not in page
    assert "default-src 'none'" in page
    assert rows(files.table)[0]["message"].startswith("'=")


def test_names_that_are_not_utf8_can_be_written(cases: list[Case], tmp_path: Path) -> None:
    odd = replace(cases[0], case_id="b\udcff")
    result = audit(examine_cases([odd, *cases[1:]]))
    result = replace(result, findings=(found("misfit", ["b\udcff"], "m"),))
    files = write_audit(result, tmp_path / "out", "odd")
    assert "b\\udcff" in files.html.read_text(encoding="utf-8")
    assert "b\\udcff" in files.table.read_text(encoding="utf-8")


def test_what_cannot_be_decoded_has_no_picture(cases: list[Case], tmp_path: Path) -> None:
    cases[0].image.write_bytes(b"nonsense")
    result = audit(examine_cases(cases))
    page = write_audit(result, tmp_path / "out", "broken").html.read_text(encoding="utf-8")
    assert "no picture" in page
    assert "not a picture in a supported format" in page


def test_of_many_findings_the_first_are_shown_and_all_are_listed(
    cases: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_report, "_SHOWN", 5)
    result = audited(cases, *["mask-hole"] * 7)
    files = write_audit(result, tmp_path / "out", "many")
    page = files.html.read_text(encoding="utf-8")
    assert page.count("about mask-hole") == 5
    assert "The first 5; <code>findings.csv</code> has all." in page
    assert len(rows(files.table)) == 7


def test_of_many_photos_the_first_are_shown(cases: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_report, "_PHOTOS", 3)
    result = replace(
        audited(cases), findings=(found("near-duplicate", [case.case_id for case in cases], "all one lesion"),)
    )
    page = write_audit(result, tmp_path / "out", "many").html.read_text(encoding="utf-8")
    assert page.count("<img") == 3
    assert "; and 1 more" in page


def test_a_clean_set_and_an_empty_one(cases: list[Case], tmp_path: Path) -> None:
    clean = audited(cases)
    assert summary(clean) == "Nothing was found in 4 cases."
    page = write_audit(clean, tmp_path / "out", "clean").html.read_text(encoding="utf-8")
    assert "Nothing was found" in page
    assert "<img" not in page
    empty = audit([])
    assert [name for name, _ in fingerprint_rows(empty.fingerprint)] == ["Cases", "Digest"]
    write_audit(empty, tmp_path / "empty", "empty")
    assert json.loads((tmp_path / "empty" / "fingerprint.json").read_text())["mean"] == []


def test_the_answer_counts_by_severity(cases: list[Case]) -> None:
    assert summary(audited(cases, "photo-size")) == "1 note in 4 cases."
    told = summary(audited(cases, "unpaired", "unpaired", "misfit", "photo-size", "photo-colour"))
    assert told == "2 errors, 1 warning and 2 notes in 4 cases."
    assert audited(cases, "misfit").count(Severity.WARNING) == 1


def test_a_place_that_is_a_file(cases: list[Case], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="not a folder"):
        write_audit(audited(cases), tmp_path / "file", "x")


# --- thumbnails -------------------------------------------------------------------------------------------------------


def test_a_thumbnail_shows_the_border_of_the_mask(tmp_path: Path) -> None:
    Image.new("RGB", (432, 324), (200, 150, 130)).save(tmp_path / "photo.png")
    drawn = np.zeros((324, 432), np.uint8)
    drawn[100:200, 100:300] = 255
    Image.fromarray(drawn).save(tmp_path / "mask.png")
    small = thumbnail(Case("x", tmp_path / "photo.png", tmp_path / "mask.png"))
    assert small is not None
    assert small.shape == (162, 216, 3)
    bright = (small == (0, 230, 118)).all(-1)
    assert bright.sum() == 2 * (50 + 100) - 4
    assert bright[50, 50:150].all()
    assert (small[75, 100] == (200, 150, 130)).all()


def test_a_mask_that_cannot_be_laid_on_the_photo_is_left_out(tmp_path: Path) -> None:
    Image.new("RGB", (60, 90), (200, 150, 130)).save(tmp_path / "photo.png")
    Image.new("L", (90, 60), 255).save(tmp_path / "turned.png")
    (tmp_path / "broken.png").write_bytes(b"x")
    for name in ("turned.png", "broken.png"):
        small = thumbnail(Case("x", tmp_path / "photo.png", tmp_path / name))
        assert small is not None
        assert small.shape == (162, 108, 3)
        assert (small == (200, 150, 130)).all()
    assert thumbnail(Case("x", tmp_path / "broken.png")) is None
