"""Windows of calibration tokens, and tokenization in chunks."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save as save_tensors
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.machine.files import cache_folder
from hubq.records.recipe_calibration import CalibrationDataset, CalibrationSection
from hubq.sources import calibration_tokens
from hubq.sources.calibration_tokens import leading_ids, token_ids, tokens, windows

BEGIN = 0  # the first special token's id
WORDS = (
    "The llama went home.\n\nIt's 1,234 steps — naïve café 🦙🦙   and  more\ttabs; don't "
    "worry, said  the llama: we'll be there by Tuesday, or by the 17th at the latest!\n"
)


def section(**changes: int) -> CalibrationSection:
    dataset = CalibrationDataset(file=Path("any.txt"))
    return CalibrationSection(dataset=dataset, **{"samples": 3, "length": 4, **changes})


def save(tokenizer: Tokenizer, folder: Path) -> Path:
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>").save_pretrained(folder)
    return folder


def trained(tokenizer: Tokenizer) -> Tokenizer:
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<s>"], show_progress=False)
    tokenizer.train_from_iterator([WORDS], trainer)
    return tokenizer


def byte_level(folder: Path) -> Path:
    """A tokenizer like Llama 3's: words by a pattern, then bytes; a begin token in front."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trained(tokenizer).post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", BEGIN)]
    )
    return save(tokenizer, folder)


def without_words(folder: Path) -> Path:
    """A tokenizer like Llama 2's: spaces are a letter, and tokens may span them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    return save(trained(tokenizer), folder)


def test_windows_start_evenly_over_the_whole_text(tiny_model: Callable[[str], Path]) -> None:
    folder = tiny_model("llama")
    text = "".join(chr(ord("a") + index) for index in range(26))

    found = windows(text, folder, section(samples=3, length=4))

    stream = torch.tensor(token_ids(text, folder))
    assert found.tolist() == [stream[start : start + 4].tolist() for start in (0, 8, 16)]


def test_windows_are_int64_samples_by_length(tiny_model: Callable[[str], Path]) -> None:
    found = windows("llama " * 20, tiny_model("llama"), section(samples=5, length=6))

    assert found.shape == (5, 6)
    assert found.dtype == torch.int64


def test_a_seed_moves_all_windows_by_whole_windows_within_their_stretch(
    tiny_model: Callable[[str], Path],
) -> None:
    folder = tiny_model("llama")
    text = "".join(f"{number:04d}" for number in range(100))
    every = torch.tensor(token_ids(text, folder)).view(100, 4).tolist()

    found = [windows(text, folder, section(samples=2, seed=seed)).tolist() for seed in range(4)]

    firsts = [every.index(first) for first, _ in found]
    assert [every.index(second) for _, second in found] == [first + 50 for first in firsts]
    assert firsts[0] == 0
    assert len(set(firsts)) > 1
    assert max(firsts) < 50


def test_the_same_seed_gives_the_same_windows(tiny_model: Callable[[str], Path]) -> None:
    folder = tiny_model("llama")
    wanted = section(seed=7)

    first, second = (windows("abcdefgh" * 30, folder, wanted) for _ in range(2))

    assert torch.equal(first, second)


def test_too_little_text_says_how_many_samples_there_is_enough_for(
    tiny_model: Callable[[str], Path],
) -> None:
    with pytest.raises(UserError, match=r"has 9 tokens.*3 windows of 4 need 12; use samples: 2"):
        windows("nine char", tiny_model("llama"), section(samples=3, length=4))


def test_text_shorter_than_a_window_names_a_length(tiny_model: Callable[[str], Path]) -> None:
    with pytest.raises(UserError, match="use length: 3 or less"):
        windows("nine char", tiny_model("llama"), section(samples=3, length=10))


def test_text_of_fewer_tokens_than_windows_names_no_setting(
    tiny_model: Callable[[str], Path],
) -> None:
    with pytest.raises(UserError, match=r"3 windows of 10 need 30; use a longer text$"):
        windows("ab", tiny_model("llama"), section(samples=3, length=10))


def mixed(folder: Path, samples: int, *weights: float) -> CalibrationSection:
    """Return a section of texts that are one letter each: a, b, ..."""
    datasets: list[dict[str, object]] = []
    for number, weight in enumerate(weights):
        path = folder / f"{number}.txt"
        path.write_text(chr(ord("a") + number) * 40)
        datasets.append({"file": path, "weight": weight})
    return CalibrationSection.model_validate(
        {"datasets": datasets, "samples": samples, "length": 4}
    )


@pytest.mark.parametrize(
    ("samples", "weights", "turns"),
    [
        (6, (1, 1), "ababab"),
        (6, (2, 1), "abaaba"),
        (5, (1, 1), "ababa"),
        (7, (1, 1, 5), "ccabccc"),
        (4, (0.5, 1.5), "babb"),
        (3, (4,), "aaa"),
    ],
)
def test_several_texts_take_turns_by_their_weights(
    samples: int,
    weights: tuple[float, ...],
    turns: str,
    tiny_model: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    folder = tiny_model("llama")
    letters = {token_ids(letter, folder)[0]: letter for letter in "abc"}

    found = tokens(mixed(tmp_path, samples, *weights), folder, Client())

    assert "".join(letters[int(row[0])] for row in found.ids) == turns
    assert found.ids.shape == (samples, 4)


def test_windows_are_cut_once_for_one_text_and_tokenizer(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    wanted, folder = mixed(tmp_path, 6, 1), tiny_model("llama")
    first = tokens(wanted, folder, Client())
    (kept,) = cache_folder("windows").iterdir()
    kept.write_bytes(save_tensors({"ids": first.ids + 1}))

    again = tokens(wanted, folder, Client())
    other = tokens(wanted.model_copy(update={"seed": 3}), folder, Client())

    assert torch.equal(again.ids, first.ids + 1)
    assert not torch.equal(other.ids, again.ids)
    assert len(list(cache_folder("windows").iterdir())) == 2


def test_a_text_that_is_too_short_for_its_share_is_named(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    wanted = mixed(tmp_path, 16, 1, 3)

    with pytest.raises(UserError, match=r"1\.txt has 40 tokens.* enough for 10: give it less we"):
        tokens(wanted, tiny_model("llama"), Client())


def test_a_folder_without_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no tokenizer that transformers can read"):
        token_ids("text", tmp_path)


@pytest.mark.parametrize("make", [byte_level, without_words])
def test_chunks_give_the_ids_of_one_call(
    make: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(tmp_path)
    text = WORDS * 40
    whole = token_ids(text, folder)
    monkeypatch.setattr(calibration_tokens, "CHUNK", 701)
    monkeypatch.setattr(calibration_tokens, "OVERLAP", 200)

    in_chunks = token_ids(text, folder)

    assert in_chunks == whole


def test_chunks_that_never_agree_are_tokenized_in_one_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = byte_level(tmp_path)
    whole = token_ids(WORDS * 10, folder)
    monkeypatch.setattr(calibration_tokens, "CHUNK", 300)
    monkeypatch.setattr(calibration_tokens, "OVERLAP", 3)

    in_chunks = token_ids(WORDS * 10, folder)

    assert in_chunks == whole


@pytest.mark.parametrize("tokenizer", [byte_level, without_words])
@pytest.mark.parametrize("count", [1, 500, 5_000, 10**6])
def test_leading_tokens_are_those_that_the_whole_text_begins_with(
    count: int, tokenizer: Callable[[Path], Path], tmp_path: Path
) -> None:
    folder, text = tokenizer(tmp_path), WORDS * 300

    found = leading_ids(text, folder, count)

    assert found == token_ids(text, folder)[:count]
    assert len(found) == min(count, len(token_ids(text, folder)))


def test_special_tokens_stand_only_at_the_ends_of_the_stream(tmp_path: Path) -> None:
    folder = byte_level(tmp_path)

    ids = token_ids("one\n\ntwo", folder)

    assert [index for index, token in enumerate(ids) if token == BEGIN] == [0]


def test_a_truncation_that_leaked_into_a_tokenizer_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = byte_level(tmp_path)
    whole = token_ids(WORDS * 10, folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(50)
    tokenizer.save(str(folder / "tokenizer.json"))
    monkeypatch.setattr(calibration_tokens, "CHUNK", 701)
    monkeypatch.setattr(calibration_tokens, "OVERLAP", 200)

    in_chunks = token_ids(WORDS * 10, folder)

    assert in_chunks == whole
