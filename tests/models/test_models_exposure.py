"""Exposure as an input of colour: units cancel, octaves are right, what nobody knows is the mean."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from blocknerf.core.types import MEAN_EXPOSURE_VALUE, Exposures, TrajectoryPoint
from blocknerf.models.exposure import ExposureEncoding
from blocknerf.scene.exposures import scene_exposures
from blocknerf.scene.scene import ImageRecord

CAPTURED = {"a": 0.01, "b": 0.02, "c": 0.08, "d": None}
DRIVES = {"a": "dawn", "b": "dawn", "c": "dusk", "d": "dusk"}


def images(captured=CAPTURED) -> list[ImageRecord]:
    pose = np.eye(4)[:3]
    return [
        ImageRecord(name, name, Path(name), "0", pose, DRIVES[name], exposure=exposure)
        for name, exposure in captured.items()
    ]


def exposures(captured=CAPTURED) -> Exposures:
    known = scene_exposures(images(captured))
    assert known is not None
    return known


def encoding(levels=4) -> ExposureEncoding:
    return ExposureEncoding(levels, exposures(), ("a", "b", "c", "d"))


def test_stops_are_around_the_geometric_mean_whatever_the_unit():
    known = exposures()
    assert sum(known.image_stops.values()) == pytest.approx(0, abs=1e-12)
    assert known.image_stops["c"] - known.image_stops["a"] == pytest.approx(3)
    assert known.drive_stops["dawn"] == pytest.approx((known.image_stops["a"] + known.image_stops["b"]) / 2)
    assert known.drive_stops["dusk"] == known.image_stops["c"]
    assert known.range_stops == (known.image_stops["a"], known.image_stops["c"])
    thousandfold = exposures({name: value and 1000 * value for name, value in CAPTURED.items()})
    assert thousandfold.scale == pytest.approx(known.scale / 1000)
    assert thousandfold.image_stops == pytest.approx(known.image_stops)


@pytest.mark.parametrize("captured", [{}, {"a": 1.0}, {"a": 1.0, "b": None}, {"a": 0.3, "b": 0.3, "c": 0.3}])
def test_exposures_that_tell_nothing_are_none(captured):
    assert scene_exposures(images(captured)) is None


def test_the_encoding_is_that_of_the_paper():
    """sin and cos of 2^k value / 1000, the value being the captured exposure times the recorded scale."""
    encoder = encoding()
    scale = encoder.exposures.scale
    for slot, name in enumerate("abc"):
        value = CAPTURED[name] * scale
        expected = [f(2**k * value / 1000) for f in (math.sin, math.cos) for k in range(4)]
        assert encoder(torch.tensor([slot]))[0].tolist() == pytest.approx(expected, abs=1e-6)
    mean = math.prod(CAPTURED[name] for name in "abc") ** (1 / 3)
    assert mean * scale == pytest.approx(MEAN_EXPOSURE_VALUE)


def test_what_nobody_knows_is_the_mean():
    encoder = encoding()
    at_mean = encoder.encode(torch.zeros(()))
    assert torch.equal(encoder(torch.tensor([3, -1])), at_mean.expand(2, -1))
    assert encoder.stops_for(None, None, None) == 0
    assert encoder.stops_for("stranger", "dusk", None) == encoder.stops_for("c", "dawn", None) == pytest.approx(5 / 3)
    assert encoder.stops_for("a", "dawn", 0.08) == pytest.approx(encoder.stops_for("c", None, None))


def test_between_images_stops_are_linear_past_those_that_tell_no_exposure():
    """d lies between a and c and tells none."""
    encoder = encoding()
    stops = encoder.exposures.image_stops
    for moment in (0.0, 0.5, 1.0, 2.0):
        point = TrajectoryPoint(("a", "d", "c"), (0.0, 1.0, 2.0), moment)
        expected = stops["a"] + moment / 2 * (stops["c"] - stops["a"])
        assert encoder.stops_for(None, "dusk", None, point) == pytest.approx(expected)
        assert encoder.stops_for("b", "dusk", None, point) == stops["b"]
        assert encoder.stops_for(None, "dusk", CAPTURED["b"], point) == pytest.approx(stops["b"])
    nobody = TrajectoryPoint(("d",), (0.0,), 0.0)
    assert encoder.stops_for(None, "dusk", None, nobody) == stops["c"]


def test_beyond_what_was_trained_on_nothing_changes_and_within_all_differ():
    encoder = encoding()
    least, largest = encoder.exposures.range_stops
    steps = encoder.encode(torch.linspace(least, largest, 40))
    assert float(torch.pdist(steps).min()) > 0.01
    assert torch.equal(encoder.encode(torch.tensor(largest + 3)), steps[-1])
    assert torch.equal(encoder.encode(torch.tensor(least - 3)), steps[0])


def test_the_slowest_sinusoid_rises_up_to_two_stops_and_a_half():
    encoder = ExposureEncoding(4, replace(exposures(), range_stops=(-8.0, 8.0)), ())
    slowest = encoder.encode(torch.linspace(-8, 2.6, 100))[:, 0]
    assert bool((slowest.diff() > 0).all())


def test_new_images_widen_the_range_and_move_nothing_else():
    encoder = encoding()
    before = encoder(torch.arange(4))
    encoder.grow(("e", "f"), (0.64, None))
    assert torch.equal(encoder(torch.arange(4)), before)
    assert encoder.exposures.image_stops["e"] == pytest.approx(encoder.exposures.image_stops["c"] + 3)
    assert encoder.exposures.range_stops[1] == encoder.exposures.image_stops["e"]
    assert torch.equal(encoder(torch.tensor([5])), encoder(torch.tensor([-1])))
