"""A deployed Space needs nothing but its own folder and the packages that it lists."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import files
from pathlib import Path

import hubq_folder
import pytest
import quantized_folder
from answering_models import FOUR, THREE
from made_models import RTN
from packaging.requirements import Requirement
from served_space import served

from hubq.client.client import Client
from hubq.formats.compressed_tensors import FORMAT
from hubq.stages.publish.space.deploy import deploy
from hubq.stages.publish.space.settings import Settings
from hubq.tensors import Grid

BROUGHT = ("pydantic_core",)  # by pydantic, which alone decides its version
# Runs without site-packages: what is imported is the standard library's, the folder's or listed.
START = """
import glob, json, os, sys
sys.path[:0] = [os.getcwd(), os.environ["LISTED"]]
import importlib, app, hubq
for path in glob.glob("[!h]*/*.py"):  # all but hubq
    importlib.import_module(path[:-3].replace("/", "."))
service = app.comparison_service()
catalogue = service.catalogue
page = app.build(service, app.open_votes(os.environ, catalogue.client))
print(json.dumps({
    "hubq": os.path.dirname(hubq.__file__),
    "models": [each.name for each in catalogue.listing().models],
    "endpoints": list(page.get_api_info()["named_endpoints"]),
}))
"""
SPEAK = """
import os, sys
from pathlib import Path
sys.path[:0] = [os.getcwd(), os.environ["LISTED"]]
from hubq.stages.evaluate.inference.chat import Speaker
for folder in sys.argv[1:]:
    answer = Speaker.load(Path(folder)).answer([{"role": "user", "content": "What?"}], 4)
    print(len("".join(answer)) > 0)
"""


@pytest.fixture
def space(client: Client, releases: tuple[str, str], tmp_path: Path) -> Path:
    """Deploy a Space and download it."""
    deploy("compare", Settings(org="acme"), client)
    place = tmp_path / "space"
    client.api().snapshot_download("acme/compare", repo_type="space", local_dir=place)
    return place


@pytest.fixture
def listed(space: Path, tmp_path: Path) -> Path:
    """Make a folder that holds of this environment only what the Space's requirements name."""
    folder = tmp_path / "listed"
    folder.mkdir()
    lines = (space / "requirements.txt").read_text(encoding="utf-8").split()
    for name in (*(Requirement(line).name for line in lines), *BROUGHT):
        for top, place in _tops(name):
            if not (folder / top).exists():
                (folder / top).symlink_to(place)
    return folder


def _tops(name: str) -> Iterator[tuple[str, Path]]:
    """Yield the entries that a package has in site-packages."""
    for file in files(name) or ():
        if file.parts[0] not in ("..", "__pycache__"):
            site = Path(str(file.locate())).parents[len(file.parts) - 1]
            yield file.parts[0], site / file.parts[0]


def started(space: Path, listed: Path, code: str, *arguments: str, **extra: str) -> str:
    """Run code in the Space's folder, as far from this environment as can be."""
    environment = {
        "PATH": os.defpath,
        "HOME": str(listed.parent / "home"),
        "LISTED": str(listed),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        **{name: value for name, value in os.environ.items() if name.endswith("_NUM_THREADS")},
        **extra,
    }
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, *arguments],
        cwd=space,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_deployed_space_starts_alone(space: Path, listed: Path, client: Client) -> None:
    told = started(
        space, listed, START, HF_ENDPOINT=client.url, SPACE_AUTHOR_NAME="acme"
    )  # takes as long as importing gradio and torch

    said = json.loads(told.splitlines()[-1])
    assert said["hubq"] == str(space / "hubq")
    assert said["models"] == ["meta-llama/Meta-Llama-3-8B", RTN]
    assert sorted(said["endpoints"]) == ["/compare", "/table"]


def test_a_deployed_space_answers_whatever_packages_have_its_rooms_names(
    space: Path, runs: Path, tmp_path: Path
) -> None:
    from gradio_client import Client as Visitor

    for room in ("page", "releases", "serving", "votes"):
        (tmp_path / "others" / room).mkdir(parents=True)
        (tmp_path / "others" / room / "__init__.py").write_text("raise ImportError('not ours')")
    alone = {  # hubq is the folder's own
        "HUBQ_SPACE_MODELS": str(runs),
        "PYTHONPATH": str(tmp_path / "others"),
    }
    with served(alone, folder=space) as address:
        visitor = Visitor(address, verbose=False)
        asked = {"models": [THREE, FOUR], "prompt": "What is a llama?", "max_new_tokens": 4}
        rows = visitor.predict(**asked, api_name="/compare")
        visitor.close()

    assert [row["model"] for row in rows] == [THREE, FOUR]
    assert all(row["tokens"] == 4 for row in rows)


def test_a_deployed_space_loads_every_kind_of_model_alone(
    space: Path, listed: Path, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    base = tiny_model("llama")
    choice = quantized_folder.Choice(FORMAT, Grid(bits=4, group_size=32))
    quantized_folder.write(base, tmp_path / "compressed", choice)
    hubq_folder.write(base, tmp_path / "hubq", hubq_folder.round_all)
    folders = (base, tmp_path / "compressed", tmp_path / "hubq")

    told = started(space, listed, SPEAK, *map(str, folders))  # transformers, three models

    assert told.split() == ["True"] * 3
