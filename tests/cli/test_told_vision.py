"""What the command line tells of models that see."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from hubq.cli import cli


@pytest.mark.parametrize(
    ("part", "becomes"),
    [("all", "kept, byte for byte"), ("language", "left out: the copy reads text alone")],
)
def test_a_plan_lists_what_sees_and_what_becomes_of_it(
    tiny_vision_model: Callable[[str], Path], tmp_path: Path, part: str, becomes: str
) -> None:
    values = {
        "model": {"folder": str(tiny_vision_model("LlavaNextForConditionalGeneration"))},
        "method": {"name": "rtn", "bits": 4, "group_size": 32},
        "evaluate": {"perplexity": [], "fidelity": None, "efficiency": None},
        "publish": {"org": "acme", "part": part},
    }
    (tmp_path / "seer.yaml").write_text(yaml.safe_dump(values))

    result = CliRunner().invoke(
        cli, ["plan", str(tmp_path / "seer.yaml"), "--run", str(tmp_path / "run")]
    )

    assert result.exit_code == 0, result.output
    assert "seer: LlavaNextForConditionalGeneration" in result.output
    for name, parameters in (
        ("vision_tower", "36,224"),
        ("multi_modal_projector", "6,272"),
        ("image_newline", "64"),
    ):
        assert f"{name}, {parameters} parameters, 0." in result.output
    assert result.output.count(becomes) == 3
