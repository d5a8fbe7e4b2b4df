"""The documents' file as it stands, on the tiny city: two blocks, every stage, each ended once and gone on with."""

import gc
import sys

import pytest

pytest.importorskip("embreex")
from benchmarks.measure import run
from benchmarks.robustness.documents_yaml import trained

STEPS = 8
BEGINS = {"coarse": 0, "fine": 2, "refinement": 6}
"""Steps at which stages of 50, 100 and 50 epochs begin, of eight."""


def test_a_command_that_has_ended_is_not_said_to_be_running():
    run([sys.executable, "-c", ""])
    gc.collect()  # where Popen would warn, which is an error here


@pytest.mark.slow
def test_the_documents_file_trains_as_it_stands_and_goes_on_in_the_right_stage(tmp_path):
    run_report = trained(tmp_path, STEPS)
    assert run_report["ended_with"][0] == 130
    assert run_report["ended_with"][1] in (
        -9,
        0,
    )  # a machine that trains it within two minutes saves nothing before its end
    assert list(run_report["blocks"]) == ["000", "001"]
    for block in run_report["blocks"].values():
        assert list(block["stages"]) == list(BEGINS)
        assert {stage["side_px"] for stage in block["stages"].values()} == {20}  # 80 / dataset.image_downsample
        assert (block["finished"], block["steps"]) == (True, STEPS)
        terms = ("appearance", "coarse_rgb", "distortion", "mse", "pose", "regularization", "rgb", "visibility")
        assert {f"loss/{term}" for term in terms} <= set(block["terms"])
        if block["went_on"] is not None:
            step, stage = block["went_on"]["step"], block["went_on"]["stage"]
            assert stage == [name for name, begin in BEGINS.items() if step > begin][-1]
        assert block["stages"]["refinement"]["step"] >= BEGINS["refinement"]
    assert run_report["blocks"]["000"]["went_on"] is not None
    assert "loss/consistency" in run_report["blocks"]["001"]["terms"]  # it learns after its neighbour
