import numpy as np

from lesionseg.data.manifest import read_manifest
from lesionseg.data.preview import contact_sheet


def test_the_first_column_is_the_case_itself_and_the_others_vary(tiny):
    cases = read_manifest(tiny.manifest).cases[:3]
    sheet = contact_sheet(tiny.config("data.preset=dermoscopy"), cases, epochs=4)
    assert sheet.shape == (3 * 68 - 4, 5 * 68 - 4, 3)
    tiles = [sheet[:64, 68 * k : 68 * k + 64] for k in range(5)]
    assert len({tile.tobytes() for tile in tiles}) == 5
    outline = (sheet == [0, 255, 128]).all(2)
    assert all(outline[68 * row : 68 * row + 64, :64].sum() > 20 for row in range(3))


def test_without_augmentation_every_epoch_looks_the_same(tiny):
    cases = read_manifest(tiny.manifest).cases[:1]
    sheet = contact_sheet(tiny.config("data.flip=0", "data.trimap=2"), cases, epochs=2)
    assert np.array_equal(sheet[:, :64], sheet[:, 68:132])
