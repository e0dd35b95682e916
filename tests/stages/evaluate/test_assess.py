"""Strangers' models beside their bases: brought, pinned and measured, or refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from faulty_hub import FaultyHub
from huggingface_hub import HfApi
from made_gguf import write_gguf
from quantized_folder import Choice, write

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.formats import format_named
from hubq.machine.progress import SILENT
from hubq.records.recipe_evaluate import EvaluateSection
from hubq.records.recipe_inputs import ModelSection
from hubq.records.report import Assessment
from hubq.stages.evaluate.assess import assess, bring
from hubq.tensors import Grid

NOWHERE = Client(endpoint="http://127.0.0.1:9")
NOTHING = EvaluateSection(fidelity=None, efficiency=None)


@pytest.fixture(scope="module")
def base(tiny_model: Callable[[str], Path]) -> Path:
    return tiny_model("llama3.2")


@pytest.fixture(scope="module")
def packed(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write what a stranger made of the base."""
    folder = tmp_path_factory.mktemp("stranger") / "Tiny-w4a16"
    write(base, folder, Choice(format_named("compressed-tensors"), Grid(bits=4, group_size=32)))
    return folder


def section(folder: Path) -> EvaluateSection:
    """Ask for a perplexity and nothing else."""
    (folder / "text.txt").write_text("The llama went home.\n" * 20)
    text = {"dataset": {"file": folder / "text.txt"}, "length": 32}
    return EvaluateSection.model_validate(
        {"perplexity": [text], "fidelity": None, "efficiency": None}
    )


def put(hub: FaultyHub, repo: str, folder: Path, path: str = "") -> Client:
    api = HfApi(endpoint=hub.endpoint, token=hub.token)
    api.create_repo(repo, exist_ok=True)
    api.upload_folder(repo_id=repo, folder_path=folder, path_in_repo=path)
    return Client(hub.endpoint, hub.token)


# Two workers start: some seconds.
def test_a_strangers_folder_is_measured_beside_its_base(
    base: Path, packed: Path, tmp_path: Path
) -> None:
    found = assess(str(packed), ModelSection(folder=base), section(tmp_path), NOWHERE)

    (perplexity,) = found.measurements
    assert perplexity.paired
    assert perplexity.value != perplexity.base
    assert (found.subject.name, found.subject.form) == ("Tiny-w4a16", "compressed-tensors")
    size = (packed / "model.safetensors").stat().st_size
    assert found.subject.weight_bytes == size
    assert found.subject.model_bits == 8 * size / found.base.parameters
    assert found.base.model_bits == pytest.approx(16, rel=0.1)


# Two workers start: some seconds.
def test_a_strangers_repo_is_pinned_and_brought_without_what_nobody_reads(
    base: Path, packed: Path, hub: FaultyHub, tmp_path: Path
) -> None:
    original = tmp_path / "original"
    original.mkdir()
    (original / "consolidated.00.pth").write_bytes(b"heavy")
    put(hub, "acme/Tiny", base)
    put(hub, "ann/Tiny-w4a16", original, "original")
    client = put(hub, "ann/Tiny-w4a16", packed)

    found = assess("ann/Tiny-w4a16", ModelSection(hub="acme/Tiny"), section(tmp_path), client)

    heads = {repo: client.api().model_info(repo).sha for repo in ("acme/Tiny", "ann/Tiny-w4a16")}
    assert found.subject.name == f"ann/Tiny-w4a16@{heads['ann/Tiny-w4a16']}"
    assert found.base.name == f"acme/Tiny@{heads['acme/Tiny']}"
    assert not list((tmp_path / "cache").rglob("*.pth"))


def test_an_assessment_is_read_back_as_it_was(tmp_path: Path) -> None:
    subject = {"name": "a", "form": "gguf", "weight_bytes": 1, "parameters": 2, "model_bits": 4}
    values = {
        "subject": subject,
        "base": subject,
        "measurements": (),
        "loader": "transformers",
        "device": "cpu",
        "dtype": "bfloat16",
        "versions": {},
        "seed": 0,
        "seconds": 0,
    }
    assessment = Assessment.model_validate(values)

    assessment.save(tmp_path / "a.evaluation.json")

    assert Assessment.load(tmp_path / "a.evaluation.json") == assessment


def test_a_gguf_file_counts_with_its_own_bytes(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf")

    found = bring(str(tmp_path / "tiny.gguf"), NOWHERE, SILENT)()

    assert (found.name, found.form) == ("tiny.gguf", "gguf")
    assert found.weight_bytes == (tmp_path / "tiny.gguf").stat().st_size
    assert (found.folder / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("./nowhere", "there is no folder"),
        ("nowhere", "there is no folder"),
        ("nowhere.gguf", "there is no file"),
    ],
)
def test_a_model_that_is_not_there_is_refused(word: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        bring(word, NOWHERE, SILENT)


def test_a_repo_of_gguf_files_says_what_to_do(hub: FaultyHub, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "tiny-Q4_K_M.gguf").write_bytes(b"GGUF")
    client = put(hub, "ann/Tiny-GGUF", tmp_path / "files")

    with pytest.raises(UserError, match=r"download tiny-Q4_K_M\.gguf and name that file"):
        bring("ann/Tiny-GGUF", client, SILENT)


def test_a_quantized_base_is_refused(base: Path, packed: Path) -> None:
    with pytest.raises(UserError, match="name the 16-bit model that it was made from"):
        assess(str(base), ModelSection(folder=packed), NOTHING, NOWHERE)


def test_an_unknown_task_is_refused_before_anything_is_brought(base: Path) -> None:
    section = EvaluateSection.model_validate({"tasks": ["piqaa"]})

    with pytest.raises(UserError, match="did you mean piqa"):
        assess("ann/far-away", ModelSection(folder=base), section, NOWHERE)


def test_perplexities_of_other_tokenizers_are_refused(
    base: Path, packed: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(packed, other)
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["ll"] = 259
    tokenizer["model"]["merges"] = [["l", "l"]]
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))

    with pytest.raises(UserError, match="their perplexities and next-token distributions can't"):
        assess(str(other), ModelSection(folder=base), section(tmp_path), NOWHERE)


# Two workers start: some seconds.
def test_a_tokenizer_that_differs_in_its_chat_template_only_is_the_same(
    base: Path, packed: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(packed, other)
    (other / "chat_template.jinja").write_text("{{ messages[0].content }}")

    found = assess(str(other), ModelSection(folder=base), section(tmp_path), NOWHERE)

    assert found.measurements[0].paired
