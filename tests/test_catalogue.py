"""What the catalogue says must be usable: addresses, digests, licences and the folders that pairing wants."""

import dataclasses
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from lesionseg.data.catalogue import CATALOGUE, Dataset, RemoteFile, find_dataset
from lesionseg.data.download import MAX_BYTES
from lesionseg.data.manifest import read_manifest
from lesionseg.errors import DownloadError

FILES = [file for dataset in CATALOGUE for file in dataset.files]
OPEN = [dataset for dataset in CATALOGUE if dataset.files]


def named(value: object) -> str:
    return value.name if isinstance(value, Dataset | RemoteFile) else repr(value)


def test_the_data_sets() -> None:
    names = [dataset.name for dataset in CATALOGUE]
    assert sorted(names) == ["ham10000", "isic2016", "isic2017", "isic2018", "ph2"]
    assert len({file.name for file in FILES}) == len(FILES)
    assert len({url for file in FILES for url in file.urls}) == sum(len(file.urls) for file in FILES)


@pytest.mark.parametrize("dataset", CATALOGUE, ids=named)
def test_every_entry_tells_its_licence_and_what_to_cite(dataset: Dataset) -> None:
    assert dataset.title
    assert re.search(r"arXiv:\d{4}\.\d{5}|doi:10\.\d{4,}/\S+", dataset.citation)
    assert urlsplit(dataset.page).scheme == "https"
    assert re.match(r"CC0-1\.0|CC-BY-NC-4\.0|research", dataset.licence)
    assert bool(dataset.files) != bool(dataset.request)


def test_the_licences() -> None:
    licences = {dataset.name: dataset.licence.split()[0] for dataset in CATALOGUE}
    assert licences == {
        "isic2016": "CC0-1.0",
        "isic2017": "CC0-1.0",
        "isic2018": "CC0-1.0",
        "ham10000": "CC-BY-NC-4.0",
        "ph2": "research",
    }


@pytest.mark.parametrize("file", FILES, ids=named)
def test_every_address_is_official_and_encrypted(file: RemoteFile) -> None:
    assert file.urls
    for url in file.urls:
        parts = urlsplit(url)
        assert parts.scheme == "https"
        assert parts.hostname in (
            "isic-archive.s3.amazonaws.com",
            "isic-challenge-data.s3.amazonaws.com",
            "dataverse.harvard.edu",
        )
        # Dataverse has numbers for names.
        assert Path(unquote(parts.path)).name == file.name or re.fullmatch(r"\d+", Path(parts.path).name)


@pytest.mark.parametrize("file", FILES, ids=named)
def test_every_digest_and_size_can_be_true(file: RemoteFile) -> None:
    assert file.sha256 is None or re.fullmatch("[0-9a-f]{64}", file.sha256)
    assert file.md5 is None or re.fullmatch("[0-9a-f]{32}", file.md5)
    assert file.size is None or 0 < file.size <= MAX_BYTES


def test_digests_are_not_copied_from_one_file_to_another() -> None:
    digests = [digest for file in FILES for digest in (file.sha256, file.md5) if digest]
    assert len(digests) == len(set(digests))
    assert [file.name for file in FILES if not (file.sha256 or file.md5)] == [
        "ISBI2016_ISIC_Part3_Test_GroundTruth.csv"
    ]


@pytest.mark.parametrize("file", FILES, ids=named)
def test_archives_have_a_folder_and_tables_none(file: RemoteFile) -> None:
    assert Path(file.name).name == file.name
    assert Path(file.folder).name == file.folder
    assert (file.name.endswith(".zip"), bool(file.folder)) in ((True, True), (False, False))


@pytest.mark.parametrize("dataset", OPEN, ids=named)
def test_photos_and_masks_come_in_folders_of_their_own(dataset: Dataset) -> None:
    folders = {file.folder for file in dataset.files if file.folder}
    masks = {folder for folder in folders if "GroundTruth" in folder or "segmentations" in folder}
    assert len(masks) * 2 == len(folders)


def test_the_folders_of_isic2016_are_those_of_its_manifest() -> None:
    folders = {file.folder for file in find_dataset("isic2016").files if file.folder}
    assert folders == {
        "ISBI2016_ISIC_Part1_Training_Data",
        "ISBI2016_ISIC_Part1_Training_GroundTruth",
        "ISBI2016_ISIC_Part1_Test_Data",
        "ISBI2016_ISIC_Part1_Test_GroundTruth",
    }


@pytest.mark.real
def test_the_manifest_finds_its_photos_in_these_folders() -> None:
    cases = read_manifest("isic2016").cases
    used = {path.parent.name for case in cases for path in (case.image, case.mask) if path}
    assert used == {file.folder for file in find_dataset("isic2016").files if file.folder}


def test_an_entry_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        CATALOGUE[0].name = "x"  # type: ignore[misc]


@pytest.mark.parametrize("name", ["isic2018", "ISIC2018"])
def test_an_entry_by_its_name(name: str) -> None:
    assert find_dataset(name).name == "isic2018"


@pytest.mark.parametrize("name", ["", "isic", "isic2016 "])
def test_an_unknown_name_lists_the_known_ones(name: str) -> None:
    with pytest.raises(DownloadError) as caught:
        find_dataset(name)
    assert caught.value.fix == "use one of: isic2016, isic2017, isic2018, ham10000, ph2"
