"""Where weights come from: looked up without being read, brought once, the same ever after."""

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
import torch
from click.testing import CliRunner
from damaged_header import assembled, taken_apart
from faulty_hub import FaultyHub, flip
from odd_folders import configure, logits, pickle_weights, renaming, rewrite

from hubq.cli import cli
from hubq.client.client import Client
from hubq.client.retries import RetryPolicy
from hubq.errors import UserError
from hubq.records.recipe_inputs import ModelSection
from hubq.sources.find import fetch, fetch_planned, find
from hubq.sources.shards import index
from hubq.stages.plan.plan import plan
from hubq.stages.quantize.quantize import quantize
from hubq.stages.recipe.recipe import Recipe

NOWHERE = Client(endpoint="http://127.0.0.1:9", retries=RetryPolicy(tries=1))
REPO = "acme/tiny"


@pytest.fixture
def folder(tiny_model: Callable[[str], Path], tmp_path: Path) -> Path:
    """Give a copy of a tiny model that a test may damage."""
    return shutil.copytree(tiny_model("llama"), tmp_path / "model")


def of(folder: Path) -> ModelSection:
    return ModelSection(folder=folder)


def test_a_folder_is_known_by_its_config_and_headers(folder: Path) -> None:
    source = find(of(folder), NOWHERE)

    assert source.config["architectures"] == ["LlamaForCausalLM"]
    assert source.tensors == index(folder)
    assert source.base_model is None


def test_a_folder_is_fetched_by_leaving_it_where_it_is(folder: Path) -> None:
    assert fetch(find(of(folder), NOWHERE), NOWHERE) == folder


def test_a_copy_of_a_folder_has_the_same_identity(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")

    assert find(of(copy), NOWHERE).identity == find(of(folder), NOWHERE).identity


def test_weights_that_changed_since_the_plan_are_refused(folder: Path) -> None:
    planned = find(of(folder), NOWHERE).identity
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-9000:-1000] = bytes(8000)
    (folder / "model.safetensors").write_bytes(weights)

    with pytest.raises(UserError, match="changed since they were planned"):
        fetch_planned(of(folder), planned, NOWHERE)


def test_a_license_stands_at_the_head_of_the_readme(folder: Path) -> None:
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Tiny\n")

    assert find(of(folder), NOWHERE).license == "mit"


def test_a_readme_without_metadata_names_no_license(folder: Path) -> None:
    (folder / "README.md").write_text("# Tiny\n---\nlicense: mit\n---\n")

    assert find(of(folder), NOWHERE).license is None


def test_a_license_that_is_only_other_is_told_by_its_name(folder: Path) -> None:
    (folder / "README.md").write_text("---\nlicense: other\nlicense_name: llama3\n---\n")

    assert find(of(folder), Client()).license == "llama3"


def test_a_readme_that_is_not_utf8_hinders_nothing(folder: Path) -> None:
    (folder / "README.md").write_bytes(b"---\nlicense: mit\nauthor: Andr\xe9\n---\n")

    assert find(of(folder), Client()).license == "mit"


@pytest.mark.parametrize(
    "config",
    ["[]", "null", "{", '{"quantization_config": 3}', '{"architectures": 3}'],
)
def test_a_config_that_is_none_is_refused(folder: Path, config: str) -> None:
    (folder / "config.json").write_text(config)

    with pytest.raises(UserError, match=r"config\.json|already quantized"):
        find(of(folder), Client())


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a folder"):
        find(of(tmp_path / "nothing"), NOWHERE)


def test_a_folder_without_config_is_no_model(folder: Path) -> None:
    (folder / "config.json").unlink()

    with pytest.raises(UserError, match=r"has no config\.json"):
        find(of(folder), NOWHERE)


def test_truncated_weights_are_refused(folder: Path) -> None:
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:-100])

    with pytest.raises(UserError, match="truncated"):
        find(of(folder), NOWHERE)


@pytest.mark.parametrize("form", ["gptq", "awq", "compressed-tensors"])
def test_a_model_that_is_quantized_already_is_refused_with_a_command_that_helps(
    form: str, folder: Path, tmp_path: Path
) -> None:
    packed = tmp_path / "a packed model"
    quantize_by(form, folder, tmp_path / "run").rename(packed)

    with pytest.raises(UserError, match=rf"already quantized \({form}\)") as refusal:
        find(of(packed), NOWHERE)

    command = next(line for line in str(refusal.value).splitlines() if "hubq convert" in line)
    words = shlex.split(command.partition("hubq ")[2])
    assert CliRunner().invoke(cli, words).exit_code == 0
    source = find(of(tmp_path / "a packed model-dense"), NOWHERE)
    assert source.tensors.keys() == index(folder).keys()


def test_a_model_that_nothing_here_unpacks_names_no_command(folder: Path) -> None:
    configure(folder, quantization_config={"quant_method": "bitsandbytes"})

    with pytest.raises(UserError, match=r"made from$"):
        find(of(folder), NOWHERE)


def quantize_by(form: str, folder: Path, run: Path) -> Path:
    """Round a model in a format, and return its folder."""
    recipe = Recipe.model_validate(
        {
            "name": "tiny",
            "model": {"folder": folder},
            "method": {"name": "rtn", "bits": 4, "group_size": 32, "symmetric": form == "gptq"},
            "format": form,
            "publish": {"org": "me"},
        }
    )
    run.mkdir()
    quantize(plan(recipe, run, NOWHERE), run, NOWHERE)
    return run / "model"


@pytest.fixture
def uploaded(client: Client, folder: Path) -> ModelSection:
    """Put the tiny model on the hub, with a card, code and a copy of the weights in a folder."""
    (folder / "README.md").write_text("---\nlicense: llama3\n---\n")
    (folder / "modeling_tiny.py").write_text("raise SystemExit\n")
    shutil.copytree(folder, folder / "original")
    client.api().create_repo(REPO)
    client.api().upload_folder(repo_id=REPO, folder_path=folder)
    return ModelSection(hub=REPO)


# Each test on the hub starts a server and uploads a model: about a second.


def test_a_repo_is_known_by_its_config_and_headers(
    uploaded: ModelSection, client: Client, folder: Path
) -> None:
    source = find(uploaded, client)

    shapes = {name: (each.dtype, each.shape) for name, each in source.tensors.items()}
    assert shapes == {name: (each.dtype, each.shape) for name, each in index(folder).items()}
    assert source.base_model == REPO
    assert source.license == "llama3"


def test_looking_a_repo_up_does_not_download_its_weights(
    uploaded: ModelSection, client: Client, tmp_path: Path
) -> None:
    find(uploaded, client)

    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_a_repo_is_pinned_to_the_commit_it_is_at(uploaded: ModelSection, client: Client) -> None:
    source = find(uploaded, client)

    assert source.identity == f"{REPO}@{client.api().model_info(REPO).sha}"


def test_what_was_planned_is_fetched_though_main_has_moved(
    uploaded: ModelSection, client: Client
) -> None:
    planned = find(uploaded, client).identity
    client.api().upload_file(path_or_fileobj=b"{}", path_in_repo="config.json", repo_id=REPO)

    place = fetch_planned(uploaded, planned, client)

    assert json.loads((place / "config.json").read_text()) != {}


def test_a_download_brings_weights_and_auxiliary_files_and_nothing_that_runs(
    uploaded: ModelSection, client: Client
) -> None:
    place = fetch(find(uploaded, client), client)

    names = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
    assert "model.safetensors" in names
    assert "tokenizer.json" in names
    assert not [name for name in names if name.endswith(".py") or "/" in name]


def test_a_download_brings_all_that_lies_beside_the_weights_of_a_release(
    uploaded: ModelSection, client: Client, folder: Path
) -> None:
    beside = {"license.md", "Notice", "tokenizer.model.v3", "additional_chat_templates/tool.jinja"}
    for name in sorted(beside):
        client.api().upload_file(path_or_fileobj=b"text", path_in_repo=name, repo_id=REPO)

    place = fetch(find(uploaded, client), client)

    assert beside <= {path.relative_to(place).as_posix() for path in place.rglob("*")}


def test_a_byte_that_flipped_on_its_way_is_noticed_and_fetched_again(
    uploaded: ModelSection,
    client: Client,
    hub: FaultyHub,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    source = find(uploaded, client)
    hub.faults.add(flip("GET", r"/resolve/[^/]+/model.safetensors", 20000))

    place = fetch(source, client)

    assert (place / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_a_verified_download_is_not_hashed_again(
    uploaded: ModelSection, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = find(uploaded, client)
    first = fetch(source, client)
    monkeypatch.setattr("hubq.sources.hub.check", None)  # calling it would fail

    assert fetch(source, client) == first


def test_a_repo_that_is_not_there_is_refused(client: Client) -> None:
    with pytest.raises(UserError, match="shows no repo acme/nothing"):
        find(ModelSection(hub="acme/nothing"), client)


def test_a_revision_that_is_not_there_is_refused(uploaded: ModelSection, client: Client) -> None:
    with pytest.raises(UserError, match="doesn't have this revision"):
        find(ModelSection(hub=f"{REPO}@v9"), client)


@pytest.mark.parametrize("gated", ["auto", "manual", False])
def test_the_gate_of_a_repo_and_its_form_are_known(
    uploaded: ModelSection, client: Client, gated: Literal["auto", "manual", False]
) -> None:
    client.api().update_repo_settings(REPO, gated=gated)
    client.api().upload_file(
        path_or_fileobj=b"---\nlanguage: en\nextra_gated_heading: Please ask\n---\n",
        path_in_repo="README.md",
        repo_id=REPO,
    )

    card = find(uploaded, client).card

    assert card.gate == (gated or None)
    assert card.extra_gated == {"extra_gated_heading": "Please ask"}
    assert card.language == ("en",)


def test_a_gated_repo_without_access_is_refused(
    uploaded: ModelSection, client: Client, hub: FaultyHub
) -> None:
    from hubq.embedded_hub.local import add_user, mint_token

    client.api().update_repo_settings(REPO, gated="manual", private=False)
    add_user(hub.root, "bob")
    token = mint_token(hub.root, user="bob", role="write", expires_in=None)

    with pytest.raises(UserError, match="gated"):
        find(uploaded, Client(hub.endpoint, token, RetryPolicy(first=0.01)))


# Reading a pickle starts a process that imports torch: about 2 seconds.
def test_a_repo_of_pickles_is_fetched_and_converted_once(
    client: Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = find(of(folder), NOWHERE).tensors
    pickle_weights(folder, shards=2)
    client.api().create_repo(REPO)
    client.api().upload_folder(repo_id=REPO, folder_path=folder)

    source = find(ModelSection(hub=REPO), client)

    assert source.identity == f"{REPO}@{client.api().model_info(REPO).sha}"
    assert source.base_model == REPO
    assert source.tensors.keys() == plain.keys()
    monkeypatch.setattr("hubq.sources.normalized_folder._convert", None)  # calling it would fail
    place = fetch_planned(ModelSection(hub=REPO), source.identity, client)
    assert torch.equal(logits(place), logits(folder, use_safetensors=False))


def test_a_repo_of_names_that_transformers_does_not_know_is_read(
    client: Client, folder: Path
) -> None:
    plain = find(of(folder), NOWHERE).tensors
    rewrite(folder, renaming(lambda name: f"_orig_mod.{name}"))
    client.api().create_repo(REPO)
    client.api().upload_folder(repo_id=REPO, folder_path=folder)

    source = find(ModelSection(hub=REPO), client)

    assert source.tensors.keys() == plain.keys()
    assert index(fetch(source, client)).keys() == plain.keys()


@pytest.mark.parametrize(
    "change",
    [
        {"data_offsets": [0, 128]},  # where another tensor lies
        {"shape": 3},
        {"shape": ["a"]},
        {"data_offsets": None},
        {"dtype": []},
    ],
)
def test_a_repo_whose_headers_are_damaged_is_refused_before_its_weights_are_brought(
    change: dict[str, object], client: Client, folder: Path, tmp_path: Path
) -> None:
    header, data = taken_apart((folder / "model.safetensors").read_bytes())
    entries = json.loads(header)
    entries["model.norm.weight"] |= change
    content = assembled(json.dumps(entries).encode(), data)
    (folder / "model.safetensors").write_bytes(content)
    client.api().create_repo(REPO)
    client.api().upload_folder(repo_id=REPO, folder_path=folder)

    with pytest.raises(UserError, match=r"acme/tiny (has|is) damaged"):
        find(ModelSection(hub=REPO), client)

    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_a_repo_without_weights_is_refused(client: Client) -> None:
    client.api().create_repo(REPO)
    client.api().upload_file(path_or_fileobj=b"{}", path_in_repo="config.json", repo_id=REPO)

    with pytest.raises(
        UserError, match=r"neither model\.safetensors, nor its index, nor pytorch_model\.bin"
    ):
        find(ModelSection(hub=REPO), client)


def test_no_network_is_called_so() -> None:
    with pytest.raises(UserError, match="can't be reached"):
        find(ModelSection(hub=REPO), NOWHERE)
