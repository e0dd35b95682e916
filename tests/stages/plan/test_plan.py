"""A plan: what it counts, what it refuses, and when it stays."""

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from faulty_hub import faulty_hub

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.records.plan import Plan
from hubq.records.run_folder import PLAN
from hubq.records.vocabulary import mistake_in_name
from hubq.stages.plan.plan import destination, plan
from hubq.stages.recipe.recipe import Recipe

NOWHERE = Client(endpoint="http://127.0.0.1:9")
TINY_TEXT = {"file": "/nowhere/but/not/read.txt"}


def recipe_for(folder: Path, **changes: object) -> Recipe:
    """Return a recipe of RTN at 4 bits in groups of 32, with changes by section."""
    values: dict[str, object] = {
        "name": "tiny",
        "model": {"folder": folder},
        "method": {"name": "rtn", "bits": 4, "group_size": 32},
        "publish": {"org": "me"},
    }
    return Recipe.model_validate(values | changes)


def planned(folder: Path, run: Path, **changes: object) -> Plan:
    return plan(recipe_for(folder, **changes), run, NOWHERE)


@pytest.fixture
def llama(tiny_model: Callable[[str], Path]) -> Path:
    return tiny_model("llama")


@pytest.mark.parametrize("name", ["llama", "llama3.1", "llama3.2", "mistral", "qwen2", "qwen3"])
def test_every_linear_of_every_family_is_quantized(
    name: str, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    found = planned(tiny_model(name), tmp_path)

    quantized = [each.name for each in found.modules if each.quantized]
    assert len(quantized) == 2 * 7
    assert quantized[0] == "model.layers.0.self_attn.q_proj"


def test_bits_count_codes_scales_zeros_and_the_shape(llama: Path, tmp_path: Path) -> None:
    found = planned(llama, tmp_path)

    query = next(each for each in found.modules if each.name.endswith("0.self_attn.q_proj"))
    codes, scales, zeros, shape = 64 * 64 // 2, 64 * 2 * 2, 64 * 2 // 2, 16
    assert query.bytes == codes + scales + zeros + shape


def test_the_embeddings_count_in_the_whole_models_bits(llama: Path, tmp_path: Path) -> None:
    found = planned(llama, tmp_path)

    kept = [each for each in found.modules if not each.quantized]
    assert [each.name for each in kept] == ["model.embed_tokens", "lm_head"]
    assert found.linear_bits < found.model_bits < 16


def test_parameters_and_bytes_are_those_of_the_model(llama: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(llama, dtype=torch.bfloat16)

    found = planned(llama, tmp_path)

    assert found.parameters == model.num_parameters()
    assert found.base_bytes == 2 * found.parameters


def test_a_tied_head_is_one_tensor_with_the_embeddings(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    found = planned(tiny_model("llama3.2"), tmp_path)

    assert "lm_head" not in [each.name for each in found.modules]


def test_a_head_is_quantized_where_the_format_holds_it(llama: Path, tmp_path: Path) -> None:
    symmetric = {"name": "rtn", "bits": 4, "group_size": 32, "symmetric": True}

    found = planned(llama, tmp_path, method=symmetric, embeddings=8)

    head = next(each for each in found.modules if each.name == "lm_head")
    assert head.quantized
    assert 8 < head.bits < 9


def test_a_tied_head_cannot_be_quantized_and_says_why(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="embeddings: 8 can't work"):
        planned(tiny_model("llama3.2"), tmp_path, embeddings=8)


def test_a_group_size_that_does_not_divide_names_the_layers_once(
    llama: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        planned(llama, tmp_path, method={"name": "rtn", "group_size": 96})

    lines = str(caught.value).splitlines()
    assert lines[0] == "this recipe can't work:"
    assert lines[1].startswith("  q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj (12 layers)")
    assert "use 32 or 64" in lines[1]
    assert lines[2].startswith("  down_proj (2 layers)")


def test_bits_that_a_format_cannot_hold_are_refused_with_a_way_out(
    llama: Path, tmp_path: Path
) -> None:
    three = {"name": "rtn", "bits": 3, "group_size": 32}

    with pytest.raises(UserError, match=r"awq files hold 4 bits, not 3; use"):
        planned(llama, tmp_path, method=three, format="awq")


def test_a_method_that_needs_data_is_refused_without_calibration(
    llama: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="needs calibration data: add a section calibration"):
        planned(llama, tmp_path, method={"name": "gptq", "group_size": 32})


def test_an_unknown_family_is_refused_with_those_that_are_known(
    llama: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(llama, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"architectures": ["GPT2LMHeadModel"]}))

    with pytest.raises(UserError, match=r"GPT2LMHeadModel.*known: .*Qwen3ForCausalLM"):
        planned(other, tmp_path / "run")


def test_a_missing_text_is_told_before_anything_is_computed(llama: Path, tmp_path: Path) -> None:
    calibration = {"dataset": TINY_TEXT, "samples": 2, "length": 8}

    with pytest.raises(UserError, match="there is no file"):
        planned(llama, tmp_path, calibration=calibration)


def test_an_unknown_task_is_told_before_anything_is_computed(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no task is called pika; did you mean"):
        planned(llama, tmp_path, evaluate={"tasks": ["pika"]})

    assert not (tmp_path / PLAN).exists()


def test_an_option_that_a_text_does_not_take_is_told_before_anything_is_computed(
    llama: Path, tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("a llama")

    with pytest.raises(UserError, match="split is for a Hub data set"):
        planned(
            llama,
            tmp_path / "run",
            evaluate={"perplexity": [{"dataset": {"file": text, "split": "test"}}]},
        )


def test_a_data_set_that_is_not_on_the_hub_is_told_before_anything_is_computed(
    llama: Path, tmp_path: Path
) -> None:
    with faulty_hub(tmp_path / "hub", user="ann", org="acme") as hub:
        client = Client(endpoint=hub.endpoint, token=hub.token)
        recipe = recipe_for(llama, evaluate={"perplexity": ["acme/not-there"]})

        with pytest.raises(UserError, match="acme/not-there"):
            plan(recipe, tmp_path / "run", client)


def test_a_text_on_a_hub_that_cannot_be_reached_is_not_checked(llama: Path, tmp_path: Path) -> None:
    texts = [{"dataset": "wikitext2", "length": 64}]

    found = planned(llama, tmp_path, evaluate={"perplexity": texts})

    assert found.recipe["evaluate"]["perplexity"][0]["dataset"]["name"] == "wikitext2"


def test_a_full_disk_is_told_before_anything_is_computed(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)

    with pytest.raises(UserError, match="not enough space"):
        planned(llama, tmp_path)


def test_planning_again_leaves_the_file_alone(llama: Path, tmp_path: Path) -> None:
    first = planned(llama, tmp_path)
    before = (tmp_path / PLAN).stat().st_mtime_ns

    again = planned(llama, tmp_path)

    assert again == first
    assert (tmp_path / PLAN).stat().st_mtime_ns == before


def test_a_run_folder_of_another_plan_is_refused_with_the_difference(
    llama: Path, tmp_path: Path
) -> None:
    planned(llama, tmp_path)

    with pytest.raises(UserError) as caught:
        planned(llama, tmp_path, method={"name": "rtn", "bits": 3, "group_size": 32})

    assert "method.bits: 4 there, 3 now" in str(caught.value)
    assert "--fresh" in str(caught.value)


def test_other_weights_under_the_same_recipe_are_another_plan(llama: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(llama, model)
    planned(model, tmp_path / "run")
    weights = bytearray((model / "model.safetensors").read_bytes())
    weights[-5000:-1000] = bytes(4000)
    (model / "model.safetensors").write_bytes(weights)

    with pytest.raises(UserError, match="source: sha256"):
        planned(model, tmp_path / "run")


@pytest.mark.parametrize(
    ("base_model", "license", "name"),
    [
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0", "SmolLM2-135M-Instruct-RTN-4bit"),
        ("meta-llama/Meta-Llama-3-8B-Instruct", "llama3", "Llama-3-8B-Instruct-RTN-4bit"),
        ("meta-llama/Llama-3.2-1B", "llama3.2", "Llama-3.2-1B-RTN-4bit"),
        ("org/Hermes-2-Pro", "llama3", "Llama-3-Hermes-2-Pro-RTN-4bit"),
    ],
)
def test_a_repo_is_named_after_base_method_and_bits_as_its_license_allows(
    llama: Path, tmp_path: Path, base_model: str, license: str, name: str
) -> None:
    model = {"folder": llama, "base_model": base_model, "license": license}

    found = planned(llama, tmp_path, model=model)

    assert found.repo == f"me/{name}"


@pytest.mark.parametrize(
    ("options", "form", "name"),
    [
        ({"data_type": "nf4"}, "bitsandbytes", "bitsandbytes-4bit"),
        ({"data_type": "fp4"}, "bitsandbytes", "bitsandbytes-FP4-4bit"),
        ({"shift": True}, "hubq", "bitsandbytes-ICQ-4bit"),
    ],
)
def test_settings_of_as_many_bits_have_repos_of_their_own(
    llama: Path, tmp_path: Path, options: dict[str, object], form: str, name: str
) -> None:
    found = planned(llama, tmp_path, method={"name": "bitsandbytes", **options}, format=form)

    assert found.repo.endswith(name)


@pytest.mark.parametrize("called", ["my--model", "mon modèle..", "模型", "x" * 200, "a.git"])
def test_whatever_a_folder_is_called_the_made_name_is_one_that_the_hub_takes(
    llama: Path, tmp_path: Path, called: str
) -> None:
    folder = tmp_path / called
    folder.symlink_to(llama)

    _, _, name = planned(folder, tmp_path / "run").repo.partition("/")

    assert mistake_in_name(name) is None
    assert name.endswith("-RTN-4bit")


@pytest.mark.parametrize(
    ("license", "start"),
    [
        ("llama3", "Llama-3"),
        ("llama3.1", "Llama"),
        ("llama3.2", "Llama"),
        ("llama3.3", "Llama"),
        ("llama4", "Llama"),
        ("llama-3.3-community-license", "Llama"),
        ("llama5", "Llama"),
    ],
)
def test_a_name_that_the_license_forbids_is_refused(
    llama: Path, tmp_path: Path, license: str, start: str
) -> None:
    model = {"folder": llama, "license": license}

    with pytest.raises(UserError, match=f"asks that the name begin with {start};"):
        planned(llama, tmp_path, model=model, publish={"org": "me", "name": "Tiger"})


@pytest.mark.parametrize(
    ("license", "name"),
    [
        ("llama2", "Tiger"),
        ("llama3", "llama-3-Tiger"),
        ("llama3.1", "Llama-Tiger"),
        ("llama4", "Llama4Tiger"),
        ("gemma", "Tiger"),
        ("qwen", "Tiger"),
        ("qwen-research", "Tiger"),
        ("apache-2.0", "Tiger"),
        ("mit", "Tiger"),
        (None, "Tiger"),
    ],
)
def test_a_name_that_the_license_allows_is_taken(
    llama: Path, tmp_path: Path, license: str | None, name: str
) -> None:
    model = {"folder": llama, "license": license}

    found = planned(llama, tmp_path, model=model, publish={"org": "me", "name": name})

    assert found.repo == f"me/{name}"


def test_a_license_that_stays_is_not_exchanged(llama: Path, tmp_path: Path) -> None:
    model = {"folder": llama, "license": "llama3.1"}

    with pytest.raises(UserError, match=r"publish.license mit: the base is under the Llama 3.1"):
        planned(llama, tmp_path, model=model, publish={"org": "me", "license": "mit"})


@pytest.fixture
def gated_folder(llama: Path, tmp_path: Path) -> Path:
    """Return a model whose card has a form for access, as a snapshot of a gated repo has it."""
    folder = shutil.copytree(llama, tmp_path / "gated")
    (folder / "README.md").write_text(
        "---\nlicense: llama3.1\nlanguage: [en, de]\nextra_gated_prompt: Agree.\n---\n"
    )
    return folder


def test_what_copies_carry_on_of_the_bases_card_is_planned(
    gated_folder: Path, tmp_path: Path
) -> None:
    found = planned(gated_folder, tmp_path / "run")

    assert found.base_card.gate == "unknown"
    assert found.base_card.language == ("en", "de")
    assert found.base_card.extra_gated == {"extra_gated_prompt": "Agree."}


def test_an_open_copy_of_a_gated_base_is_refused(gated_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"publish.private: false: the base .* is gated"):
        planned(gated_folder, tmp_path / "run", publish={"org": "me", "private": False})

    assert not (tmp_path / "run" / PLAN).exists()


def test_an_open_copy_of_a_gated_repo_is_refused_with_who_answers(
    llama: Path, tmp_path: Path
) -> None:  # a second: it starts a hub
    with faulty_hub(tmp_path / "hub", user="ann", org="acme") as hub:
        client = Client(endpoint=hub.endpoint, token=hub.token)
        client.api().create_repo("acme/base")
        client.api().upload_folder(repo_id="acme/base", folder_path=llama)
        client.api().update_repo_settings("acme/base", gated="auto")
        publish = {"org": "acme", "private": False}
        recipe = recipe_for(llama, model="acme/base", publish=publish)

        with pytest.raises(UserError, match="acme/base is gated: every request is granted"):
            plan(recipe, tmp_path / "run", client)


@pytest.mark.parametrize("way", [{"gated": "manual"}, {"open_although_gated": True}])
def test_an_open_copy_of_a_gated_base_is_planned_when_that_is_wanted(
    gated_folder: Path, tmp_path: Path, way: dict[str, object]
) -> None:
    publish = {"org": "me", "private": False, **way}

    assert planned(gated_folder, tmp_path / "run", publish=publish).base_card.gate == "unknown"


def test_the_base_of_weights_that_lie_elsewhere_is_asked_for_its_gate_and_license(
    llama: Path, tmp_path: Path
) -> None:  # a second: it starts a hub
    with faulty_hub(tmp_path / "hub", user="ann", org="acme") as hub:
        client = Client(endpoint=hub.endpoint, token=hub.token)
        client.api().create_repo("acme/base")
        client.api().update_repo_settings("acme/base", gated="manual")
        client.api().upload_file(
            path_or_fileobj=b"---\nlicense: llama3.2\n---\n",
            path_in_repo="README.md",
            repo_id="acme/base",
        )
        recipe = recipe_for(llama, model={"folder": llama, "base_model": "acme/base"})

        found = plan(recipe, tmp_path / "run", client)

    assert (found.base_card.gate, found.license) == ("manual", "llama3.2")


def test_a_plan_of_before_the_recipe_had_an_option_is_still_the_same(
    llama: Path, tmp_path: Path
) -> None:
    first = planned(llama, tmp_path)
    old = json.loads((tmp_path / PLAN).read_text())
    for option in ("gated", "open_although_gated"):
        del old["recipe"]["publish"][option]
    del old["base_card"]
    (tmp_path / PLAN).write_text(json.dumps(old))

    again = planned(llama, tmp_path)

    assert again.repo == first.repo
    assert json.loads((tmp_path / PLAN).read_text()) == old


def test_without_a_token_the_destination_is_not_checked(llama: Path, tmp_path: Path) -> None:
    found = planned(llama, tmp_path)

    assert destination(found, NOWHERE) == "not checked: no token"


def test_without_a_network_the_destination_is_not_checked(llama: Path, tmp_path: Path) -> None:
    found = planned(llama, tmp_path)

    said = destination(found, Client(endpoint="http://127.0.0.1:9", token="hf_none"))

    assert said == "not checked: http://127.0.0.1:9 can't be reached"


def test_a_config_that_lacks_a_key_is_planned_or_refused(llama: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(llama, model)
    config = json.loads((model / "config.json").read_text())

    for key in config:
        (model / "config.json").write_text(json.dumps({**config, key: None}))

        with suppress(UserError):
            planned(model, tmp_path / key)
