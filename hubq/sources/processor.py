"""A folder's processor, which makes tokens and tensors of words and pictures.

Loaded in this one place, from its files alone, without running code that comes with them. The parts
for videos, which want a library of their own, are left out.
"""

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubq.errors import UserError
from hubq.machine.files import read_object
from hubq.machine.progress import quiet
from hubq.sources.chat_template import in_parts, laid_out
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
PROBE = (60, 40)  # width and height of the picture that is tried
PARTS = ("image_processor", "tokenizer")
PROCESSOR_FILES = (SETTINGS, PICTURES, "video_preprocessor_config.json")


def processor_of(folder: Path) -> Any:  # noqa: ANN401 - transformers carries no types
    """Load the processor of a folder of a model that sees, and try it with a picture.

    Raises UserError where that fails, and where it makes another number of tokens of a picture than
    the model of the same folder.
    """
    tokenizer = tokenizer_of(folder)
    name = _class_name(folder)
    try:
        with quiet():
            found = _loaded(folder, name, tokenizer)
            _require_count(folder, found)
    except UserError:
        raise
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
    tokenizer.chat_template = template  # by which prompts are laid out, within limits
    parts = dict(zip(PARTS, (pictures, tokenizer), strict=True))
    if name == "SmolVLMProcessor":
        parts["video_processor"] = None
    return known(**parts, chat_template=template, **given)


def _require_count(folder: Path, processor: Any) -> None:  # noqa: ANN401
    """Compare the places that a processor makes for a picture with what the model computes."""
    from PIL import Image

    from hubq.sources.skeleton import FAULTS

    config = read_object(folder / "config.json")
    token = config.get("image_token_id", config.get("image_token_index"))
    given = seen(processor, [Image.new("RGB", PROBE)], processor.image_token)
    try:
        computed = _computed(config, given)
    except FAULTS as error:
        raise UserError(
            f"{folder}: its model can't take what its processor makes of a picture ({error}): "
            f"{' and '.join(PROCESSOR_FILES)} are not this model's; copy them again from where the "
            "model was saved"
        ) from error
    own = processor.tokenizer.convert_tokens_to_ids(processor.image_token)
    if token is not None and own != token:
        raise UserError(
            f"{folder}: a picture's place is {processor.image_token}, the tokenizer's token {own}, "
            f"but config.json says {token}: the files are not of one model; copy all of them again "
            "from where the model was saved"
        )
    made = int((given["input_ids"] == own).sum())
    if made != computed:
        raise UserError(
            f"{folder}: its processor makes {made} image tokens of a picture of "
            f"{PROBE[0]} x {PROBE[1]}, and its model {computed}: {' and '.join(PROCESSOR_FILES)} "
            "are not this model's, or were written for an older transformers; copy them again from "
            "where the model was saved"
        )


def _computed(config: Mapping[str, Any], given: "Mapping[str, Tensor]") -> int:
    """Count what a model makes of the pictures that it is given, without its weights."""
    from hubq.sources.skeleton import understanding, without_weights

    with understanding(config):
        model = without_weights(config, sees=True)
    sees = model.config.vision_config
    if "image_grid_thw" in given:  # Qwen2-VL: patches are merged in squares
        return int(given["image_grid_thw"].prod(-1).sum() // sees.spatial_merge_size**2)
    if "pixel_attention_mask" in given:  # Idefics3: as many for each tile
        side = sees.image_size // sees.patch_size // model.config.scale_factor
        return int(given["pixel_values"].shape[1] * side**2)
    if sees.model_type == "pixtral":  # patches of each picture as it is, merged in squares
        side = sees.patch_size * getattr(model.config, "spatial_merge_size", 1)
        return int((given["image_sizes"] // side).prod(-1).sum())
    known = signature(model.model.get_image_features).parameters
    asked = {
        name: each.to("meta") if each.is_floating_point() else each
        for name, each in given.items()
        if name in known
    }
    return sum(len(each) for each in model.model.get_image_features(**asked).pooler_output)


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
    prompt = messages if isinstance(messages, str) else _prompt(processor, messages)
    places = prompt.count(processor.image_token)
    if places != len(pictures):
        raise UserError(
            f"the prompt has {places} places for pictures ({processor.image_token}), and there are "
            f"{len(pictures)} pictures: give one picture for each, and leave that token out of "
            "what is asked"
        )
    given = {"images": list(pictures)} if pictures else {}
    start = processor.tokenizer.bos_token
    own = {"add_special_tokens": not (start and prompt.startswith(start))}
    found: dict[str, Tensor] = dict(processor(text=prompt, return_tensors="pt", **own, **given))
    return found


def _prompt(processor: Any, messages: Sequence[Mapping[str, Any]]) -> str:  # noqa: ANN401
    """Return the prompt of some turns, with places for pictures, up to where an answer begins."""
    if processor.chat_template is None:
        raise UserError(
            "the model's processor has no chat template, so hubq can't know how a picture is asked "
            "about; add the base model's chat_template.jinja to the model's folder"
        )
    return laid_out(processor.tokenizer, in_parts(messages))
