"""Rules about the files beside the weights: what is missing, broken, or would run code."""

from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import PurePosixPath

from hubq.errors import UserError
from hubq.formats.foreign.metadata import BESIDE
from hubq.machine.engines import LOADER
from hubq.sources.auxiliary_files import json_bytes, mended_generation
from hubq.sources.weight_files import PICKLES, SINGLE, is_weights
from hubq.stages.lint.findings import Found
from hubq.stages.lint.release import (
    CONFIG,
    GENERATION,
    TOKENIZER,
    TOKENIZER_CONFIG,
    Release,
    readable,
)
from hubq.stages.lint.serving import OWN

PROCESSORS = ("preprocessor_config.json", "processor_config.json")
OBJECTS = (CONFIG, GENERATION, TOKENIZER, TOKENIZER_CONFIG, *PROCESSORS, *BESIDE)
VOCABULARIES = (
    *(TOKENIZER, "tokenizer.model", "tokenizer.model.v3", "tekken.json"),
    *("vocab.json", "vocab.txt", "spiece.model"),
)
TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")
FROM_BASE = "copy it from the base"
MORE_PICKLES = (*PICKLES, "*.pkl", "*.pickle")


def unreadable_file(release: Release) -> Iterator[Found]:
    """A file that is damaged, leads elsewhere, or is not what its name says."""
    for path, what in release.broken:
        yield Found(path, what, "replace the file")
    for path in OBJECTS:
        try:
            release.object(path)
        except UserError as error:
            yield Found(path, str(error), "replace the file")


def no_model(release: Release) -> Iterator[Found]:
    """No config.json, or no weights in a format that engines look for."""
    if release.is_planned or release.is_adapter or release.named(".gguf"):
        return
    if CONFIG not in release.files:
        yield Found(CONFIG, "there is no config.json", FROM_BASE)
    if not any(is_weights(path) for path in release.files):
        yield Found(SINGLE, "there are no weights", "upload them")


def gguf_alone(release: Release) -> Iterator[Found]:
    """GGUF files and nothing else, which vLLM reads with a plugin alone."""
    if (found := release.named(".gguf")) and CONFIG not in release.files:
        yield Found(found[0], "vLLM reads GGUF with vllm-gguf-plugin alone", "install the plugin")


def no_tokenizer(release: Release) -> Iterator[Found]:
    """No file with a vocabulary: who downloads it can't ask it anything."""
    if _is_a_model(release) and not any(path in release.files for path in VOCABULARIES):
        yield Found(TOKENIZER, "there is no tokenizer", f"{FROM_BASE}, {TOKENIZER_CONFIG} too")


def _is_a_model(release: Release) -> bool:
    return not release.is_planned and not release.is_adapter and CONFIG in release.files


def no_processor(release: Release) -> Iterator[Found]:
    """A model that sees or hears, without the config of its processor."""
    senses = any(key in release.config for key in ("vision_config", "audio_config"))
    if senses and _is_a_model(release) and not any(path in release.files for path in PROCESSORS):
        yield Found(PROCESSORS[0], "there is no processor's config", FROM_BASE)


def no_generation_config(release: Release) -> Iterator[Found]:
    """No generation_config.json: engines don't know where an answer ends, or how to sample."""
    if _is_a_model(release) and release.config and GENERATION not in release.files:
        tokens = {key: release.config[key] for key in TOKENS if release.config.get(key) is not None}
        made = {"_from_model_config": True, **tokens}
        yield Found(
            GENERATION,
            f"there is no {GENERATION}",
            f"{FROM_BASE}, or write the tokens of config.json into it",
            {GENERATION: json_bytes(made)} if "eos_token_id" in tokens else None,
        )


def invalid_generation_config(release: Release) -> Iterator[Found]:
    """A generation_config.json that transformers refuses to save, at the end of every run on it."""
    settings = readable(release, GENERATION)
    if settings is None:
        return
    if found := mended_generation(settings):
        mended, how, mistake = found
        yield Found(
            GENERATION,
            f"transformers refuses to save it ({mistake})",
            f"a file that {how} is valid" if mended else "leave it out",
            {GENERATION: json_bytes(mended)} if mended else None,
        )


def leaked_truncation(release: Release) -> Iterator[Found]:
    """A tokenizer that cuts texts off, as a calibration left it."""
    tokenizer = readable(release, TOKENIZER)
    if tokenizer is None:
        return
    if left := [key for key in ("truncation", "padding") if tokenizer.get(key) is not None]:
        yield Found(
            TOKENIZER,
            f"{' and '.join(left)} of some run is still in it: texts are cut off or filled up in "
            "silence",
            "set it to null",
            {TOKENIZER: json_bytes({**tokenizer, **dict.fromkeys(left)})},
        )


def pickles(release: Release) -> Iterator[Found]:
    """Pickled files, which may run code when they are read."""
    found = [
        path
        for path in release.files
        if any(fnmatch(PurePosixPath(path).name, pattern) for pattern in MORE_PICKLES)
    ]
    if found:
        yield Found(
            found[0],
            f"{len(found)} pickled files, which may run code when they are read",
            "keep weights as safetensors, and leave states of a training out",
        )


def remote_code(release: Release) -> Iterator[Found]:
    """Code in the repo, which runs where somebody passes trust_remote_code=True."""
    code = [path for path in release.named(".py") if path != LOADER]
    if code:
        yield Found(
            code[0],
            f"{len(code)} files of Python, which trust_remote_code=True runs",
            "leave code out where transformers has the architecture",
        )


def lost_code(release: Release) -> Iterator[Found]:
    """An auto_map that names code which isn't there."""
    for path in (CONFIG, TOKENIZER_CONFIG):
        said = (readable(release, path) or {}).get("auto_map")
        if not isinstance(said, dict) or release.is_planned:
            continue
        if lost := sorted(_modules(said) - release.files.keys()):
            kept = {key: each for key, each in release.object(path).items() if key != "auto_map"}
            needless = path != CONFIG or release.family is not None
            yield Found(
                path,
                f"auto_map names {lost[0][:80]}, which isn't there",
                "take auto_map out, or add the file",
                {path: json_bytes(kept)} if needless and release.method != OWN else None,
            )


def _modules(auto_map: Mapping[str, object]) -> set[str]:
    """Return the files that an auto_map names; those of another repo are not this one's."""
    named = [each if isinstance(each, list) else [each] for each in auto_map.values()]
    return {
        f"{each.partition('.')[0]}.py"
        for several in named
        for each in several
        if isinstance(each, str) and "--" not in each
    }
