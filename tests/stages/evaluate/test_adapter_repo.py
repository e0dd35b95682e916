"""An adapter of the Hub, ours or a stranger's: it comes with the base that it names."""

import json
from pathlib import Path

import pytest
from made_adaptation import OWN_REPO, make_adapted
from made_run import make_run
from unloaded import publish_adapted

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.machine.progress import SILENT
from hubq.stages.evaluate.adapter_repo import with_base
from hubq.stages.evaluate.assess import bring


def test_an_adapters_repo_is_brought_with_its_base_at_its_commit(
    tmp_path: Path, client: Client
) -> None:
    run = tmp_path / "run"
    first, second = publish_adapted(make_adapted(run, make_run(run)), run, client)

    brought = bring(OWN_REPO, client, SILENT)()

    assert brought.name == f"{OWN_REPO}@{second.commit}"
    assert first.commit in str((brought.folder / "config.json").readlink())
    ours = run / "adapted" / "model"
    for name in ("model.safetensors", "adapter/adapter_model.safetensors"):
        assert (brought.folder / name).read_bytes() == (ours / name).read_bytes()
    again = bring(OWN_REPO, client, SILENT)()
    assert again == brought


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"base_model_name_or_path": "/home/ann/model"},
        {"base_model_name_or_path": "../../model"},
        {"base_model_name_or_path": ["acme/base"]},
        {"base_model_name_or_path": "acme/base", "revision": "../main"},
        {"base_model_name_or_path": "acme/base", "revision": 7},
    ],
)
def test_an_adapter_that_names_no_repo_is_refused_with_the_ways_out(
    said: dict[str, object], tmp_path: Path, client: Client
) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps(said))

    with pytest.raises(
        UserError, match=r"Put its files into a folder `adapter`.* Its config names"
    ):
        with_base(tmp_path, client, SILENT)
