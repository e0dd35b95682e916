"""An engine that is asked for must be there, and read the format, before anything is computed."""

from pathlib import Path

import pytest
from pretend_vllm import pretend_vllm

from hubq.errors import UserError
from hubq.machine.engines import VLLM_PYTHON
from hubq.stages.plan.conditions import require_engine
from hubq.stages.recipe.recipe import Recipe, read


def recipe(folder: Path, more: str = "evaluate: {engine: vllm}") -> Recipe:
    path = folder / "mine.yaml"
    path.write_text(f"model: a/b\nmethod: rtn\npublish: {{org: me}}\n{more}\n")
    return read(path)


def test_transformers_is_the_engine_where_none_is_named(tmp_path: Path) -> None:
    assert recipe(tmp_path, "").evaluate.engine == "transformers"


def test_an_engine_that_is_not_there_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VLLM_PYTHON, raising=False)

    with pytest.raises(UserError, match="HUBQ_VLLM_PYTHON is not set"):
        require_engine(recipe(tmp_path))
    require_engine(recipe(tmp_path, ""))


def test_a_format_that_the_engine_does_not_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VLLM_PYTHON, str(pretend_vllm(tmp_path)))

    with pytest.raises(UserError, match="vllm reads no hubq of 4 bits"):
        require_engine(recipe(tmp_path, "format: hubq\nevaluate: {engine: vllm}"))
    require_engine(recipe(tmp_path))
