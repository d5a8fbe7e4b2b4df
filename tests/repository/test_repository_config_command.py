"""`blocknerf config`: what it prints is what a run would have, and it says what is wrong."""

import json

import pytest
import yaml

from blocknerf.cli.main import main
from blocknerf.core.config.config import Config
from blocknerf.core.config.load import load_config


def test_what_is_shown_is_what_was_resolved(capsys, tmp_path):
    main(["config", "show", "training.seed=7", "block_nerf.num_layers=6"])
    path = tmp_path / "shown.yaml"
    path.write_text(capsys.readouterr().out)
    assert load_config(path) == load_config(None, ["training.seed=7", "block_nerf.num_layers=6"])


def test_a_plot_is_drawn_beside_it(capsys, tmp_path):
    main(["config", "show", "--plot", str(tmp_path / "rates.png")])
    assert (tmp_path / "rates.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(SystemExit) as exit:
        main(["config", "check", "--plot", str(tmp_path / "rates.png")])
    assert exit.value.code == 2


def test_a_file_is_checked(capsys, tmp_path):
    path = tmp_path / "some.yaml"
    path.write_text("training: {nerf_lr: 5e-4}")
    main(["config", "check", "--config", str(path)])
    assert "some.yaml is fine." in "".join(capsys.readouterr())
    path.write_text("training: {nerf_lr: 5e-4x}")
    with pytest.raises(SystemExit) as exit:
        main(["config", "check", "--config", str(path)])
    assert exit.value.code == 2
    assert "training.nerf_lr" in capsys.readouterr().err


def test_the_schema_is_json_that_names_every_section(capsys):
    main(["config", "schema"])
    schema = json.loads(capsys.readouterr().out)
    assert set(schema["properties"]) == set(Config.model_fields)
    assert schema["additionalProperties"] is False
    assert yaml.safe_dump(schema)
