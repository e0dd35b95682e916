"""Whether a model can read what a recipe gives it: its tokenizer, its template, its positions.

All of it stands in small files (or in a GGUF's metadata), so it is known before anything is
computed.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.machine.device import best_device
from hubq.sources.processor import OLD_TEMPLATE, PROCESSOR_FILES, processor_of
from hubq.sources.tokenizer import SAMPLE, tokenizer_of

if TYPE_CHECKING:
    from hubq.records.recipe_evaluate import EvaluateSection
    from hubq.sources.source import Source
    from hubq.stages.recipe.recipe import Recipe

STRETCHED = ("linear", "dynamic", "yarn")  # rope scalings that go beyond the positions named


class Reader(NamedTuple):
    """What is known of a tokenizer."""

    where: str
    greatest_id: int  # of what texts become
    has_template: bool


def require_readable(recipe: "Recipe", source: "Source", client: Client) -> None:
    """Raise UserError where the recipe's texts can't be read by the model that it names."""
    require_positions(dict(_lengths_of(recipe)), source.config)
    evaluate = recipe.evaluate
    if not (recipe.reads_text or recipe.adapt or evaluate.perplexity or evaluate.tasks):
        return  # no text is read
    reader = _reader(source, client)
    if getattr(recipe.adapt, "template", None) == "chat":
        _require_template(reader, "adapt.template: chat", "Use template: alpaca")
    for data, _ in recipe.calibration.parts if recipe.calibration else ():
        if data.sees:
            _require_processor(source, client)
        elif data.speaks_in:
            _require_template(reader, "calibration: conversations", "Calibrate on text")
    asked = [each.name for each in evaluate.tasks if each.chat_template]
    if asked and not reader.has_template:
        raise UserError(
            f"evaluate.tasks: {', '.join(asked)} is to use the chat template, but {reader.where} "
            "has none.\n"
            "Leave chat_template out, or add the chat_template.jinja that belongs to the model"
        )
    rows = _rows(source)
    if rows is not None and reader.greatest_id >= rows:
        raise UserError(
            f"the tokenizer of {reader.where} has ids up to {reader.greatest_id}, and the model's "
            f"embeddings have {rows} rows: they do not belong together.\n"
            "Use both from one source"
        )


def _require_template(reader: Reader, asking: str, way_out: str) -> None:
    """Refuse to lay pairs out by a template that isn't there."""
    if not reader.has_template:
        raise UserError(
            f"{asking}: {reader.where} has no chat template.\n"
            f"{way_out}, or add the chat_template.jinja that belongs to the model"
        )


def _require_processor(source: "Source", client: Client) -> None:
    """Refuse pictures for a model whose files make no tokens of them, or lay out no question."""
    from hubq.sources.hub import tokenizer_folder

    folder = source.section.folder
    if source.section.hub is not None:
        folder = tokenizer_folder(source, client, also=(*PROCESSOR_FILES, OLD_TEMPLATE))
    assert folder is not None, "a model that sees lies on the Hub or in a folder"
    reader = Reader(source.identity, 0, bool(processor_of(folder).chat_template))
    _require_template(reader, "calibration: pictures", "Calibrate on text")


def require_readable_texts(section: "EvaluateSection", config: Mapping[str, Any]) -> None:
    """Raise UserError for texts to be measured that are longer than a model's positions."""
    require_positions(dict(_lengths(section)), config)


def require_positions(lengths: Mapping[str, int], config: Mapping[str, Any]) -> None:
    """Raise UserError for texts longer than a model's positions; by what asks for them."""
    positions = positions_of(config)
    long = {what: length for what, length in lengths.items() if positions and length > positions}
    if long:
        listed = "\n  ".join(f"{what}: {length} tokens" for what, length in long.items())
        raise UserError(
            f"the model was made for {positions} positions, and these ask for more:\n"
            f"  {listed}\n"
            "Ask for less"
        )


def positions_of(config: Mapping[str, Any]) -> int | None:
    """Return how many tokens a model reads at once; None where its config.json doesn't say."""
    named = config.get("max_position_embeddings")
    if not isinstance(named, int) or isinstance(named, bool):
        return None
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(scaling, Mapping):
        return named
    factor = scaling.get("factor")
    if scaling.get("rope_type", scaling.get("type")) not in STRETCHED:
        return named
    original = scaling.get("original_max_position_embeddings") or named
    if not isinstance(factor, int | float) or not isinstance(original, int):
        return named
    return max(named, int(factor * original))


def _lengths_of(recipe: "Recipe") -> Iterator[tuple[str, int]]:
    """Yield what of a recipe reads how many tokens at once."""
    from hubq.records.recipe_adapt import Lessons

    yield from _lengths(recipe.evaluate)
    adapter = recipe.adapt
    if recipe.calibration is not None and (recipe.reads_text or (adapter and adapter.needs)):
        yield "calibration.length", recipe.calibration.length
    if isinstance(adapter, Lessons):
        length = adapter.source_length + adapter.target_length
        yield "adapt.source_length and adapt.target_length", length


def _lengths(section: "EvaluateSection") -> Iterator[tuple[str, int]]:
    """Yield what of an evaluation reads how many tokens at once."""
    for number, each in enumerate(section.perplexity):
        yield f"evaluate.perplexity.{number}.length", each.length
    if section.efficiency is not None:
        from hubq.records.recipe_evaluate import lengths

        prompt, output = lengths(section.efficiency, best_device().type)
        yield f"evaluate.efficiency, prompt {prompt} and output {output}", prompt + output


def _rows(source: "Source") -> int | None:
    from hubq.sources.architecture import family_of

    info = source.tensors.get(f"{family_of(source.config).embeddings}.weight")
    return info.shape[0] if info and info.shape else None


def _reader(source: "Source", client: Client) -> Reader:
    """Look at the tokenizer where it lies."""
    from hubq.sources.gguf.convert import converted

    model = source.section
    if model.hub is not None:
        from hubq.sources.hub import tokenizer_folder

        return _in_folder(tokenizer_folder(source, client), source.identity)
    if model.folder is not None:
        return _in_folder(model.folder, str(model.folder))
    folder = converted(source.identity.removeprefix("sha256:"))
    if folder.is_dir():
        return _in_folder(folder, str(model.gguf or folder))
    return _in_gguf(source)


def _in_folder(folder: Path, where: str) -> Reader:
    """Load a tokenizer, and read with it."""
    tokenizer = tokenizer_of(folder)
    ids = {*tokenizer(SAMPLE, verbose=False)["input_ids"], *_plain_ids(tokenizer)}
    return Reader(where, max(ids, default=0), bool(tokenizer.chat_template))


def _plain_ids(tokenizer: Any) -> Iterator[int]:  # noqa: ANN401 - transformers carries no types
    """Yield the ids that texts may become; special ones beyond the model's rows are often spare."""
    added = tokenizer.added_tokens_decoder
    for number in tokenizer.get_vocab().values():
        if number not in added or not added[number].special:
            yield number


def _in_gguf(source: "Source") -> Reader:
    """Read what a GGUF file says of its tokenizer, without converting it."""
    from hubq.sources.find import gguf_file
    from hubq.sources.gguf.convert import tokenizer_in

    path = gguf_file(source.section)
    tokens, has_template = tokenizer_in(path)
    if not tokens:
        raise UserError(
            f"{path} holds no tokenizer, so no text can be read with it.\n"
            "Name the model by its Hub id or a folder of safetensors instead"
        )
    return Reader(str(path), tokens - 1, has_template)
