import dataclasses

import numpy as np
import pytest
from PIL import Image

from lesionseg.data.classes import trimap
from lesionseg.data.images import read_class_mask, read_mask
from lesionseg.data.manifest import read_manifest
from lesionseg.data.trimaps import TRIMAP_CLASSES, write_trimaps
from lesionseg.errors import DataError


def test_the_written_masks_are_read_back_by_colour(tiny, tmp_path):
    before = read_manifest(tiny.manifest)
    seen = []
    path = write_trimaps(before, tmp_path / "out", 3, progress=lambda *counts: seen.append(counts))
    after = read_manifest(path)
    assert seen[-1] == (14, 14)
    for old, new in zip(before.cases, after.cases, strict=True):
        assert (new.case_id, new.image, new.split, new.labels) == (old.case_id, old.image, old.split, old.labels)
        expected = trimap(read_mask(old.mask), 3)
        assert set(np.unique(expected)) == {0, 1, 2}
        assert np.array_equal(read_class_mask(new.mask, TRIMAP_CLASSES), expected)
        with Image.open(new.mask) as picture:
            assert picture.mode == "P"


def test_an_id_never_leads_out_of_the_folder(tiny, tmp_path):
    manifest = read_manifest(tiny.manifest)
    case = dataclasses.replace(manifest.cases[0], case_id="../../escaped")
    with pytest.raises(DataError, match="cannot name a file"):
        write_trimaps(dataclasses.replace(manifest, cases=(case,)), tmp_path / "a" / "b", 3)
    assert not (tmp_path / "a").exists()


def test_cases_without_mask_are_listed_before_anything_is_written(tiny, tmp_path):
    manifest = read_manifest(tiny.manifest)
    cases = [dataclasses.replace(case, mask=None) for case in manifest.cases[:2]]
    with pytest.raises(DataError) as caught:
        write_trimaps(dataclasses.replace(manifest, cases=tuple(cases)), tmp_path / "out", 3)
    assert list(caught.value.problems) == [case.case_id for case in cases]
    assert not (tmp_path / "out").exists()
