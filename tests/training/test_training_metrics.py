"""Figures in a plain file that no kill and no full disk can hurt, and what TensorBoard is shown."""

import errno
import json
from pathlib import Path
from unittest import mock

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from blocknerf.core.config.load import load_config
from blocknerf.training.block.metrics import FILE, TrainingMetrics


def _metrics(folder: Path, curves: Path | None = None) -> TrainingMetrics:
    return TrainingMetrics(load_config(None, []), folder, curves)


def test_lines_behind_the_restored_state_and_a_torn_one_are_cut(tmp_path):
    metrics = _metrics(tmp_path)
    metrics.start(0)
    metrics.log({"loss/rgb": 1.0}, 1)
    state = metrics.state()
    metrics.log({"loss/rgb": 2.0}, 2)
    metrics.close()
    with (tmp_path / FILE).open("ab") as file:
        file.write(b'{"step": 3, "lo')
    again = _metrics(tmp_path)
    again.restore(state)
    again.start(1)
    again.log({"loss/rgb": float("nan")}, 2)
    again.close()
    lines = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()]
    assert lines == [{"step": 1, "loss/rgb": 1.0}, {"step": 2, "loss/rgb": None}]


def test_a_full_disk_costs_curves_with_one_warning(tmp_path):
    metrics = _metrics(tmp_path)
    metrics._file = mock.Mock()
    metrics._file.write.side_effect = OSError(errno.ENOSPC, "No space left on device")
    with mock.patch("blocknerf.training.block.metrics.log.warning") as warning:
        metrics.log({"loss/rgb": 1.0}, 1)
        metrics.log({"loss/rgb": 1.0}, 2)
    assert warning.call_count == 1
    assert "No space left" in warning.call_args.args[0] % warning.call_args.args[1:]


def test_tensorboard_has_scalars_pictures_histograms_and_the_configuration(tmp_path):
    metrics = _metrics(tmp_path / "block", tmp_path / "curves")
    metrics.start(0)
    metrics.log({"loss/rgb": 0.25}, 3)
    metrics.images({"render": torch.rand(4, 5, 3)}, 3)
    metrics.histograms([("gradient/a", torch.tensor([1.0, float("inf")]))], 3)
    metrics.close()
    events = EventAccumulator(str(tmp_path / "curves"))
    events.Reload()
    tags = events.Tags()
    assert tags["scalars"] == ["loss/rgb"]
    assert events.Scalars("loss/rgb")[0].value == 0.25
    assert tags["images"] == ["render"]
    assert tags["histograms"] == ["gradient/a"]
    text = events.Tensors("configuration/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "nerf_lr" in text
