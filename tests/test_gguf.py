"""GGUF files: looked up by their metadata, converted once, refused where they would be bent."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
from gguf import GGUFWriter

from hubq.client import Client
from hubq.errors import UserError
from hubq.gguf import SAMPLE
from hubq.recipe_inputs import ModelSection
from hubq.shards import Weights, index
from hubq.source import fetch, find

CLIENT = Client()
HIDDEN, WIDE, VOCABULARY, HEADS = 64, 128, 259, 4
SHAPES = {
    "attn_q": (HIDDEN, HIDDEN),
    "attn_k": (HIDDEN // 2, HIDDEN),
    "attn_v": (HIDDEN // 2, HIDDEN),
    "attn_output": (HIDDEN, HIDDEN),
    "ffn_gate": (WIDE, HIDDEN),
    "ffn_up": (WIDE, HIDDEN),
    "ffn_down": (HIDDEN, WIDE),
}


def write_gguf(path: Path, *, tied: bool = True, scaled: bool = False) -> None:
    """Write a random Llama of one block with a token for each byte and one for ll."""
    writer = GGUFWriter(path, "llama")
    writer.add_license("apache-2.0")
    writer.add_languages(["en", "nn"])
    writer.add_block_count(1)
    writer.add_context_length(512)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(WIDE)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS // 2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(VOCABULARY)
    add_tokenizer(writer)
    add_tensors(writer, tied=tied, scaled=scaled)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_tokenizer(writer: GGUFWriter) -> None:
    from tokenizers import pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([*alphabet, "ll", "<|begin|>", "<|end|>"])
    writer.add_token_types([1] * (len(alphabet) + 1) + [3, 3])
    writer.add_token_merges(["l l"])
    writer.add_bos_token_id(257)
    writer.add_eos_token_id(258)
    writer.add_add_bos_token(False)
    writer.add_chat_template("{% for message in messages %}{{ message.content }}{% endfor %}")


def add_tensors(writer: GGUFWriter, *, tied: bool, scaled: bool) -> None:
    random = numpy.random.default_rng(0)

    def add(name: str, *shape: int) -> None:
        writer.add_tensor(name, random.normal(0, 0.02, shape).astype(numpy.float32))

    add("token_embd.weight", VOCABULARY, HIDDEN)
    add("output_norm.weight", HIDDEN)
    for norm in ("attn_norm", "ffn_norm"):
        add(f"blk.0.{norm}.weight", HIDDEN)
    for name, shape in SHAPES.items():
        add(f"blk.0.{name}.weight", *shape)
    if not tied:
        add("output.weight", VOCABULARY, HIDDEN)
    if scaled:
        add("rope_freqs.weight", HIDDEN // HEADS // 2)


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


def test_the_shapes_foretold_are_those_of_the_converted_folder(file: Path, converted: Path) -> None:
    from hubq.gguf import look_up

    foretold = look_up(ModelSection(gguf=file), file, "sha256:0").tensors

    found = index(converted)
    assert {name: each.shape for name, each in foretold.items()} == {
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


def test_one_recipes_licence_is_not_that_of_another_on_the_same_file(file: Path) -> None:
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
    from gguf import GGUFReader

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


def test_scaled_positions_are_refused_since_they_would_be_lost(tmp_path: Path) -> None:
    write_gguf(tmp_path / "scaled.gguf", scaled=True)

    with pytest.raises(UserError, match="scales its rotary positions"):
        find(ModelSection(gguf=tmp_path / "scaled.gguf"), CLIENT)


@pytest.mark.parametrize(
    "damage", [lambda content: content[:200], lambda content: b"GGUX" + content[4:]]
)
def test_a_damaged_file_is_refused(
    file: Path, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    (tmp_path / "damaged.gguf").write_bytes(damage(file.read_bytes()))

    with pytest.raises(UserError, match="truncated or no GGUF file"):
        find(ModelSection(gguf=tmp_path / "damaged.gguf"), CLIENT)


def test_a_file_whose_weights_are_cut_off_is_refused(file: Path, tmp_path: Path) -> None:
    content = file.read_bytes()
    (tmp_path / "cut.gguf").write_bytes(content[:-1000])

    with pytest.raises(UserError, match="truncated or no GGUF file"):
        find(ModelSection(gguf=tmp_path / "cut.gguf"), CLIENT)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no file"):
        find(ModelSection(gguf=tmp_path / "nothing.gguf"), CLIENT)
