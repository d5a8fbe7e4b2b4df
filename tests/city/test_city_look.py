"""What blocks are told of a look."""

import pytest

from blocknerf.city.appearance_settings import AppearanceSettings
from blocknerf.city.city import City


class Asked(City):
    """A city that notes what it is asked."""

    main_drive = "main"

    def __init__(self):
        self.asked = []

    def code_for(self, *asked, towards):
        self.asked.append((*asked, towards))


@pytest.mark.parametrize(
    ("look", "told"),
    [
        (AppearanceSettings(), (None, "own", 0.0, None)),
        (AppearanceSettings(drive="dusk", exposure_stops=1.5), (None, "dusk", 1.5, None)),
        (AppearanceSettings("image", "noon", towards=(None, "dusk")), ("image", "noon", 0.0, (None, "dusk", 0.75))),
        (
            AppearanceSettings(drive="noon", towards=("other", "dusk"), share=0.5),
            (None, "noon", 0.0, ("other", "dusk", 0.5)),
        ),
    ],
)
def test_a_look_is_told_to_every_block(look, told):
    city = Asked()
    assert look.codes(city, ["a", "b"], own_drive="own", place=0.75) == {"a": None, "b": None}
    assert city.asked == [("a", *told), ("b", *told)]


def test_without_any_drive_the_main_one_counts():
    city = Asked()
    AppearanceSettings().codes(city, ["a"])
    assert city.asked == [("a", None, "main", 0.0, None)]
