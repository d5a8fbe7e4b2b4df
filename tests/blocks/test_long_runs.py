"""How long a run will take is said before it begins."""

from blocknerf.blocks.output import plan_scene
from blocknerf.cli.plan import print_plan
from blocknerf.core.config.load import load_config
from tests.support.room import write_room

FIELD_OF_DAYS = ("block_nerf.backbone=mlp", "training.num_epochs=1e6", "block_manager.min_images_per_block=1")


def test_a_run_of_days_is_said_beforehand(tmp_path, caplog):
    settings = load_config(None, [*FIELD_OF_DAYS])
    config, scene, planned = plan_scene(settings, write_room(tmp_path / "room", images=4), tmp_path / "out")
    print_plan(planned, scene, config)
    assert "Training will take about" in caplog.text
    assert "block_nerf.backbone=hash is 20 to 400 times faster" in caplog.text
    caplog.clear()
    print_plan(planned, scene, load_config(None, [*FIELD_OF_DAYS, "training.max_minutes=1"]))
    assert "Training will take" not in caplog.text
