import numpy as np

from cleftnet.synthetic.microscope import expose
from cleftnet.synthetic.sections import Sections

SECTIONS = Sections((40, 32, 32), (40.0, 4.0, 4.0), np.zeros((40, 2), np.float32))


def test_more_absorbance_is_darker() -> None:
    absorbance = np.broadcast_to(np.float32([[0], [1], [2], [3]]).repeat(8, axis=0), SECTIONS.shape)
    raw = expose(SECTIONS, np.random.default_rng(0), absorbance, noise=0, contrast=0, defects=0)
    bands = raw.reshape(40, 4, 8, 32).mean(axis=(0, 2, 3))
    np.testing.assert_allclose(bands, 235 * np.exp([0, -1, -2, -3]), atol=12)


def test_without_defects_no_section_is_lost_and_with_them_some_are() -> None:
    absorbance = np.full(SECTIONS.shape, 0.5, np.float32)
    good, ruined = (
        expose(SECTIONS, np.random.default_rng(0), absorbance, noise=0.05, contrast=0.05, defects=p) for p in (0, 1)
    )
    assert good.any(axis=(1, 2)).all()
    lost = ~ruined.any(axis=(1, 2))
    assert 5 < lost.sum() < 25  # a third of 40: the others are stained or faint
    assert ruined[~lost].std(axis=(1, 2)).min() > 0


def test_contrast_makes_sections_differ_in_brightness() -> None:
    absorbance = np.full(SECTIONS.shape, 0.5, np.float32)
    even, uneven = (
        expose(SECTIONS, np.random.default_rng(0), absorbance, noise=0, contrast=c, defects=0).mean(axis=(1, 2)).std()
        for c in (0, 0.1)
    )
    assert uneven > even + 5
