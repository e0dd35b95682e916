"""What is linted: folders, runs, repos by their headers alone; and where mended files go."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import hubq_folder
import pytest
import quantized_folder
from click.testing import CliRunner, Result
from faulty_hub import FaultyHub
from huggingface_hub import CommitOperationAdd
from made_release import BLOCK, HIDDEN, INNER, Made, plain, sound
from made_run import make_run
from torch import Tensor

from hubq.cli import cli
from hubq.client.client import Client
from hubq.embedded_hub.local import add_user, mint_token
from hubq.errors import UserError
from hubq.formats import format_named, formats
from hubq.machine.files import sha256_of
from hubq.stages.lint.fix import TITLE, mend, write
from hubq.stages.lint.gather import folder_release, repo_release
from hubq.stages.lint.lint import lint
from hubq.stages.publish.publish import publish
from hubq.tensors import Codebook, Grid, QuantizedTensor
from hubq.tensors.codebook import levels

pytestmark = pytest.mark.usefixtures("nothing_tried")
REPO = "acme/Llama-W4A16"
ASYMMETRIC = Grid(bits=4, group_size=32)


def symmetric(bits: int, group_size: int = 32) -> Grid:
    return Grid(bits=bits, group_size=group_size, symmetric=True)


CT = format_named("compressed-tensors")
# What hubq writes of weights in groups: format and grid of the linears, of the head, and the bits
# of rounded inputs.
WRITTEN = (
    quantized_folder.Choice(CT, symmetric(4)),
    quantized_folder.Choice(CT, ASYMMETRIC),
    quantized_folder.Choice(CT, symmetric(3)),
    quantized_folder.Choice(CT, symmetric(3, -1)),
    quantized_folder.Choice(CT, symmetric(4), symmetric(8)),
    quantized_folder.Choice(CT, symmetric(8, -1), None, 8),
    quantized_folder.Choice(CT, symmetric(4, -1), None, 4),
    *(quantized_folder.Choice(format_named("gptq"), symmetric(bits)) for bits in (2, 3, 4, 8)),
    quantized_folder.Choice(format_named("gptq"), symmetric(4, -1)),
    quantized_folder.Choice(format_named("awq"), ASYMMETRIC),
    quantized_folder.Choice(format_named("dense"), ASYMMETRIC),
)


def errors(folder: Path) -> list[str]:
    return [f"{each.rule}: {each.what}" for each in lint(folder_release(folder)).errors]


@pytest.mark.parametrize("choice", WRITTEN)
def test_what_hubq_writes_has_no_errors(
    choice: quantized_folder.Choice, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    quantized_folder.write(tiny_model("llama"), tmp_path / "model", choice)

    assert errors(tmp_path / "model") == []


@pytest.mark.parametrize("model", ["llama3.2", "mistral", "qwen2", "qwen3"])
@pytest.mark.parametrize("quantize", [hubq_folder.round_linears, hubq_folder.round_all])
def test_the_hubq_format_has_no_errors(
    model: str, quantize: hubq_folder.Quantize, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    hubq_folder.write(tiny_model(model), tmp_path / "model", quantize)

    assert errors(tmp_path / "model") == []


def test_the_bitsandbytes_format_has_no_errors(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    def integers(module: str, weight: Tensor) -> QuantizedTensor | None:
        if not module.endswith("_proj"):
            return None
        scale = weight.abs().amax(1, keepdim=True)
        codes = ((weight / scale * 127).round() + 128).byte()
        return Codebook(codes, levels("int8"), scale, 8, weight.shape[1], implied=True)

    hubq_folder.write(tiny_model("llama"), tmp_path / "model", integers, "bitsandbytes")

    assert errors(tmp_path / "model") == []


def test_each_format_that_hubq_writes_is_linted_here() -> None:
    assert {each.form.name for each in WRITTEN} | {"hubq", "bitsandbytes"} == set(formats())


def made_badly(folder: Path) -> Made:
    """Return a release with an ignore list that misses a layer, which can be mended."""
    made = sound(folder)
    made.put(f"{BLOCK}.mlp.down_proj", plain(HIDDEN, INNER))
    return made


def upload(folder: Path, client: Client, repo: str = REPO) -> None:
    made_badly(folder).write()
    client.api().create_repo(repo)
    files = [CommitOperationAdd(path.name, path) for path in sorted(folder.iterdir())]
    client.api().create_commit(repo, files, commit_message="By hand")


def hubq(*arguments: object, input: str | None = None) -> Result:
    return CliRunner().invoke(cli, ["lint", *map(str, arguments)], input=input)


def test_a_repo_is_linted_like_its_folder_without_its_weights(
    tmp_path: Path, hub: FaultyHub, client: Client
) -> None:
    upload(tmp_path / "model", client)
    weights = (tmp_path / "model" / "model.safetensors").stat().st_size

    found = repo_release(REPO, client)

    here = folder_release(tmp_path / "model")
    rules = [each.rule for each in lint(here).findings]
    assert [each.rule for each in lint(found).findings] == rules
    assert {n: (t.dtype, t.shape) for n, t in found.tensors.items()} == {
        n: (t.dtype, t.shape) for n, t in here.tensors.items()
    }
    assert found.files["model.safetensors"] == weights
    assert "model.safetensors" not in found.places


def test_one_s_own_repo_is_mended_by_a_commit(
    tmp_path: Path, hub: FaultyHub, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(tmp_path / "model", client)
    as_user(monkeypatch, hub, hub.token)

    result = hubq(REPO, "--hub", hub.endpoint, "--fix", "--yes")

    assert result.exit_code == 0, result.output
    assert client.api().list_repo_commits(REPO)[0].title == TITLE
    assert lint(repo_release(REPO, client)).errors == ()


def test_a_stranger_s_repo_is_mended_by_a_pull_request(
    tmp_path: Path, hub: FaultyHub, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(tmp_path / "model", client)
    add_user(hub.root, "bob")
    as_user(monkeypatch, hub, mint_token(hub.root, user="bob", role="write", expires_in=None))

    result = hubq(REPO, "--hub", hub.endpoint, "--fix", "--yes", "--json")

    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["at"] == f"{hub.endpoint}/{REPO}/discussions/1"
    (request,) = client.api().get_repo_discussions(REPO)
    assert (request.title, request.is_pull_request, request.author) == (TITLE, True, "bob")
    assert lint(repo_release(REPO, client)).errors
    assert lint(repo_release(f"{REPO}@refs/pr/1", client)).errors == ()
    again = hubq(REPO, "--hub", hub.endpoint, "--fix", "--yes")
    assert (again.exit_code, f"{REPO}/discussions/1" in again.stderr) == (1, True)


def as_user(monkeypatch: pytest.MonkeyPatch, hub: FaultyHub, token: str) -> None:
    """Let commands talk to the hub, as somebody who set both variables would."""
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)


def test_a_folder_is_mended_once_the_user_agrees(tmp_path: Path) -> None:
    made_badly(tmp_path / "model").write()

    declined = hubq(tmp_path / "model", "--fix", input="n\n")
    after = errors(tmp_path / "model")
    agreed = hubq(tmp_path / "model", "--fix", input="y\n")

    assert (declined.exit_code, agreed.exit_code) == (1, 0)
    assert f'+      "{BLOCK}.mlp.down_proj"' in declined.stderr
    assert after
    assert errors(tmp_path / "model") == []


def test_errors_end_with_exit_code_1_and_are_there_as_json(tmp_path: Path) -> None:
    made_badly(tmp_path / "model").write()

    result = hubq(tmp_path / "model", "--json")

    found = json.loads(result.stdout)
    assert result.exit_code == 1
    (finding,) = [each for each in found["findings"] if each["severity"] == "error"]
    assert found["engines"]["vLLM"] == {
        "loads": False,
        "rules": ["missed-by-ignore-list"],
        "known": finding["what"],
    }
    assert finding["fixes"] == ["config.json"]


def test_a_table_of_engines_and_the_findings_are_printed(tmp_path: Path) -> None:
    made = sound(tmp_path / "model", "gptq")
    made.settings(sym=False)
    made.write()

    result = hubq(tmp_path / "model")

    assert result.stdout == (
        f"{tmp_path / 'model'}\n"
        "  transformers  loads it, with gptqmodel>=1.4.3 and optimum>=1.24\n"
        "  vLLM          no (gptq-asymmetric)\n"
        "  SGLang        no (gptq-asymmetric)\n"
        "  llama.cpp     loads it (by its sources)\n"
        "error gptq-asymmetric, config.json: sym: false: vLLM and SGLang raise ValueError. Stops "
        "vLLM, SGLang.\n"
        "  convert it (hubq convert MODEL --to compressed-tensors keeps the integers), or quantize "
        "again with sym: true. Known from vLLM 0.33, TYPE_MAP of gptq.\n"
        "1 error, 1 findings\n"
    )


def test_what_is_no_release_is_refused_in_words(tmp_path: Path) -> None:
    result = hubq(tmp_path / "nowhere")

    assert (result.exit_code, "there is no folder" in result.stderr) == (1, True)


@pytest.mark.parametrize("damage", ["cut", "header", "pipe", "config", "index", "large"])
def test_damaged_files_are_findings(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "model"
    sound(folder).write()
    weights = folder / "model.safetensors"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-1])
    elif damage == "header":
        weights.write_bytes(b"\xff" * 64)
    elif damage == "pipe":
        weights.unlink()
        os.mkfifo(weights)
    elif damage == "config":
        (folder / "config.json").write_text("[" * 100_000)
    elif damage == "large":
        (folder / "README.md").write_bytes(b"x" * 21_000_000)
    else:
        weights.rename(folder / "model-00001-of-00002.safetensors")
        index = {"weight_map": {"a": "model-00002-of-00002.safetensors", "b": "../../etc/passwd"}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    assert "unreadable-file" in {each.rule for each in lint(folder_release(folder)).errors}


def test_what_hubq_measured_is_not_mended(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    measured = made_badly(tmp_path / "model")
    release = measured.write()
    (tmp_path / "model" / "hubq").mkdir()
    (tmp_path / "model" / "hubq" / "report.json").write_text("{}")

    with pytest.raises(UserError, match="made by hubq"):
        mend(folder_release(tmp_path / "model"))
    with pytest.raises(UserError, match="is a run folder"):
        write(mend(release), tmp_path / "run")


def test_publish_refuses_what_would_not_load(tmp_path: Path, client: Client) -> None:
    report = make_run(tmp_path / "run")
    card = tmp_path / "run" / "model" / "config.json"
    card.write_text(json.dumps({"quantization_config": {"quant_method": "gtpq"}}))
    files = {**report.checkpoint.files, "config.json": sha256_of(card)}
    changed = report.checkpoint.model_copy(update={"files": files})
    report = report.model_copy(update={"checkpoint": changed})
    report.save(tmp_path / "run" / "report.json")

    with pytest.raises(UserError, match="unknown-quant-method"):
        publish(report, tmp_path / "run", client)

    assert list(client.api().list_models()) == []


def test_a_run_is_linted_as_what_it_would_publish(tmp_path: Path) -> None:
    report = make_run(tmp_path / "run")
    (tmp_path / "run" / "README.md").write_text("# A card\n")

    found = folder_release(tmp_path / "run")

    assert found.repo == report.plan.repo
    assert set(found.files) == {*report.files, "README.md"}


def test_settings_beside_config_json_count(tmp_path: Path) -> None:
    made = sound(tmp_path / "model", "gptq")
    said = {"bits": 4, "group_size": 32, "desc_act": True, "sym": True}
    made.files["quantize_config.json"] = json.dumps(said).encode()
    del made.config["quantization_config"]

    assert {each.rule for each in lint(made.write()).errors} == {"gptq-activation-order"}
