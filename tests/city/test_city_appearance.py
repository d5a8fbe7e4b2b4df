"""Which look blocks show."""

import pytest

from blocknerf.core.types import MEAN_APPEARANCE, Appearance

DUSK = Appearance(drive="dusk")


@pytest.mark.parametrize(
    ("appearance", "resolved"),
    [
        (MEAN_APPEARANCE, Appearance(drive="own", share=0.75)),
        (Appearance(drive="dusk", exposure_stops=1.5), Appearance(drive="dusk", exposure_stops=1.5, share=0.75)),
        (
            Appearance("image", "noon", blend_towards=DUSK),
            Appearance("image", "noon", blend_towards=DUSK, share=0.75),
        ),
        (
            Appearance(drive="noon", blend_towards=DUSK, share=0.5),
            Appearance(drive="noon", blend_towards=DUSK, share=0.5),
        ),
    ],
)
def test_a_picture_has_the_drive_and_the_share_that_its_place_gives_unless_they_are_named(appearance, resolved):
    assert appearance.resolved("own", 0.75) == resolved


def test_without_any_drive_the_look_is_the_mean_of_all():
    assert MEAN_APPEARANCE.resolved(None) == Appearance(share=0.0)


def test_drives_share_a_look():
    assert DUSK.drive_shares() == [("dusk", 1.0)]
    assert Appearance(drive="noon", blend_towards=DUSK, share=0.25).drive_shares() == [("noon", 0.75), ("dusk", 0.25)]
    assert Appearance(drive="noon", blend_towards=DUSK).drive_shares() == [("noon", 1.0), ("dusk", 0.0)]
