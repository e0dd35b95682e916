"""GGUF files: read whole, as they are, or refused."""

import json
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader
from made_gguf import HIDDEN, VOCABULARY, Edit, gguf_of, write_gguf
from safetensors.torch import load_file
from tiny_models import TINY, save_tiny_model
from transformers import AutoTokenizer

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.records.recipe_inputs import ModelSection
from hubq.sources.find import fetch, find
from hubq.sources.gguf.convert import TOKENIZERS
from hubq.sources.shards import Weights, index
from hubq.sources.source import Source
from hubq.sources.tokenizer import SAMPLE

CLIENT = Client()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(path)
    return path


@pytest.fixture(scope="module")
def kept_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def converted(file: Path, kept_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Convert the file once for all tests: transformers takes two seconds for it."""
    monkeypatch.setenv("HUBQ_CACHE", str(kept_cache))
    return fetch(find(ModelSection(gguf=file), CLIENT), CLIENT)


def test_the_shapes_looked_up_are_the_converted_folders(file: Path, converted: Path) -> None:
    from hubq.sources.gguf.convert import look_up

    estimated = look_up(ModelSection(gguf=file), file, "sha256:0").tensors

    found = index(converted)
    assert {name: each.shape for name, each in estimated.items()} == {
        name: each.shape for name, each in found.items()
    }
    assert {each.dtype for each in found.values()} == {"BF16"}


def test_a_file_is_the_same_source_before_and_after_its_conversion(
    file: Path, converted: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    after = find(ModelSection(gguf=file), CLIENT)
    monkeypatch.setenv("HUBQ_CACHE", str(tmp_path))

    before = find(ModelSection(gguf=file), CLIENT)

    assert before.identity == after.identity
    assert before.license == after.license == "apache-2.0"
    assert before.card == after.card
    assert after.card.language == ("en", "nn")
    assert before.config["architectures"] == after.config["architectures"]


def test_one_recipes_license_is_not_that_of_another_on_the_same_file(file: Path) -> None:
    # A conversion of its own: two seconds.
    fetch(find(ModelSection(gguf=file, license="mit"), CLIENT), CLIENT)

    assert find(ModelSection(gguf=file), CLIENT).license == "apache-2.0"


def test_tied_embeddings_stay_one_tensor(converted: Path, file: Path) -> None:
    source = find(ModelSection(gguf=file), CLIENT)

    assert source.config["tie_word_embeddings"] is True
    assert "lm_head.weight" not in source.tensors


def test_a_head_of_its_own_stays_one(tmp_path: Path) -> None:
    write_gguf(tmp_path / "untied.gguf", tied=False)

    source = find(ModelSection(gguf=tmp_path / "untied.gguf"), CLIENT)

    assert source.config["tie_word_embeddings"] is False
    assert source.tensors["lm_head.weight"].shape == (VOCABULARY, HIDDEN)


def test_the_weights_are_the_files_rounded_to_bfloat16(file: Path, converted: Path) -> None:
    stored = next(each for each in GGUFReader(file).tensors if each.name == "blk.0.ffn_up.weight")

    read = Weights(converted).read("model.layers.0.mlp.up_proj.weight").float().numpy()

    assert numpy.allclose(read, stored.data, rtol=2**-8)


def test_the_tokenizer_brings_text_back_and_keeps_its_special_tokens(converted: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(converted)

    assert tokenizer.decode(tokenizer(SAMPLE).input_ids) == SAMPLE
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (257, 258)
    assert tokenizer.chat_template.startswith("{% for message")


def test_nothing_of_this_machine_is_in_the_folder(converted: Path, file: Path) -> None:
    texts = [path.read_text() for path in converted.glob("*.json")]

    assert not [text for text in texts if str(file.parent) in text or "_name_or_path" in text]


def test_a_second_fetch_converts_nothing(file: Path, converted: Path) -> None:
    before = (converted / "model.safetensors").stat().st_mtime_ns

    again = fetch(find(ModelSection(gguf=file), CLIENT), CLIENT)

    assert again == converted
    assert (converted / "model.safetensors").stat().st_mtime_ns == before


def test_a_conversion_that_fails_leaves_nothing_behind(
    file: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("usage", (), {"free": 1000})
    source = find(ModelSection(gguf=file), CLIENT)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)

    with pytest.raises(UserError, match="not enough space"):
        fetch(source, CLIENT)

    assert not list((own_cache / "models").iterdir())


@pytest.mark.parametrize(
    "damage", [lambda content: content[:200], lambda content: b"GGUX" + content[4:]]
)
def test_a_damaged_file_is_refused(
    file: Path, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    (tmp_path / "damaged.gguf").write_bytes(damage(file.read_bytes()))

    with pytest.raises(UserError, match="damaged, truncated or not a GGUF file"):
        find(ModelSection(gguf=tmp_path / "damaged.gguf"), CLIENT)


def test_a_file_whose_weights_are_cut_off_is_refused(file: Path, tmp_path: Path) -> None:
    content = file.read_bytes()
    (tmp_path / "cut.gguf").write_bytes(content[:-1000])

    with pytest.raises(UserError, match="damaged, truncated or not a GGUF file"):
        find(ModelSection(gguf=tmp_path / "cut.gguf"), CLIENT)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no file"):
        find(ModelSection(gguf=tmp_path / "nothing.gguf"), CLIENT)


def found(path: Path) -> Source:
    return find(ModelSection(gguf=path), CLIENT)


def refused(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        found(path)
    return str(caught.value)


def logits(folder: Path) -> torch.Tensor:
    """Return what a folder computes in float32, far beyond the first positions."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        found: torch.Tensor = model(torch.arange(500)[None] % 256).logits
    return found


# The whole model: each tensor has a place, and each place its tensor.


def without_a_norm(tensors: dict[str, numpy.ndarray]) -> None:
    del tensors["blk.0.ffn_norm.weight"]


def with_biases(tensors: dict[str, numpy.ndarray]) -> None:
    for name in ("attn_q", "attn_v"):
        tensors[f"blk.0.{name}.bias"] = numpy.ones(HIDDEN, numpy.float32)


def with_another_block(tensors: dict[str, numpy.ndarray]) -> None:
    tensors["blk.1.ffn_up.weight"] = tensors["blk.0.ffn_up.weight"]


def turned(tensors: dict[str, numpy.ndarray]) -> None:
    tensors["blk.0.ffn_up.weight"] = tensors["blk.0.ffn_up.weight"].T


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (without_a_norm, r"lacks blk\.0\.ffn_norm\.weight, which its model needs"),
        (with_biases, r"holds blk\.0\.attn_q\.bias, blk\.0\.attn_v\.bias, for which .* no place"),
        (with_another_block, r"holds blk\.1\.ffn_up\.weight, for which transformers has no place"),
        (turned, r"has blk\.0\.ffn_up\.weight of the shape \(64, 128\), but .* \(128, 64\)"),
    ],
)
def test_a_file_with_a_gap_or_something_more_is_refused_before_it_is_read(
    tmp_path: Path, edit: Edit, complaint: str
) -> None:
    path = write_gguf(tmp_path / "odd.gguf", edit=edit)

    with pytest.raises(UserError, match=complaint):
        found(path)


def test_the_parts_of_a_split_model_are_read_as_one(
    tmp_path: Path, file: Path, converted: Path
) -> None:
    first = write_gguf(tmp_path / "tiny.gguf", together=4)

    folder = fetch(found(first), CLIENT)

    whole, joined = (load_file(each / "model.safetensors") for each in (converted, folder))
    assert first.name == "tiny-00001-of-00003.gguf"
    assert all(torch.equal(whole[name], joined[name]) for name in whole.keys() | joined.keys())
    for name in ("config.json", "tokenizer.json", "README.md"):
        assert (folder / name).read_bytes() == (converted / name).read_bytes()


def test_any_part_names_the_whole_model(tmp_path: Path) -> None:
    first = write_gguf(tmp_path / "tiny.gguf", together=4, tied=False)

    third = found(first.with_name("tiny-00003-of-00003.gguf"))

    assert third.identity == found(first).identity
    assert third.config["tie_word_embeddings"] is False  # the head lies in another part


@pytest.mark.parametrize("number", [1, 2])
def test_a_part_that_is_missing_is_named(tmp_path: Path, number: int) -> None:
    first = write_gguf(tmp_path / "tiny.gguf", together=4)
    lost = first.with_name(f"tiny-0000{number}-of-00003.gguf")
    lost.unlink()

    said = refused(first.with_name("tiny-00003-of-00003.gguf"))

    assert f"{lost} is missing" in said


def test_a_part_of_another_model_is_refused(tmp_path: Path) -> None:
    first = write_gguf(tmp_path / "tiny.gguf", together=4)
    other = write_gguf(tmp_path / "other.gguf", together=3)
    shutil.copy(
        other.with_name("other-00002-of-00004.gguf"), first.with_name("tiny-00002-of-00003.gguf")
    )

    assert "says that it is part 1 (counted from 0) of 4 with 11 tensors" in refused(first)


def test_a_part_under_a_name_of_its_own_is_told_how_parts_are_called(tmp_path: Path) -> None:
    first = write_gguf(tmp_path / "tiny.gguf", together=4)
    renamed = first.rename(tmp_path / "model.gguf")

    assert "name them NAME-00001-of-00005.gguf" in refused(renamed)


def test_what_transformers_reads_otherwise_than_the_gguf_library_is_not_kept(
    file: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.modeling_gguf_pytorch_utils import LlamaTensorProcessor

    keep = lambda self, weights, *heads: weights  # noqa: E731 - rows as they lie in the file
    monkeypatch.setattr(LlamaTensorProcessor, "_reverse_permute_weights", keep)

    with pytest.raises(UserError, match=r"different numbers from .*self_attn\.[qk]_proj\.weight"):
        fetch(found(file), CLIENT)

    assert not list((own_cache / "models").iterdir())


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    def spoil(tensors: dict[str, numpy.ndarray]) -> None:
        tensors["blk.0.ffn_up.weight"][3, 5] = numpy.nan

    path = write_gguf(tmp_path / "nan.gguf", edit=spoil)

    with pytest.raises(UserError, match=r"NaN or inf in model\.layers\.0\.mlp\.up_proj"):
        fetch(found(path), CLIENT)


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3"])
def test_the_tokenizer_is_of_the_class_that_transformers_chooses(
    name: str, tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    path = gguf_of(tiny_model(name), tmp_path / "tiny.gguf")

    chosen = AutoTokenizer.from_pretrained(tmp_path, gguf_file=path.name)

    assert type(chosen).__name__ == TOKENIZERS[name]


def test_a_file_too_large_to_be_copied_gives_the_same_model(
    converted: Path, file: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hubq.sources.gguf.files.QUICKLY_COPIED", 0)

    folder = fetch(found(file), CLIENT)

    for path in converted.iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes()


def test_files_that_lie_beside_a_model_are_not_taken_for_its_own(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "ll"}')
    (tmp_path / "generation_config.json").write_text('{"temperature": 9.0, "do_sample": true}')

    folder = fetch(found(path), CLIENT)

    assert json.loads((folder / "tokenizer_config.json").read_text())["eos_token"] == "<|end|>"
    assert "temperature" not in (folder / "generation_config.json").read_text()


# What the metadata say is what runs.


@pytest.mark.parametrize("name", ["llama", "llama3.1", "llama3.2", "mistral", "qwen2", "qwen3"])
def test_a_model_computes_the_same_after_it_was_a_gguf(
    name: str, tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    path = gguf_of(tiny_model(name), tmp_path / "tiny.gguf")

    folder = fetch(found(path), CLIENT)

    assert torch.allclose(logits(folder), logits(tiny_model(name)), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "rope"),
    [
        ("llama", {"rope_type": "linear", "factor": 4.0}),
        ("qwen2", {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}),
    ],
)
def test_positions_scaled_by_the_metadata_are_those_of_the_original(
    name: str, rope: dict[str, object], tmp_path: Path
) -> None:
    save_tiny_model(name, tmp_path / "old", rope_parameters={"rope_theta": 10000.0, **rope})
    said = {
        f"{name}.rope.scaling.type": rope["rope_type"],
        f"{name}.rope.scaling.factor": rope["factor"],
        f"{name}.rope.scaling.original_context_length": rope.get(
            "original_max_position_embeddings"
        ),
    }
    path = gguf_of(tmp_path / "old", tmp_path / "tiny.gguf", said=said)

    folder = fetch(found(path), CLIENT)

    assert torch.allclose(logits(folder), logits(tmp_path / "old"), rtol=0, atol=1e-6)


@pytest.mark.parametrize("original", [8192, 32768])
@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_the_numbers_of_llama_3_are_found_from_its_factors(
    original: int, factor: float, tmp_path: Path
) -> None:
    rope = {**TINY["llama3.1"][1]["rope_parameters"], "factor": factor}
    rope["original_max_position_embeddings"] = original
    save_tiny_model("llama", tmp_path / "old", rope_parameters=rope, head_dim=128)

    path = gguf_of(tmp_path / "old", tmp_path / "tiny.gguf")

    assert found(path).config["rope_parameters"] == rope


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda tensors: _factors(tensors, [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]), {}),
        (lambda tensors: _factors(tensors, [1.0, numpy.nan, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]), {}),
        (lambda tensors: _factors(tensors, [0.0] * 8), {}),
        (lambda tensors: _factors(tensors, [1.0] * 5), {}),
        (lambda tensors: None, {"type": "longrope", "factor": 4.0}),
        (lambda tensors: None, {"type": "yarn", "factor": 4.0}),
        (
            lambda tensors: None,
            {"type": "yarn", "factor": 4.0, "original_context_length": 128, "attn_factor": 2.0},
        ),
        (lambda tensors: None, {"type": "linear", "factor": -1.0}),
        (lambda tensors: None, {"type": "linear", "factor": "much"}),
    ],
)
def test_positions_that_transformers_cannot_say_are_refused(
    edit: Edit, said: dict[str, object], tmp_path: Path
) -> None:
    keys = {f"llama.rope.scaling.{key}": value for key, value in said.items()}
    path = write_gguf(tmp_path / "scaled.gguf", edit=edit, said=keys)

    assert "hubq knows no equivalent in transformers" in refused(path)


def _factors(tensors: dict[str, numpy.ndarray], values: list[float]) -> None:
    tensors["rope_freqs.weight"] = numpy.array(values, numpy.float32)


TOKENS = "tokenizer.ggml.tokens"


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"block_count": 1_000_000_000}, "block_count: 1000000000, which is not a size"),
        ({"block_count": 1_000_000}, "block_count: 1,000,000 and has 11 tensors"),
        ({"block_count": None}, "block_count: nothing, which is not a size"),
        ({"embedding_length": "wide"}, "embedding_length: 'wide', which is not a size"),
        ({"attention.head_count": 0}, "head_count: 0, which is not a size"),
        ({"attention.head_count": [4, 4]}, r"head_count: \[4, 4\], which is not a size"),
        ({"attention.head_count_kv": 3}, "don't fit together"),
        ({"attention.value_length": 8}, "value_length: 8 for heads of 16"),
        ({"rope.dimension_count": 8, "attention.key_length": 16}, "dimension_count: 8 for heads"),
        ({"attention.layer_norm_rms_epsilon": -1.0}, "epsilon: -1.0, which is not a number > 0"),
        ({"rope.freq_base": float("nan")}, "freq_base: nan, which is not a number > 0"),
        ({"vocab_size": 300}, r"token_embd.weight of the shape \(259, 64\)"),
        (
            {"logit_scale": 4.0},
            "logit_scale: 4.0, which transformers' LlamaConfig can't hold",
        ),
        ({"expert_count": 8}, "expert_count: 8, which transformers' LlamaConfig can't hold"),
    ],
)
def test_metadata_that_make_no_model_are_refused(
    said: dict[str, object], complaint: str, tmp_path: Path
) -> None:
    keys = {f"llama.{key}": value for key, value in said.items()}
    path = write_gguf(tmp_path / "odd.gguf", said=keys)

    with pytest.raises(UserError, match=complaint):
        found(path)


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"model": "bert"}, "says tokenizer.ggml.model: 'bert'; hubq reads gpt2 and llama"),
        ({"model": None}, "tokenizer.ggml.model: nothing"),
        ({"tokens": None}, "no list of strings as tokenizer.ggml.tokens"),
        ({"tokens": ["a"] * VOCABULARY}, "258 tokens twice"),
        ({"token_type": [1, 1]}, "2 values of tokenizer.ggml.token_type for 259 tokens"),
        ({"merges": None}, "no tokenizer.ggml.merges"),
        ({"merges": ["l q"]}, "the merge 'l q', which does not join two tokens"),
        ({"merges": ["ll"]}, "the merge 'll', which does not join two tokens"),
        ({"bos_token_id": 259}, "bos_token_id: 259, beyond its tokens"),
        ({"eos_token_id": "last"}, "eos_token_id: 'last', beyond its tokens"),
    ],
)
def test_a_tokenizer_that_cannot_be_rebuilt_is_refused_before_the_weights_are_read(
    said: dict[str, object], complaint: str, tmp_path: Path
) -> None:
    keys = {f"tokenizer.ggml.{key}": value for key, value in said.items()}
    path = write_gguf(tmp_path / "odd.gguf", said=keys)

    with pytest.raises(UserError, match=complaint):
        found(path)


def test_an_architecture_that_hubq_cannot_prove_is_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "odd.gguf", said={"general.architecture": "gemma2"})

    assert "architecture gemma2; hubq reads GGUF files of llama, qwen2, qwen3" in refused(path)


EXACT = ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]


@pytest.mark.parametrize("kind", EXACT)
def test_every_plain_type_reads_as_the_gguf_library_reads_it(
    kind: str, tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    path = gguf_of(tiny_model("llama"), tmp_path / "t.gguf", kind=GGMLQuantizationType[kind])

    folder = fetch(found(path), CLIENT)  # compares them itself

    assert len(index(folder)) == len(GGUFReader(path).tensors)


# Damaged heads.


def at(place: int, code: str, value: int) -> Callable[[bytes], bytes]:
    """Write a number into a file."""
    raw = struct.pack(f"<{code}", value)
    return lambda content: content[:place] + raw + content[place + len(raw) :]


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (at(8, "Q", 1 << 62), "claims 4,611,686,018,427,387,904 tensors"),
        (at(8, "Q", 12), "damaged, truncated"),
        (at(16, "Q", 1 << 40), "and 1,099,511,627,776 keys"),
        (at(24, "Q", 1 << 40), "claims 1,099,511,627,776 bytes"),
        (at(4, "I", 1), "is GGUF version 1,"),
        (at(4, "I", 3 << 24), "big-endian file"),
        (lambda content: b"", "damaged, truncated"),
    ],
)
def test_counts_that_lie_are_refused_before_anything_is_built_from_them(
    file: Path, tmp_path: Path, damage: Callable[[bytes], bytes], complaint: str
) -> None:
    (tmp_path / "damaged.gguf").write_bytes(damage(file.read_bytes()))

    assert complaint in refused(tmp_path / "damaged.gguf")


def test_tensors_that_overlap_are_refused(file: Path, tmp_path: Path) -> None:
    content = file.read_bytes()
    name = b"blk.0.ffn_up.weight"
    place = content.index(name) + len(name) + 4 + 2 * 8 + 4
    (tmp_path / "shifted.gguf").write_bytes(at(place, "Q", 0)(content))

    assert "blk.0.ffn_up.weight begins at 0, not at" in refused(tmp_path / "shifted.gguf")


def test_random_damage_to_a_head_is_an_error_or_does_no_harm(file: Path, tmp_path: Path) -> None:
    """Two seconds: 300 files are looked at."""
    content, chance, path = file.read_bytes(), random.Random(11), tmp_path / "damaged.gguf"
    head = content.index(b"blk.0.ffn_up.weight") + 400
    outcomes: set[type] = set()
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(chance.randint(1, 3)):
            place = chance.randrange(head)
            raw = chance.choice([b"\0", b"\xff", b"\xff" * 8, bytes([chance.randrange(256)])])
            damaged[place : place + len(raw)] = raw
        path.write_bytes(
            bytes(damaged[: chance.choice([None, None, None, chance.randrange(head)])])
        )
        try:
            outcomes.add(type(found(path)))
        except UserError as error:
            outcomes.add(type(error))

    assert outcomes == {Source, UserError}
