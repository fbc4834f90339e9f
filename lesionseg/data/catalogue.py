"""Published dermoscopy data sets with masks: where they lie, what they may be used for, and what to cite.

Addresses, licences and citations are those of the ISIC challenge's data page and of Harvard Dataverse. Digests are
listed only where at least two sources that checked their downloads agree, or where the publisher gives them; sizes
only where they are known to the byte. Anything else is None, never a guess.
"""

from __future__ import annotations

from dataclasses import dataclass

from lesionseg.errors import DownloadError

__all__ = ["CATALOGUE", "Dataset", "RemoteFile", "find_dataset"]


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a data set.

    Attributes:
        name: what it is called here, without folders.
        urls: official addresses of the same bytes, the best first.
        folder: where a zip archive is unpacked to, below the output folder; empty for a file that stays as it is.
        size: bytes; None when unknown.
        sha256, md5: hex digests; None when unknown.
    """

    name: str
    urls: tuple[str, ...]
    folder: str = ""
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None


@dataclass(frozen=True, slots=True)
class Dataset:
    """One data set.

    Attributes:
        name: what it is called on the command line.
        title: for people.
        licence: under which it may be used.
        citation: what to cite in a publication.
        page: where a person can read on.
        files: empty where a program cannot fetch it.
        request: how a person obtains it; only where ``files`` is empty.
    """

    name: str
    title: str
    licence: str
    citation: str
    page: str
    files: tuple[RemoteFile, ...] = ()
    request: str = ""


# The challenge moved its files from the second place to the first.
_ISIC = ("https://isic-archive.s3.amazonaws.com/challenges", "https://isic-challenge-data.s3.amazonaws.com")
_DATAVERSE = "https://dataverse.harvard.edu/api/access/datafile"
_CC0 = "CC0-1.0 (public domain)"


def _isic(
    year: int, name: str, *, size: int | None = None, sha256: str | None = None, md5: str | None = None
) -> RemoteFile:
    # An archive holds one folder that is called like itself.
    folder = name.removesuffix(".zip") if name.endswith(".zip") else ""
    return RemoteFile(name, tuple(f"{place}/{year}/{name}" for place in _ISIC), folder, size, sha256, md5)


CATALOGUE: tuple[Dataset, ...] = (
    Dataset(
        name="isic2016",
        title="ISIC 2016 challenge, task 1 (lesion segmentation): 900 training and 379 test photos with masks",
        licence=_CC0,
        citation="Gutman et al., Skin Lesion Analysis toward Melanoma Detection (ISBI 2016), arXiv:1605.01397",
        page="https://challenge.isic-archive.com/data/#2016",
        files=(
            _isic(2016, "ISBI2016_ISIC_Part1_Training_Data.zip", md5="2029f387e62dcc062b1370b1efc1f7fb"),
            _isic(2016, "ISBI2016_ISIC_Part1_Training_GroundTruth.zip", md5="fbd77134298f3511479a37bac93109c7"),
            _isic(2016, "ISBI2016_ISIC_Part1_Test_Data.zip", md5="efebcaeaae751007401a40a60d391f93"),
            _isic(2016, "ISBI2016_ISIC_Part1_Test_GroundTruth.zip", md5="492a7711a2e19b96114cab6c96bd1ad5"),
            _isic(
                2016,
                "ISBI2016_ISIC_Part3_Training_GroundTruth.csv",
                size=19_419,
                sha256="0ffadd63b7cec650cddfbe5df54d1d3167453fe6004c2bbf05824184b0c4d405",
            ),
            _isic(2016, "ISBI2016_ISIC_Part3_Test_GroundTruth.csv"),
        ),
    ),
    Dataset(
        name="isic2017",
        title="ISIC 2017 challenge, part 1 (lesion segmentation): 2000 training, 150 validation and 600 test photos",
        licence=_CC0,
        citation="Codella et al., Skin Lesion Analysis Toward Melanoma Detection (ISBI 2017), arXiv:1710.05006",
        page="https://challenge.isic-archive.com/data/#2017",
        files=(
            _isic(2017, "ISIC-2017_Training_Data.zip", md5="a14a7e622c67a358797ae59abb8a0b0c"),
            _isic(2017, "ISIC-2017_Training_Part1_GroundTruth.zip", md5="77fdbeb6fbec4139937224416b250f4c"),
            _isic(2017, "ISIC-2017_Validation_Data.zip", md5="8d6419d942112f709894c0d82f6c9038"),
            _isic(2017, "ISIC-2017_Validation_Part1_GroundTruth.zip", md5="64d3e68fa2deeb8a5e89aa8dec2efd44"),
            _isic(2017, "ISIC-2017_Test_v2_Data.zip", md5="5f6a0b5e1f2972bd1f5ea02680489f09"),
            _isic(2017, "ISIC-2017_Test_v2_Part1_GroundTruth.zip", md5="b1742de6bd257faca3b2b21a4aa3b781"),
        ),
    ),
    Dataset(
        name="isic2018",
        title="ISIC 2018 challenge, task 1 (lesion segmentation): 2594 training, 100 validation and 1000 test photos",
        licence=_CC0,
        citation="Codella et al., Skin Lesion Analysis Toward Melanoma Detection 2018, arXiv:1902.03368; "
        "Tschandl et al., The HAM10000 dataset, doi:10.1038/sdata.2018.161",
        page="https://challenge.isic-archive.com/data/#2018",
        files=(
            _isic(
                2018,
                "ISIC2018_Task1-2_Training_Input.zip",
                size=11_165_358_566,
                sha256="80f98572347a2d7a376227fa9eb2e4f7459d317cb619865b8b9910c81446675f",
            ),
            _isic(
                2018,
                "ISIC2018_Task1_Training_GroundTruth.zip",
                size=27_402_895,
                sha256="99f8b2bb3c4d6af483362010715f7e7d5d122d9f6c02cac0e0d15bef77c7604c",
            ),
            _isic(
                2018,
                "ISIC2018_Task1-2_Validation_Input.zip",
                size=239_231_159,
                sha256="0ea920fcfe512d12a6e620b50b50233c059f67b10146e1479c82be58ff15a797",
            ),
            _isic(
                2018,
                "ISIC2018_Task1_Validation_GroundTruth.zip",
                size=759_706,
                sha256="f6911e9c0a64e6d687dd3ca466ca927dd5e82145cb2163b7a1e5b37d7a716285",
            ),
            _isic(
                2018,
                "ISIC2018_Task1-2_Test_Input.zip",
                sha256="e59ae1f69f4ed16f09db2cb1d76c2a828487b63d28f6ab85997f5616869b127d",
            ),
            _isic(
                2018,
                "ISIC2018_Task1_Test_GroundTruth.zip",
                sha256="2e8f6edce454a5bdee52485e39f92bd6eddf357e81f39018d05512175238ef82",
            ),
        ),
    ),
    Dataset(
        name="ham10000",
        title="HAM10000: 10015 photos of 7470 lesions with masks and diagnoses",
        licence="CC-BY-NC-4.0 (no commercial use)",
        citation="Tschandl et al., The HAM10000 dataset, doi:10.1038/sdata.2018.161, data doi:10.7910/DVN/DBW86T; "
        "masks: Tschandl et al., Human-computer collaboration for skin cancer recognition, "
        "doi:10.1038/s41591-020-0942-0",
        page="https://doi.org/10.7910/DVN/DBW86T",
        files=(
            # Two archives of one set of photos, which pairing wants in one folder.
            RemoteFile(
                "HAM10000_images_part_1.zip",
                (f"{_DATAVERSE}/3172585",),
                "HAM10000_images",
                size=1_366_522_108,
                md5="4639bfa73ab251610530a97c898e6e46",
            ),
            RemoteFile(
                "HAM10000_images_part_2.zip",
                (f"{_DATAVERSE}/3172584",),
                "HAM10000_images",
                size=1_403_566_547,
                md5="da43d6cc50f6613013be07e8986b384b",
            ),
            RemoteFile(
                "HAM10000_segmentations_lesion_tschandl.zip",
                (f"{_DATAVERSE}/3838943",),
                "HAM10000_segmentations_lesion_tschandl",
                size=10_808_743,
                md5="6e8d252e09cfdb0189199f15985a5b84",
            ),
            # Without the format, Dataverse serves its own rendering of the table, which the digest does not fit.
            RemoteFile(
                "HAM10000_metadata.csv",
                (f"{_DATAVERSE}/4338392?format=original",),
                size=690_218,
                md5="8f85fb1aa29d80a2797247e434deb79d",
            ),
        ),
    ),
    Dataset(
        name="ph2",
        title="PH2: 200 photos with masks from the Pedro Hispano Hospital",
        licence="research and education only, on request; not to be passed on",
        citation="Mendonça et al., PH2 - A dermoscopic image database for research and benchmarking, "
        "doi:10.1109/EMBC.2013.6610779",
        page="https://www.fc.up.pt/addi/ph2%20database.html",
        request="ask for it at https://www.fc.up.pt/addi/ph2%20database.html, unpack it yourself, copy its photos "
        "(*_Dermoscopic_Image/*.bmp) into one folder and its masks (*_lesion/*.bmp) into another, then pair these",
    ),
)
"""Every data set that is known by name."""


def find_dataset(name: str) -> Dataset:
    """The catalogue's entry.

    Raises:
        DownloadError: there is none of this name.
    """
    for dataset in CATALOGUE:
        if dataset.name == name.lower():
            return dataset
    raise DownloadError(
        f"{name} is not a data set that lesionseg knows",
        fix=f"use one of: {', '.join(dataset.name for dataset in CATALOGUE)}",
    )
