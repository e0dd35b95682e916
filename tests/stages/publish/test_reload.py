"""What waits on a hub is loaded as its downloader would: each format, adapters, closed repos.

A process imports transformers once, some seconds; all that loads is forked from it.
"""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faulty_hub import FaultyHub, faulty_hub
from huggingface_hub import HfApi
from made_adaptation import link, put_adapter
from made_taught import taught_report
from test_code_blocks import Released, quantized

from hubq.client.client import Client
from hubq.machine.progress import SILENT
from hubq.records.report import Report
from hubq.stages.evaluate.fork_server import ForkServer, WorkerStart
from hubq.stages.evaluate.processes import forked_by
from hubq.stages.publish.downloaded import Downloader

SAME = "the same logits as the local folder, bit for bit"
PROGRAM = Path(__file__).parents[3] / "hubq" / "stages" / "publish" / "quick_start.py"
# Tells what a process that is forked to load has of hubq, and of whoever started it.
PROBE = """
import json, os, runpy, sys
def run(file, out):
    runpy.run_path(json.loads(file.read_text()))["settle"]()
    from huggingface_hub import constants, get_token
    modules = [(name, module) for name, module in sys.modules.items() if "hub" in name
               or name.startswith("transformers")]
    kept = [f"{name}.{key}" for name, module in modules for key, each in [*vars(module).items()]
            if isinstance(each, str) and "old-home" in each]
    known = [name for name in sys.modules if name.partition(".")[0] == "hubq"]
    found = {"hubq": known, "kept": sorted(kept), "token": get_token(), "hub": constants.ENDPOINT,
             "loaded": "transformers" in sys.modules}
    print(json.dumps(found), file=out, flush=True)
    return 0
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyHub]:
    with faulty_hub(tmp_path_factory.mktemp("hub"), user="ann", org="acme", wait=False) as running:
        yield running


@pytest.fixture(scope="module")
def api(hub: FaultyHub) -> HfApi:
    return HfApi(hub.endpoint, token=hub.token)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> ForkServer:
    """Start what is forked, with caches and a token that must not be found there."""
    home = str(tmp_path_factory.mktemp("old-home"))
    return ForkServer({**os.environ, "HF_HOME": home, "HF_TOKEN": "hf_old"}, plain=True)


@pytest.fixture(scope="module")
def packed(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Callable[[str], Path]
) -> Callable[[str], Released]:
    """Return a function from the name of a format to a quantized tiny model."""

    def make(name: str) -> Released:
        return quantized(tiny_model("llama"), name, tmp_path_factory.mktemp("run"))

    return make


@pytest.fixture
def looks(hub: FaultyHub, server: ForkServer) -> Callable[..., tuple[str, ...]]:
    """Return a function that looks at a commit of a report's repo."""

    def look(report: Report, run: Path, commit: str, *, is_open: bool) -> tuple[str, ...]:
        client = Client(hub.endpoint, hub.token)
        with Downloader(report, run, client, SILENT, load=True) as downloader:
            downloader._fork_server = server
            return downloader.look(commit, is_open=is_open)

    return look


def put(api: HfApi, folder: Path, repo: str, *, private: bool = False) -> str:
    """Fill a repo with a folder; return the commit."""
    api.create_repo(repo, private=private)
    return str(api.upload_folder(folder_path=folder, repo_id=repo).oid)


def named(report: Report, repo: str) -> Report:
    return report.model_copy(update={"plan": report.plan.model_copy(update={"repo": repo})})


def test_what_is_forked_to_load_knows_neither_hubq_nor_whoever_started_it(
    server: ForkServer, tmp_path: Path
) -> None:
    (tmp_path / "probe.py").write_text(PROBE)
    (tmp_path / "job.json").write_text(json.dumps(str(PROGRAM)))
    environment = {"HF_HOME": str(tmp_path / "empty"), "HF_ENDPOINT": "http://127.0.0.1:9"}
    start = WorkerStart(
        module=str(tmp_path / "probe.py"), job=tmp_path / "job.json", environment=environment
    )
    start.save(tmp_path / "start.json")

    with forked_by(server.plain.fork, start, tmp_path / "log") as worker:
        assert worker.stdout is not None
        told = json.loads(worker.stdout.readline() or (tmp_path / "log").read_text())

    nothing: dict[str, object] = {"hubq": [], "kept": [], "token": None}
    assert told == {**nothing, "loaded": True, "hub": "http://127.0.0.1:9"}


@pytest.mark.parametrize(
    ("name", "ways"),
    [
        ("compressed-tensors, symmetric", ["transformers"]),
        ("gptq", ["hubq"]),
        ("awq", ["hubq"]),
        (
            "hubq",
            [
                "transformers with the repo's own reader",
                "transformers with the repo's own reader, kept packed",
            ],
        ),
    ],
)
def test_each_format_is_loaded_as_its_card_says(
    name: str,
    ways: list[str],
    packed: Callable[[str], Released],
    looks: Callable[..., tuple[str, ...]],
    api: HfApi,
) -> None:
    made = packed(name)
    repo = f"acme/{name.partition(',')[0]}"
    commit = put(api, made.folder, repo)
    report = named(made.report, repo)
    if ways == ["hubq"]:  # as what measured it says
        report = report.model_copy(update={"loader": "hubq's own reader"})

    told = looks(report, made.folder.parent, commit, is_open=True)

    assert [each.partition(" (")[0] for each in told] == [f"loaded by {w}: {SAME}" for w in ways]


@pytest.mark.parametrize("closed", ["private", "gated"])
def test_a_closed_repo_is_downloaded_with_the_publishers_token(
    closed: str,
    packed: Callable[[str], Released],
    looks: Callable[..., tuple[str, ...]],
    api: HfApi,
) -> None:
    made = packed("dense")
    repo = f"acme/{closed}"
    commit = put(api, made.folder, repo, private=closed == "private")
    if closed == "gated":
        api.update_repo_settings(repo, gated="manual")

    told = looks(named(made.report, repo), made.folder.parent, commit, is_open=False)

    assert [each.partition(" (")[0] for each in told] == [f"loaded by transformers: {SAME}"]


def test_an_adapter_is_loaded_on_what_its_repo_names(
    packed: Callable[[str], Released],
    looks: Callable[..., tuple[str, ...]],
    api: HfApi,
    tmp_path: Path,
) -> None:
    made = packed("compressed-tensors, asymmetric")
    base = put(api, made.folder, "acme/base")
    model = tmp_path / "adapted" / "model"
    link(made.folder, model)
    shapes = {each.name: each.shape for each in made.report.plan.modules if each.quantized}
    put_adapter(model / "adapter", shapes)
    commit = put(api, model / "adapter", "acme/adapter")
    taught = taught_report()
    assert taught.plan.adaptation is not None
    update = {"quantized": f"acme/base@{base}"}
    adaptation = taught.plan.adaptation.model_copy(update=update)
    planned = made.report.plan.model_copy(update={"adaptation": adaptation, "repo": "acme/adapter"})
    report = taught.model_copy(update={"plan": planned, "checkpoint": made.report.checkpoint})

    told = looks(report, tmp_path / "adapted", commit, is_open=True)

    assert [each.partition(" (")[0] for each in told] == [f"loaded by hubq: {SAME}"]
