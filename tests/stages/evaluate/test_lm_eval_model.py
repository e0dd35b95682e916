"""Our language model beside lm-eval's own `hf` model: the same answers."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import hubq_folder
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from quantized_folder import Choice, write
from tiny_models import save_tiny_model, tiny_tokenizer
from tokenizers.processors import TemplateProcessing

from hubq.errors import UserError
from hubq.formats import format_named
from hubq.machine.progress import SILENT, Advance
from hubq.sources.tokenizer import tokenizer_of
from hubq.stages.evaluate import lm_eval_model as module
from hubq.stages.evaluate.inference.loading import load
from hubq.stages.evaluate.lm_eval_model import LanguageModel, language_model
from hubq.tensors import Grid

Answer = tuple[float, bool]

CASES = {
    "choices after one question": [("Where do llamas live?", f" {c}") for c in ("in Peru", "in")],
    "no context": [("", "llama"), ("", "alpaca")],
    "a prefix as all the context": [("", "<|begin|>llama"), ("<|begin|>", "llama")],
    "one token": [("The sky is ", letter) for letter in "ABCD"],
    "spaces at the end of the context": [("a llama  ", "b"), ("a llama", "  b")],
    "the same twice": [("one", " two"), ("one", " two")],
    "one continues the other": [("one", " two"), ("one two", " three"), ("one", " two three")],
    "choices of very different length": [("Say it:", " " + "long " * n) for n in (1, 9, 40)],
    "longer than the model takes": [("word " * 200, " end"), ("w" * 700, "x" * 500)],
    "unicode": [("Ich heiße", " Ünal"), ("\N{LLAMA}", "\N{LLAMA}"), ("日本", "語です")],
    "no space between": [("un", "believable"), ("un", "der")],
    "lines": [("a\nb\n", "c\n"), ("a\n\n", "\n")],
}
EVERYTHING = [pair for pairs in CASES.values() for pair in pairs]


def requests(pairs: Sequence[tuple[Any, ...]], kind: Any = "loglikelihood") -> list[Instance]:
    return [Instance(kind, {}, pair, number) for number, pair in enumerate(pairs)]


def ours(folder: Path, dtype: str = "float32", progress: Any = SILENT) -> LanguageModel:
    model = load(folder, device="cpu", dtype=dtype).model
    return language_model(model, folder, progress, "a task")


def theirs(folder: Path, batch_size: int = 4, dtype: str = "float32") -> HFLM:
    model = load(folder, device="cpu", dtype=dtype).model
    # Its cache of logits is wrong where one continuation ends with another, shorter one.
    return HFLM(
        pretrained=model,
        tokenizer=tokenizer_of(folder),
        batch_size=batch_size,
        logits_cache=False,
        softmax_dtype="float32",
    )


def assert_close(found: Sequence[Answer], expected: Sequence[Answer]) -> None:
    values = [value for value, _ in expected]
    assert [value for value, _ in found] == pytest.approx(values, rel=1e-6, abs=1e-4)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]


def question(number: int) -> str:
    return "".join(random.Random(number).choices("abcdefgh ", k=20)) + "?"


@pytest.fixture
def folder(tiny_model: Callable[[str], Path]) -> Path:
    return tiny_model("llama3.2")


@pytest.mark.parametrize("case", CASES)
def test_likelihoods_are_those_of_lm_eval(case: str, folder: Path) -> None:
    asked = requests(CASES[case])

    found = ours(folder).loglikelihood(asked)

    assert_close(found, theirs(folder).loglikelihood(asked, disable_tqdm=True))


def test_a_context_of_white_space_alone_is_part_of_the_answer(folder: Path) -> None:
    found = ours(folder).loglikelihood(requests([(" \n", "a"), ("", " \na")]))

    assert_close(found[:1], found[1:])


@pytest.mark.parametrize(
    "family", ["llama", "llama3.1", "mistral", "qwen2", "qwen3", "granite", "cohere", "gemma2"]
)
def test_likelihoods_of_every_family_are_those_of_lm_eval(
    family: str, tiny_model: Callable[[str], Path]
) -> None:
    asked = requests(EVERYTHING)

    found = ours(tiny_model(family)).loglikelihood(asked)

    assert_close(found, theirs(tiny_model(family)).loglikelihood(asked, disable_tqdm=True))


def test_a_model_that_sees_through_a_window_is_asked_without_a_mask(tmp_path: Path) -> None:
    save_tiny_model("mistral", tmp_path, sliding_window=16)
    asked = requests(EVERYTHING)

    found = ours(tmp_path).loglikelihood(asked)

    assert_close(found, theirs(tmp_path).loglikelihood(asked, disable_tqdm=True))


def test_attention_that_takes_no_mask_is_given_none(folder: Path) -> None:
    asked = requests(EVERYTHING)
    model = ours(folder)
    expected = theirs(folder).loglikelihood(asked, disable_tqdm=True)
    transformer = model.model
    transformer.config._attn_implementation = "sdpa_without_masks"
    transformers_attention()["sdpa_without_masks"] = causal_attention

    found = model.loglikelihood(asked)

    assert_close(found, expected)


def transformers_attention() -> Any:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    return ALL_ATTENTION_FUNCTIONS


def causal_attention(
    module: Any, query: Any, key: Any, value: Any, mask: Any, **options: Any
) -> Any:
    assert mask is None
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    return sdpa_attention_forward(module, query, key, value, None, **options)


# Hundreds of questions, by lm-eval's model too: some seconds.
@pytest.mark.parametrize("dialogues", [False, True])
def test_examples_that_many_questions_share_change_no_answer(dialogues: bool, folder: Path) -> None:
    examples = "".join(f"{question(each)} {question(-each)}\n" for each in range(7))
    begins = [examples[: 98 * (1 + number % 3)] if dialogues else examples for number in range(90)]
    asked = requests(
        [
            (begin + question(1000 + number), f" {choice}")
            for number, begin in enumerate(begins)
            for choice in ("yes", "no", "both of them")
        ]
    )

    found = ours(folder).loglikelihood(asked)

    assert_close(found, theirs(folder, 16).loglikelihood(asked, disable_tqdm=True))


def test_a_tokenizer_that_begins_each_text_with_a_token_does_so_here(
    folder: Path, tmp_path: Path
) -> None:
    save_tiny_model("llama", tmp_path)
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", tokenizer.bos_token_id)]
    )
    tokenizer.save_pretrained(tmp_path)
    asked = requests(EVERYTHING)

    found = ours(tmp_path).loglikelihood(asked)

    assert_close(found, theirs(tmp_path).loglikelihood(asked, disable_tqdm=True))


def packed_whole(base: Path, folder: Path) -> None:
    hubq_folder.write(base, folder, hubq_folder.round_all)


def compressed(base: Path, folder: Path, activation_bits: int | None = None) -> None:
    grid = Grid(bits=8, symmetric=True)
    form = format_named("compressed-tensors")
    write(base, folder, Choice(form, grid, activation_bits=activation_bits))


@pytest.mark.parametrize(
    "quantize", [packed_whole, compressed, partial(compressed, activation_bits=8)]
)
def test_quantized_models_are_asked_as_others(
    quantize: Callable[[Path, Path], None], tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    quantize(tiny_model("llama"), tmp_path / "model")
    asked = requests(EVERYTHING)

    found = ours(tmp_path / "model", "bfloat16").loglikelihood(asked)

    expected = theirs(tmp_path / "model", dtype="bfloat16").loglikelihood(asked, True)
    assert [v for v, _ in found] == pytest.approx([v for v, _ in expected], rel=2e-3)


def test_answers_come_in_the_order_of_the_requests(folder: Path) -> None:
    shuffled = list(range(len(EVERYTHING)))
    random.Random(0).shuffle(shuffled)
    model = ours(folder)
    expected = model.loglikelihood(requests(EVERYTHING))

    found = model.loglikelihood(requests([EVERYTHING[each] for each in shuffled]))

    assert_close(found, [expected[each] for each in shuffled])


def test_requests_in_several_slabs_have_the_same_answers(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ours(folder)
    expected = model.loglikelihood(requests(EVERYTHING))
    monkeypatch.setattr(module, "CHARACTERS_AT_ONCE", 60)

    found = model.loglikelihood(requests(EVERYTHING))

    assert_close(found, expected)


def test_bfloat16_is_near_float32(folder: Path) -> None:
    asked = requests(EVERYTHING)

    found = ours(folder, "bfloat16").loglikelihood(asked)

    expected = ours(folder).loglikelihood(asked)
    assert [v for v, _ in found] == pytest.approx([v for v, _ in expected], rel=5e-3)


def test_whole_texts_are_as_likely_as_lm_eval_says(folder: Path) -> None:
    texts = ["A llama.", "", "word " * 250, "ä", "A llama."]
    asked = requests([(text,) for text in texts], "loglikelihood_rolling")

    found = ours(folder).loglikelihood_rolling(asked)

    expected = theirs(folder).loglikelihood_rolling(asked, disable_tqdm=True)
    assert found == pytest.approx(expected, rel=1e-5)


ENDINGS: list[dict[str, Any]] = [
    {"until": ["\n"], "max_gen_toks": 12},
    {"until": [], "max_gen_toks": 12},
    {"until": ["e", "a"], "max_gen_toks": 30, "do_sample": False, "temperature": 0.0},
    {"until": "the", "max_new_tokens": 7},
    {"max_gen_toks": 9, "do_sample": False},
]


@pytest.mark.parametrize("shared", ["", "The same examples come first. " * 9])
def test_texts_are_those_of_lm_eval(shared: str, folder: Path) -> None:
    contexts = [shared + question(number) * (1 + number % 4) for number in range(10)]
    asked = requests(
        [(context, ending) for context in contexts for ending in ENDINGS], "generate_until"
    )

    found = ours(folder).generate_until(asked)

    assert found == theirs(folder).generate_until(asked, disable_tqdm=True)


def test_a_context_that_leaves_no_room_for_the_text_loses_its_beginning(folder: Path) -> None:
    asked = requests([("long " * 200, {"max_gen_toks": 20})], "generate_until")

    found = ours(folder).generate_until(asked)

    assert found == theirs(folder).generate_until(asked, disable_tqdm=True)


def test_sampled_texts_are_the_same_after_the_same_seed(folder: Path) -> None:
    arguments = {"do_sample": True, "temperature": 0.9, "top_k": 50, "max_gen_toks": 20}
    asked = requests([(question(each), arguments) for each in range(3)], "generate_until")
    model = ours(folder)
    texts = []

    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        texts.append(model.generate_until(asked))

    assert texts[0] == texts[1] != texts[2]


def test_a_text_longer_than_the_model_takes_is_refused(folder: Path) -> None:
    asked = requests([("a", {"max_gen_toks": 512})], "generate_until")

    with pytest.raises(UserError, match=r"asks for texts of 512 tokens, but .* takes only 512"):
        ours(folder).generate_until(asked)


@pytest.mark.parametrize("answer", ["", "x" * 513])
def test_an_answer_that_cannot_be_scored_is_refused(answer: str, folder: Path) -> None:
    with pytest.raises(UserError, match=f"a task has an answer of {len(answer)} tokens"):
        ours(folder).loglikelihood(requests([("a", answer)]))


@pytest.fixture
def damaged(tiny_model: Callable[[str], Path]) -> LanguageModel:
    """Return a model whose embedding of the letter z is no number."""
    model = ours(tiny_model("llama"))
    (token,) = model.tok_encode("z")
    with torch.no_grad():
        model.model.get_input_embeddings().weight[token, 3] = float("nan")
    return model


def test_numbers_that_are_none_are_refused_with_the_layer(damaged: LanguageModel) -> None:
    with pytest.raises(UserError, match=r"the first is in the output of model\.embed_tokens"):
        damaged.loglikelihood(requests([("fine", " too"), ("a z here", " no"), ("fine", " again")]))


def test_numbers_that_are_none_are_refused_where_texts_are_written(damaged: LanguageModel) -> None:
    asked = requests([("fine", {}), ("a z here", {})], "generate_until")

    with pytest.raises(UserError, match=r"the first is in the output of model\.embed_tokens"):
        damaged.generate_until(asked)


class Recorder:
    """A Progress that remembers its steps."""

    def __init__(self) -> None:
        self.total = self.steps = 0

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        self.total += total

        def advance(steps: int) -> None:
            self.steps += steps

        yield advance


@pytest.mark.parametrize("kind", ["loglikelihood", "loglikelihood_rolling", "generate_until"])
def test_progress_reaches_the_end(kind: str, folder: Path) -> None:
    arguments = {"loglikelihood": (" b",), "generate_until": ({"max_gen_toks": 4},)}
    pairs = [(question(each), *arguments.get(kind, ())) for each in range(5)]
    progress = Recorder()

    getattr(ours(folder, progress=progress), kind)(requests(pairs, kind))

    assert progress.steps == progress.total == 5


@pytest.mark.parametrize("prompted", [True, False])
def test_conversations_are_written_as_lm_eval_does(prompted: bool, folder: Path) -> None:
    messages = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Yes?"}]

    found = ours(folder).apply_chat_template(messages, add_generation_prompt=prompted)

    assert found == theirs(folder).apply_chat_template(messages, prompted)


def test_a_template_without_a_system_role_gets_none(folder: Path) -> None:
    model = ours(folder)
    model.tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}"
        "{% endif %}{{ m.content }}{% endfor %}"
    )
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]

    assert model.apply_chat_template(messages) == "Hello"


def test_a_tokenizer_without_a_chat_template_is_refused(folder: Path) -> None:
    model = ours(folder)
    model.tokenizer.chat_template = None

    with pytest.raises(UserError, match="has no chat template"):
        model.apply_chat_template([{"role": "user", "content": "Hello"}])


def test_a_request_cache_knows_the_tokenizer(folder: Path) -> None:
    assert ours(folder).tokenizer_name == theirs(folder).tokenizer_name
