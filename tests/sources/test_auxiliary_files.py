import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hubq.errors import UserError
from hubq.sources.auxiliary_files import AuxiliaryFiles, auxiliary_files

QUANTIZATION = {"quant_method": "compressed-tensors", "ignore": ["lm_head"]}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Return a folder with the least that a model has, for a test to add to."""
    folder = tmp_path / "base"
    folder.mkdir()
    write_json(folder / "config.json", {"model_type": "llama", "torch_dtype": "bfloat16"})
    return folder


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2))


def gather(base: Path, license: str | None = None) -> AuxiliaryFiles:
    return auxiliary_files(base, QUANTIZATION, dtype="bfloat16", license=license)


def test_config_is_the_bases_with_the_quantization_and_nothing_else_changed(base: Path) -> None:
    before = json.loads((base / "config.json").read_text())

    files = gather(base).files

    assert json.loads(files["config.json"]) == before | {"quantization_config": QUANTIZATION}


def test_config_keeps_the_order_of_its_keys(base: Path) -> None:
    write_json(base / "config.json", {"z": 1, "dtype": "bfloat16", "a": 2})

    files = gather(base).files

    assert list(json.loads(files["config.json"])) == ["z", "dtype", "a", "quantization_config"]


@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
def test_config_names_the_dtype_of_what_was_written_by_the_bases_key(base: Path, key: str) -> None:
    write_json(base / "config.json", {key: "float32"})

    config = json.loads(gather(base).files["config.json"])

    assert config == {key: "bfloat16", "quantization_config": QUANTIZATION}


def test_config_gets_a_dtype_where_the_base_names_none(base: Path) -> None:
    write_json(base / "config.json", {"model_type": "llama"})

    config = json.loads(gather(base).files["config.json"])

    assert config["torch_dtype"] == "bfloat16"


def test_config_says_nothing_of_code_that_is_not_copied(base: Path) -> None:
    write_json(base / "config.json", {"auto_map": {"AutoConfig": "configuration_x.XConfig"}})
    (base / "configuration_x.py").write_text("import os")

    found = gather(base)

    assert "auto_map" not in json.loads(found.files["config.json"])
    assert any("auto_map" in fact for fact in found.facts)


def test_a_base_that_is_already_quantized_is_refused(base: Path) -> None:
    write_json(base / "config.json", {"quantization_config": {"quant_method": "fp8"}})

    with pytest.raises(UserError, match=r"already quantized \(fp8\)"):
        gather(base)


def test_a_quantization_that_is_null_is_none(base: Path) -> None:
    write_json(base / "config.json", {"quantization_config": None})

    config = json.loads(gather(base).files["config.json"])

    assert config["quantization_config"] is not None


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(None, "is missing"), ("{", "is not JSON"), ("[]", "is not a JSON object")],
)
def test_a_base_without_a_usable_config_is_refused(
    base: Path, content: str | None, complaint: str
) -> None:
    (base / "config.json").unlink()
    if content is not None:
        (base / "config.json").write_text(content)

    with pytest.raises(UserError, match=complaint):
        gather(base)


@pytest.mark.parametrize(
    "name",
    [
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "merges.txt",
        "tokenizer.model",
        "chat_template.jinja",
        "chat_template.json",
        "additional_chat_templates/tools.jinja",
        "processor_config.json",
        "LICENSE",
        "LICENSE.txt",
        "License.md",
        "LICENSE-2.0.txt",
        "LICENCE",
        "NOTICE",
        "Notice.txt",
        "USE_POLICY.md",
    ],
)
def test_tokenizer_and_license_files_are_the_bases_byte_for_byte(base: Path, name: str) -> None:
    content = b'{ "odd" :\t"spacing",\r\n "and": "\xc3\xa9" }  '
    (base / name).parent.mkdir(exist_ok=True)
    (base / name).write_bytes(content)

    files = gather(base).files

    assert files[name] == content


@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model.bin",
        "model.safetensors",
        "model.safetensors.index.json",
        "training_args.bin",
        "optimizer.pt",
        "tokenizer.pkl",
        "modeling_llama.py",
        "license_check.py",
        "NOTICE.bin",
        "README.md",
        ".gitattributes",
    ],
)
def test_weights_pickles_code_and_the_bases_card_are_not_copied(base: Path, name: str) -> None:
    (base / name).write_bytes(b"x")

    files = gather(base).files

    assert set(files) == {"config.json"}


def test_files_of_a_hub_snapshot_are_copied_through_their_links(base: Path, tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"{}")
    (base / "tokenizer.json").symlink_to(tmp_path / "blob")

    files = gather(base).files

    assert files["tokenizer.json"] == b"{}"


def test_a_valid_generation_config_is_copied_byte_for_byte(base: Path) -> None:
    content = b'{"do_sample": true,\n\n "temperature": 0.6, "eos_token_id": [1, 2]}'
    (base / "generation_config.json").write_bytes(content)

    found = gather(base)

    assert found.files["generation_config.json"] == content
    assert found.facts == ()


def test_a_temperature_without_sampling_is_mended_and_told(base: Path) -> None:
    settings = {"temperature": 0.6, "eos_token_id": [1, 2]}
    write_json(base / "generation_config.json", settings)

    found = gather(base)

    mended = json.loads(found.files["generation_config.json"])
    assert mended == settings | {"do_sample": True}
    assert "do_sample set to true" in found.facts[0]


def test_an_invalid_generation_setting_is_dropped_and_the_others_stay(base: Path) -> None:
    settings = {"early_stopping": 7, "eos_token_id": [1, 2]}
    write_json(base / "generation_config.json", settings)

    found = gather(base)

    assert json.loads(found.files["generation_config.json"]) == {"eos_token_id": [1, 2]}
    assert "lacks early_stopping" in found.facts[0]


def test_a_mended_generation_config_is_one_that_transformers_saves(
    base: Path, tmp_path: Path
) -> None:
    from transformers import GenerationConfig

    write_json(base / "generation_config.json", {"top_p": 0.9, "pad_token_id": -1})
    (tmp_path / "mended").mkdir()
    content = gather(base).files["generation_config.json"]
    (tmp_path / "mended" / "generation_config.json").write_bytes(content)

    config = GenerationConfig.from_pretrained(tmp_path / "mended")

    config.save_pretrained(tmp_path / "again")


def test_a_generation_config_beyond_repair_is_left_out_and_told(base: Path) -> None:
    write_json(base / "generation_config.json", {"max_new_tokens": "many"})

    found = gather(base)

    assert "generation_config.json" not in found.files
    assert "was left out" in found.facts[0]


def test_what_the_license_asks_for_lies_beside_the_copies(base: Path) -> None:
    (base / "tokenizer.json").write_bytes(b"{}")

    found = gather(base, license="llama3")

    assert set(found.files) == {
        "config.json",
        "tokenizer.json",
        "Notice.txt",
        "ABOUT_THE_LICENSE.txt",
    }


def test_a_changed_generation_config_is_among_the_modifications(base: Path) -> None:
    write_json(base / "generation_config.json", {"temperature": 0.6})

    found = gather(base, license="apache-2.0")

    assert b"- generation_config.json has do_sample set" in found.files["MODIFICATIONS.txt"]


@pytest.mark.parametrize("license", [None, "cc-by-4.0", "unknown"])
def test_a_license_without_known_terms_adds_nothing(base: Path, license: str | None) -> None:
    assert set(gather(base, license=license).files) == {"config.json"}


def test_the_tokenizer_of_a_gathered_folder_is_the_bases(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:  # several seconds: it imports transformers' models
    from transformers import AutoTokenizer

    base = tiny_model("llama")
    for name, content in gather(base).files.items():
        (tmp_path / name).write_bytes(content)

    ours, theirs = (AutoTokenizer.from_pretrained(folder) for folder in (tmp_path, base))

    assert ours("a llama")["input_ids"] == theirs("a llama")["input_ids"]
    assert ours.chat_template == theirs.chat_template


# Imports transformers in a process of its own: seconds.
def test_several_threads_may_be_the_first_to_ask() -> None:
    code = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from hubq.sources.auxiliary_files import mended_generation\n"
        "with ThreadPoolExecutor(8) as executor:\n"
        "    found = list(executor.map(mended_generation, [{'temperature': 0.5}] * 8))\n"
        "assert found[0] is not None and found == found[:1] * 8, found\n"
    )

    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
