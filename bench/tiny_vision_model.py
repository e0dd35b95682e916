"""A small model that sees, for a first try: python bench/tiny_vision_model.py FOLDER [--steps N]

A LLaVA-NeXT of 3.2 million parameters (CLIP's vision tower, a LLaMA that reads), trained from a
seed on pictures that hubq draws, so that a quantized copy has something to lose where no real model
is at hand. It is asked as the tasks hubq_charts, hubq_documents, hubq_diagrams, hubq_choices and
hubq_yes_no ask, and says how often it is right on pictures that it hasn't seen. The folder is what
transformers loads, with the names of llava-hf's repos.
"""

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from hubq.machine.device import compute_dtype
from hubq.machine.progress import quiet
from hubq.sources.pictures.drawn import DRAWN
from hubq.stages.evaluate.picture_tasks import benchmark_named

if TYPE_CHECKING:
    from PIL.Image import Image
    from tokenizers import Tokenizer
    from transformers import LlavaNextForConditionalGeneration as Model
    from transformers import LlavaNextProcessor as Processor

DESCRIBE = "Describe the picture."
HELD_OUT = 0  # the seed of the tasks' pictures, where a recipe names no other
TRAINING = 1_000_000  # added to the seed of training pictures
TESTED = 300  # pictures of a kind
BATCH = 80  # as many of each kind
RATE = 2e-3
WARM_UP = 50  # steps
SIZE, PATCH = 56, 14  # pixels
SEEN = 16 + 16 + 4  # positions: the whole picture, its one tile, the ends of the tile's rows
VOCABULARY = 448
TEXT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "initializer_range": 0.06,  # the usual 0.02 is for ten times the width, and learns nothing here
    "tie_word_embeddings": False,
}
VISION: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 3,  # what the last but one makes is what is seen
    "num_attention_heads": 2,
    "projection_dim": 64,
    "image_size": SIZE,
    "patch_size": PATCH,
}
CALIBRATION = "calibration.jsonl"  # conversations, beside the model
SPECIALS = ("<|begin|>", "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>", "<image>")
CHAT_TEMPLATE = (
    "<|begin|>{% for message in messages %}<|{{ message.role }}|>"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content if part.type == 'image' %}<image>\n{% endfor %}"
    "{% for part in message.content if part.type == 'text' %}{{ part.text }}{% endfor %}{% endif %}"
    "<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


class Question(NamedTuple):
    """A picture, the prompt about it, and the answer to be learned."""

    picture: Tensor  # (3, 56, 56), uint8
    prompt: str
    answer: str


class Batch(NamedTuple):
    """Questions with their answers, as the model reads them."""

    ids: Tensor  # (batch, length)
    answers: Tensor  # the same, -100 where nothing is answered
    pixels: Tensor  # (batch, 2, 3, 56, 56): the whole picture and its one tile are the same


def main() -> None:
    given = arguments()
    processor = made_processor()
    model = made_model(processor, given.seed)
    for step, loss in trained(model, processor, given.steps, given.seed):
        if step % 50 == 0:
            print(f"step {step} of {given.steps}: loss {loss:.3f}", flush=True)
    for kind, right in accuracies(model, processor):
        print(f"{kind}: {right:.1%} right")
    save(model, processor, given.folder)


def arguments() -> argparse.Namespace:
    read = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    read.add_argument("folder", type=Path, help="where the model is saved")
    read.add_argument("--steps", type=int, default=1200, help=f"of {BATCH} questions each")
    read.add_argument("--seed", type=int, default=0)
    return read.parse_args()


def questions(kind: str, seed: int, count: int) -> Iterator[Question]:
    """Draw so many pictures, and ask about each as hubq's task does."""
    task = benchmark_named(f"hubq_{kind}")
    for number, drawn in enumerate(DRAWN[kind](seed, count)):
        prompt = next(task.drawn(number, drawn)).prompt
        yield Question(pixels(drawn.picture), prompt, drawn.answers[0])


def captions(kind: str, seed: int, count: int) -> Iterator[Question]:
    """Draw so many pictures, and ask for all that is in each."""
    for drawn in DRAWN[kind](seed, count):
        yield Question(pixels(drawn.picture), DESCRIBE, drawn.caption)


def pixels(picture: "Image") -> Tensor:
    """Return a picture as (3, 56, 56), uint8."""
    return torch.from_numpy(numpy.array(picture)).permute(2, 0, 1)


def made_processor() -> "Processor":
    """Return the tokenizer, made from what is asked, with what makes tensors of pictures."""
    from transformers import LlavaNextProcessor, PreTrainedTokenizerFast
    from transformers.models.llava_next.image_processing_pil_llava_next import (
        LlavaNextImageProcessorPil,
    )

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_words(),
        bos_token="<|begin|>",
        eos_token="<|end|>",
        pad_token="<|pad|>",
        extra_special_tokens={"image_token": "<image>"},
        padding_side="left",
    )
    pictures = LlavaNextImageProcessorPil(
        size={"shortest_edge": SIZE},
        crop_size={"height": SIZE, "width": SIZE},
        image_grid_pinpoints=[[SIZE, SIZE]],
        image_mean=[0.95] * 3,  # the ground of drawn pictures: what is empty becomes 0
        image_std=[0.3] * 3,
    )
    return LlavaNextProcessor(
        pictures,
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,  # CLIP's own, which is dropped again
        chat_template=CHAT_TEMPLATE,
    )


def _words() -> "Tokenizer":
    """Learn a vocabulary from prompts and answers; each digit is a token of its own."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    learned = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIALS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    ways = (questions, captions)
    asked = [each for way in ways for kind in DRAWN for each in way(kind, TRAINING, 200)]
    tokenizer.train_from_iterator([text for each in asked for text in each[1:]], learned)
    return tokenizer


def made_model(processor: "Processor", seed: int) -> "Model":
    """Return a random model, in float32; groups of 64 fit each of its linears."""
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaNextConfig,
        LlavaNextForConditionalGeneration,
    )

    words = processor.tokenizer
    specials = {f"{each}_token_id": getattr(words, f"{each}_token_id") for each in ("bos", "eos")}
    config = LlavaNextConfig(
        text_config=LlamaConfig(**TEXT, **specials, pad_token_id=words.pad_token_id),
        vision_config=CLIPVisionConfig(**VISION),
        image_token_index=words.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=[[SIZE, SIZE]],
        image_seq_length=(SIZE // PATCH) ** 2,
        architectures=["LlavaNextForConditionalGeneration"],
    )
    torch.manual_seed(seed)
    # Torch's own attention takes twice as long, backwards, in bfloat16 on CPUs.
    eager = {"attn_implementation": "eager"}
    made: Model = LlavaNextForConditionalGeneration._from_config(config, **eager)
    return made


def laid_out(processor: "Processor", asked: Sequence[Question]) -> Batch:
    """Return questions with their answers, as the processor and its chat template lay them out."""
    words, image = processor.tokenizer, processor.image_processor
    start = f"<|begin|><|user|>{'<image>' * SEEN}\n"
    prompts = words([f"{start}{each.prompt}<|end|><|assistant|>" for each in asked])["input_ids"]
    replies = words([f"{each.answer}<|end|>" for each in asked])["input_ids"]
    both = list(zip(prompts, replies, strict=True))
    width = max(len(prompt + reply) for prompt, reply in both)
    ids = torch.full((len(asked), width), words.pad_token_id)
    answers = torch.full((len(asked), width), -100)
    for row, (prompt, reply) in enumerate(both):
        ids[row, : len(prompt + reply)] = torch.tensor(prompt + reply)
        answers[row, len(prompt) : len(prompt + reply)] = torch.tensor(reply)
    mean, spread = (
        torch.tensor(each)[:, None, None] for each in (image.image_mean, image.image_std)
    )
    seen = (torch.stack([each.picture for each in asked]) / 255 - mean) / spread
    return Batch(ids, answers, seen[:, None].expand(-1, 2, -1, -1, -1))


def answered(model: "Model", batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the logits of each token of an answer, (tokens, vocabulary), and the right tokens."""
    hidden = model.model(
        input_ids=batch.ids,
        pixel_values=batch.pixels.to(model.dtype),
        image_sizes=torch.full((len(batch.ids), 2), SIZE),
        use_cache=False,
    )[0]
    there = batch.answers[:, 1:] != -100
    return model.lm_head(hidden[:, :-1][there]).float(), batch.answers[:, 1:][there]


def trained(
    model: "Model", processor: "Processor", steps: int, seed: int
) -> Iterator[tuple[int, float]]:
    """Train a model in place; yield each step's number and loss.

    Weights are learned in float32; what they do is computed in the dtype that this CPU is fast in.
    """
    learned = [each.detach().clone().requires_grad_() for each in model.parameters()]
    model.to(getattr(torch, compute_dtype("cpu")))
    adam = torch.optim.AdamW(learned, lr=RATE, betas=(0.9, 0.98), weight_decay=0.05)
    rates = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: rate(step, steps))
    for step, asked in enumerate(lessons(steps, seed), start=1):
        loss = cross_entropy(*answered(model, laid_out(processor, asked)))
        loss.backward()  # type: ignore[no-untyped-call] # torch leaves it open
        for each, used in zip(learned, model.parameters(), strict=True):
            each.grad, used.grad = None if used.grad is None else used.grad.float(), None
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        adam.step()
        rates.step()
        with torch.no_grad():
            for each, used in zip(learned, model.parameters(), strict=True):
                used.copy_(each)
        yield step, loss.item()


def rate(step: int, steps: int) -> float:
    """Return what part of RATE a step learns with: up for a while, then down by a cosine."""
    return min((step + 1) / WARM_UP, (1 + math.cos(math.pi * step / steps)) / 2 + 0.02)


def lessons(steps: int, seed: int) -> Iterator[list[Question]]:
    """Yield a batch for each step: captions for a third of them, then questions.

    As LLaVA was trained: a caption tells what many pixels mean, an answer what few of them do. No
    picture is of those that `accuracies` shows.
    """
    share = BATCH // len(DRAWN)
    shown = {each.picture.tobytes() for kind in DRAWN for each in DRAWN[kind](HELD_OUT, TESTED)}
    for way, part, start in ((captions, steps // 3, 1), (questions, steps - steps // 3, 2)):
        kinds = [way(kind, start * TRAINING + seed, part * share + TESTED) for kind in DRAWN]
        fresh = [(each for each in kind if bytes_of(each) not in shown) for kind in kinds]
        for _ in range(part):
            yield [next(each) for each in fresh for _ in range(share)]


def bytes_of(asked: Question) -> bytes:
    """Return the bytes of a question's picture, as Pillow has them."""
    return asked.picture.permute(1, 2, 0).numpy().tobytes()


def accuracies(model: "Model", processor: "Processor") -> Iterator[tuple[str, float]]:
    """Yield the share of questions of each kind whose answer greedy decoding gives to the letter.

    It does where each of its tokens, and the end, is the likeliest after those before it.
    """
    for kind in DRAWN:
        batch = laid_out(processor, list(questions(kind, HELD_OUT, TESTED)))
        with torch.inference_mode():
            logits, right = answered(model, batch)
        rows = (batch.answers[:, 1:] != -100).nonzero()[:, 0]
        yield kind, 1 - len({*rows[logits.argmax(-1) != right].tolist()}) / len(batch.ids)


def save(model: "Model", processor: "Processor", folder: Path) -> None:
    """Save a folder like llava-hf's, in bfloat16."""
    from safetensors.torch import load_file, save_file

    with quiet():
        model.bfloat16().save_pretrained(folder)
        processor.save_pretrained(folder)
    weights = folder / "model.safetensors"
    old = {_old_name(name): each for name, each in load_file(weights).items()}
    save_file(old, weights, metadata={"format": "pt"})
    settings = folder / "processor_config.json"
    told: dict[str, Any] = json.loads(settings.read_text())
    apart = told.pop("image_processor") | {"processor_class": told["processor_class"]}
    settings.write_text(json.dumps(told, indent=2))
    (folder / "preprocessor_config.json").write_text(json.dumps(apart, indent=2))
    lines = (json.dumps({"messages": messages}) for messages in conversations())
    (folder / CALIBRATION).write_text("\n".join(lines))


def conversations() -> Iterator[list[dict[str, str]]]:
    """Yield questions of all kinds in turn with their answers, without the pictures."""
    for together in zip(*(questions(kind, TRAINING, 200) for kind in DRAWN), strict=False):
        for each in together:
            user = {"role": "user", "content": each.prompt}
            yield [user, {"role": "assistant", "content": each.answer}]


def _old_name(name: str) -> str:
    """Return a tensor's name in repos; transformers 5 leaves one level of CLIP's out."""
    return name.replace("vision_tower.", "vision_tower.vision_model.")


if __name__ == "__main__":
    main()
