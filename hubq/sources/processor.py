"""A folder's processor, which makes tokens and tensors of words and pictures.

Loaded in this one place, from its files alone, without running code that comes with them. The parts
for videos, which want a library of their own, are left out.
"""

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubq.errors import UserError
from hubq.machine.files import read_object
from hubq.machine.progress import quiet
from hubq.sources.tokenizer import PANIC, tokenizer_of

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

# Where transformers has the processors of the families that hubq knows.
MODULES = {
    "LlavaProcessor": "llava",
    "LlavaNextProcessor": "llava_next",
    "LlavaOnevisionProcessor": "llava_onevision",
    "PixtralProcessor": "pixtral",
    "Qwen2VLProcessor": "qwen2_vl",
    "Qwen2_5_VLProcessor": "qwen2_5_vl",
    "Idefics3Processor": "idefics3",
    "SmolVLMProcessor": "smolvlm",
}
OF_MODELS = {  # by model_type, where no file names the class
    "llava": "LlavaProcessor",
    "llava_next": "LlavaNextProcessor",
    "llava_onevision": "LlavaOnevisionProcessor",
    "mistral3": "PixtralProcessor",
    "qwen2_vl": "Qwen2VLProcessor",
    "qwen2_5_vl": "Qwen2_5_VLProcessor",
    "idefics3": "Idefics3Processor",
    "smolvlm": "SmolVLMProcessor",
}
SETTINGS = "processor_config.json"
PICTURES = "preprocessor_config.json"
NAMED = (SETTINGS, PICTURES, "tokenizer_config.json")  # files that may name the class
OLD_TEMPLATE = "chat_template.json"  # of a processor, in repos of before 2025
PARTS = ("image_processor", "tokenizer")
PROCESSOR_FILES = (SETTINGS, PICTURES, "video_preprocessor_config.json")


def processor_of(folder: Path) -> Any:  # noqa: ANN401 - transformers carries no types
    """Load the processor of a folder of a model that sees; raise UserError where that fails."""
    tokenizer = tokenizer_of(folder)
    name = _class_name(folder)
    try:
        with quiet():
            found = _loaded(folder, name, tokenizer)
    # Whatever transformers' guesses at a stranger's files lead to, as for a tokenizer.
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__module__ != PANIC:
            raise
        raise UserError(_why_not(folder, name, error)) from error
    return found


def _class_name(folder: Path) -> str:
    """Return the name of the processor's class; raise UserError for one that hubq doesn't know."""
    named = [said for said in _said(folder, "processor_class") if said in MODULES]
    kind = str(read_object(folder / "config.json").get("model_type"))
    found = next(iter(named), OF_MODELS.get(kind))
    if found is None:
        raise UserError(
            f"{folder} is of model_type {kind[:60]}, and none of {', '.join(NAMED)} names a "
            f"processor that hubq knows ({', '.join(MODULES)}): put the base model's files into a "
            "copy of the model, and name that folder"
        )
    return found


def _said(folder: Path, key: str) -> Iterator[object]:
    for name in NAMED:
        if (folder / name).is_file() and isinstance(
            said := read_object(folder / name).get(key), str
        ):
            yield said


def _loaded(folder: Path, name: str, tokenizer: Any) -> Any:  # noqa: ANN401
    """Build the processor of its parts for words and pictures, and of its settings."""
    from transformers import AutoImageProcessor

    module = import_module(f"transformers.models.{MODULES[name]}.processing_{MODULES[name]}")
    known: Any = getattr(module, name)
    known = type(name, (known,), {"get_attributes": classmethod(lambda _: list(PARTS))})
    pictures = AutoImageProcessor.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    settings, _ = known.get_processor_dict(folder, local_files_only=True)
    left_out = {*PARTS, "processor_class", "auto_map", "video_processor", "chat_template"}
    given = {key: value for key, value in settings.items() if key not in left_out}
    template = settings.get("chat_template") or tokenizer.chat_template or _old_template(folder)
    parts = dict(zip(PARTS, (pictures, tokenizer), strict=True))
    if name == "SmolVLMProcessor":
        parts["video_processor"] = None
    return known(**parts, chat_template=template, **given)


def _old_template(folder: Path) -> str | None:
    path = folder / OLD_TEMPLATE
    said = read_object(path).get("chat_template") if path.is_file() else None
    return said if isinstance(said, str) else None


def _why_not(folder: Path, name: str, error: BaseException) -> str:
    """Say why a folder has no usable processor, and the way out."""
    said = (str(error).strip() or type(error).__name__).partition("\n")[0][:300]
    if isinstance(error, ImportError):
        return f"the {name} of {folder} needs a package that is not installed: {said}"
    there = [each for each in PROCESSOR_FILES if (folder / each).is_file()]
    return (
        f"{folder} has no {name} that transformers can build of {', '.join(there) or 'its files'} "
        f"({type(error).__name__}: {said}); put the base model's {' and '.join(PROCESSOR_FILES)} "
        "into a copy of the model, and name that folder"
    )


def seen(
    processor: Any,  # noqa: ANN401 - transformers carries no types
    pictures: "Sequence[Image]",
    messages: str | Sequence[Mapping[str, Any]],
) -> "dict[str, Tensor]":
    """Return what a model reads of words and pictures: input_ids (1, length), pixel_values, ...

    `messages` are a laid out prompt, or turns as chat templates take them, whose content may be a
    list of parts {"type": "text", "text": ...} and {"type": "image"}. Nothing is ever cut off.
    Raises UserError where the places for pictures are not as many as the pictures.
    """
    prompt = messages if isinstance(messages, str) else laid_out(processor, messages)
    places = prompt.count(processor.image_token)
    if places != len(pictures):
        raise UserError(
            f"the prompt has {places} places for pictures ({processor.image_token}), and there are "
            f"{len(pictures)} pictures: give one picture for each, and leave that token out of "
            "what is asked"
        )
    given = {"images": list(pictures)} if pictures else {}
    found: dict[str, Tensor] = dict(processor(text=prompt, return_tensors="pt", **given))
    return found


def laid_out(processor: Any, messages: Sequence[Mapping[str, Any]]) -> str:  # noqa: ANN401
    """Return the prompt of some turns, with places for pictures, up to where an answer begins."""
    if processor.chat_template is None:
        raise UserError(
            "the model's processor has no chat template, so hubq can't know how a picture is asked "
            "about; add the base model's chat_template.jinja to the model's folder"
        )
    turns = [{**each, "content": _parts(each["content"])} for each in messages]
    prompt: str = processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    return prompt


def _parts(content: str | Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Spell a turn's content as the templates of processors want it: they skip a plain string."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
