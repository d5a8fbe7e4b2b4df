"""Names as people count."""

from blocknerf.core.names import natural_order


def test_frames_are_ordered_by_their_numbers():
    assert sorted(["f_10.png", "f_9.png", "f_1.png"], key=natural_order) == ["f_1.png", "f_9.png", "f_10.png"]
