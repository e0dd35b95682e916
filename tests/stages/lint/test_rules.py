"""Each rule finds the folder that breaks it, and nothing in one that is sound."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_release import (
    BLOCK,
    FORMS,
    GROUPS,
    HIDDEN,
    I32,
    INNER,
    SHAPES,
    Made,
    Q,
    compressed,
    gptq,
    plain,
    sound,
)

from hubq.formats.dense import MARK
from hubq.stages.lint.findings import ENGINES, LLAMA_CPP, SGLANG, TRANSFORMERS, VLLM
from hubq.stages.lint.fix import mend
from hubq.stages.lint.format_rules import BROKEN, KNOWN
from hubq.stages.lint.lint import described, lint, loading
from hubq.stages.lint.table import RULES

pytestmark = pytest.mark.usefixtures("nothing_tried")
CT = "compressed-tensors"
Break = Callable[[Made], object]


def three_bits(made: Made, words: dict[int, int]) -> None:
    """Say 3 bits, and let rows of so many inputs have so many words."""
    made.weights(num_bits=3)
    for module, (out, columns) in SHAPES.items():
        made.put(module, compressed(out, columns, words[columns]))


def packed_embeddings(made: Made) -> None:
    made.put("model.embed_tokens", compressed(32, HIDDEN))


def all_plain(made: Made) -> None:
    for module, shape in SHAPES.items():
        made.put(module, plain(*shape))


def rename(made: Made) -> None:
    made.tensors = {f"_orig_mod.{name}": each for name, each in made.tensors.items()}


def tie(made: Made) -> None:
    made.config["tie_word_embeddings"] = True


def drop(path: str) -> Break:
    return lambda made: made.files.pop(path)


def two_groups(made: Made, **weights: object) -> None:
    other = {**GROUPS["group_0"], "targets": [Q]}
    made.weights(**weights)
    groups = made.config["quantization_config"]["config_groups"]
    made.settings(config_groups={**groups, "group_1": other})


def with_order(made: Made) -> None:
    made.tensors[f"{Q}.weight_g_idx"] = (I32, (HIDDEN,))


def both(*damages: Break) -> Break:
    def damage(made: Made) -> None:
        for each in damages:
            each(made)

    return damage


def two_bits(made: Made) -> None:
    made.settings(bits=2)
    for module, (out, columns) in SHAPES.items():
        made.put(module, gptq(out, columns, 2))


def gguf_alone(made: Made) -> None:
    made.config.clear()
    made.tensors.clear()
    made.files["model.gguf"] = b"GGUF"


DENSE_WORDS = {HIDDEN: 6, INNER: 12}
PADDED_WORDS = {HIDDEN: 7, INNER: 13}
# A rule, the format of the sound release, what breaks it, the engines that are stopped, and whether
# that can be mended.
BREAKS: tuple[tuple[str, str, Break, tuple[str, ...], bool], ...] = (
    ("unreadable-file", CT, lambda m: m.files.update({"tokenizer.json": b"{"}), ENGINES, False),
    ("no-model", CT, lambda m: m.config.clear(), ENGINES, False),
    ("no-model", CT, lambda m: m.tensors.clear(), ENGINES, False),
    ("gguf-alone", "plain", gguf_alone, (VLLM,), False),
    ("no-tokenizer", CT, drop("tokenizer.json"), ENGINES, False),
    (
        "no-processor",
        CT,
        lambda m: m.config.update(vision_config={}),
        (TRANSFORMERS, VLLM, SGLANG),
        False,
    ),
    ("no-generation-config", CT, drop("generation_config.json"), (), True),
    (
        "invalid-generation-config",
        CT,
        lambda m: m.object("generation_config.json", do_sample=False, temperature=0.5),
        (),
        True,
    ),
    (
        "leaked-truncation",
        CT,
        lambda m: m.object("tokenizer.json", truncation={"max_length": 2048}),
        (),
        True,
    ),
    ("pickles", CT, lambda m: m.files.update({"optimizer.pt": b"x"}), (), False),
    ("remote-code", CT, lambda m: m.files.update({"modeling.py": b"x"}), (), False),
    (
        "lost-code",
        CT,
        lambda m: m.config.update(auto_map={"AutoConfig": "lost.Config"}),
        (TRANSFORMERS,),
        True,
    ),
    ("odd-settings", "gptq", lambda m: m.settings(bits="4"), ENGINES, False),
    (
        "odd-settings",
        "gptq",
        lambda m: m.object("quantize_config.json", bits=8),
        ENGINES,
        False,
    ),
    ("unknown-quant-method", "gptq", lambda m: m.settings(quant_method="gtpq"), ENGINES, False),
    (
        "unknown-quant-method",
        "gptq",
        lambda m: m.settings(quant_method="modelopt"),
        (TRANSFORMERS,),
        False,
    ),
    (
        "method-without-reader",
        "gptq",
        lambda m: m.settings(quant_method="hqq"),
        (TRANSFORMERS,),
        False,
    ),
    ("format-not-read", "awq", lambda m: None, (LLAMA_CPP,), False),
    (
        "no-kernel",
        "gptq",
        two_bits,
        (VLLM, SGLANG),
        False,
    ),
    ("several-groups", CT, two_groups, (LLAMA_CPP,), False),
    ("gptq-activation-order", "gptq", lambda m: m.settings(desc_act=True), (VLLM,), False),
    ("gptq-asymmetric", "gptq", lambda m: m.settings(sym=False), (VLLM, SGLANG), False),
    (
        "gptq-version-2",
        "gptq",
        lambda m: m.settings(checkpoint_format="gptq_v2"),
        (LLAMA_CPP,),
        False,
    ),
    ("column-order-dropped", CT, with_order, (TRANSFORMERS, VLLM, SGLANG), False),
    ("asymmetric-packed", CT, lambda m: m.weights(symmetric=False), (TRANSFORMERS,), True),
    ("asymmetric-schemes", CT, lambda m: two_groups(m, symmetric=False), (TRANSFORMERS,), False),
    (
        "transforms-ignored",
        CT,
        lambda m: m.settings(transform_config={"config_groups": {"u": {}}}),
        (TRANSFORMERS, SGLANG),
        False,
    ),
    (
        "order-without-groups",
        CT,
        lambda m: m.weights(strategy="channel", group_size=None, actorder="static"),
        (VLLM,),
        True,
    ),
    ("old-packing", CT, lambda m: three_bits(m, PADDED_WORDS), (TRANSFORMERS, VLLM), False),
    (
        "old-packing",
        CT,
        both(lambda m: three_bits(m, DENSE_WORDS), lambda m: m.settings(version="0.17.1")),
        (),
        True,
    ),
    (
        "unequal-fused-layers",
        CT,
        lambda m: m.put(f"{BLOCK}.mlp.up_proj", compressed(INNER, HIDDEN, 16)),
        (VLLM, SGLANG),
        False,
    ),
    (
        "missed-by-ignore-list",
        CT,
        lambda m: m.put(f"{BLOCK}.mlp.down_proj", plain(HIDDEN, INNER)),
        (TRANSFORMERS, VLLM, SGLANG),
        True,
    ),
    (
        "missed-by-ignore-list",
        "awq",
        lambda m: m.put(f"{BLOCK}.mlp.down_proj", plain(HIDDEN, INNER)),
        (TRANSFORMERS, VLLM, SGLANG),
        True,
    ),
    (
        "missed-by-ignore-list",
        "gptq",
        lambda m: m.put(f"{BLOCK}.mlp.down_proj", plain(HIDDEN, INNER)),
        (TRANSFORMERS, VLLM, SGLANG),
        False,
    ),
    (
        "ignored-but-quantized",
        CT,
        lambda m: m.settings(ignore=["lm_head", Q]),
        (TRANSFORMERS, VLLM, SGLANG),
        True,
    ),
    ("width-beside-config", CT, lambda m: m.weights(num_bits=8), ENGINES, False),
    ("width-beside-config", "gptq", lambda m: m.settings(bits=8), ENGINES, False),
    ("width-beside-config", "gptq", lambda m: m.settings(group_size=128), ENGINES, False),
    ("width-beside-config", "awq", lambda m: m.settings(group_size=16), ENGINES, False),
    ("other-tensor-names", CT, rename, ENGINES, False),
    ("missing-weights", CT, lambda m: m.put(Q, {}), ENGINES, False),
    ("tied-head-twice", CT, tie, (), False),
    ("packed-embeddings", CT, packed_embeddings, (TRANSFORMERS, SGLANG), False),
    ("not-quantized", CT, all_plain, ENGINES, False),
    (
        "name-says-quantized",
        "plain",
        lambda m: setattr(m, "folder", m.folder.with_name("Llama-GPTQ-4bit")),
        (),
        False,
    ),
    ("refused-metadata", CT, lambda m: m.card(license="my own"), (), False),
    ("doubted-metadata", CT, lambda m: m.card(pipeline_tag="talking"), (), False),
    ("no-card", CT, drop("README.md"), (), False),
    (
        "incomplete-metadata",
        CT,
        lambda m: m.card(pipeline_tag=None, base_model_relation=None),
        (),
        True,
    ),
    ("license-duties", CT, lambda m: m.card(license="llama3.1"), (), True),
    (
        "license-duties",
        CT,
        both(lambda m: m.card(license="apache-2.0"), drop("LICENSE")),
        (),
        True,
    ),
)


@pytest.mark.parametrize("form", FORMS)
def test_a_sound_release_has_nothing_but_notes(form: str, tmp_path: Path) -> None:
    found = lint(sound(tmp_path / "model", form).write()).findings

    assert [described(each) for each in found if each.severity != "note"] == []


@pytest.mark.parametrize(
    ("name", "form", "damage", "engines", "mendable"),
    BREAKS,
    ids=[f"{name}-{number}" for number, (name, *_) in enumerate(BREAKS)],
)
def test_a_rule_finds_what_breaks_it_and_mends_what_it_says(  # noqa: PLR0913 - a table's row
    name: str, form: str, damage: Break, engines: tuple[str, ...], mendable: bool, tmp_path: Path
) -> None:
    made = sound(tmp_path / "model", form)
    damage(made)

    release = made.write()
    found = [each for each in lint(release).findings if each.rule == name]

    assert found
    assert {each for finding in found for each in finding.engines} == set(engines)
    assert bool(mend(release).done and any(each.fix for each in found)) == mendable
    if mendable:
        left = lint(mend(release).release).findings
        assert not [each for each in left if each.rule == name and each.fix]


def test_each_rule_has_a_release_that_breaks_it() -> None:
    assert {name for name, *_ in BREAKS} == {rule.name for rule in RULES}


def test_the_notes_of_sound_releases_are_of_formats_that_an_engine_never_read(
    tmp_path: Path,
) -> None:
    verdict = lint(sound(tmp_path / "model", "awq").write())

    assert dict(loading(verdict)) == {
        "transformers": "loads it, with gptqmodel>=1.4.3",
        "vLLM": "loads it (by its sources)",
        "SGLang": "loads it (by its sources)",
        "llama.cpp": "no (format-not-read)",
    }


def test_the_methods_that_transformers_has_a_reader_for_are_those_of_its_table() -> None:
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING as TABLE

    more = {"bitsandbytes", "auto_round", "intel/auto-round"}  # spelled otherwise there
    assert KNOWN - more <= set(TABLE)
    assert set(BROKEN) <= KNOWN


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architectures": ["PhiForCausalLM"]}, "not known (no rule is about PhiForCausalLM"),
        ({"quantization_config": {"quant_method": "aqlm"}}, "not known (no rule is about aqlm's"),
    ],
)
def test_no_engine_is_said_to_load_what_no_rule_is_about(
    changes: dict[str, object], said: str, tmp_path: Path
) -> None:
    made = sound(tmp_path / "model")
    made.config |= changes

    verdict = lint(made.write())

    ((engines, answer),) = loading(verdict)
    assert engines == ", ".join(ENGINES)
    assert answer.startswith(said)
    assert verdict.loads(SGLANG) is None


def test_what_only_the_maker_can_say_is_not_written_for_them(tmp_path: Path) -> None:
    made = sound(tmp_path / "model")
    made.card(license="llama3.1")
    del made.files["LICENSE"]

    mended = mend(made.write()).release

    assert set(mended.changed) == {"Notice.txt"}


@pytest.mark.parametrize("path", ["README.md", "quantize_config.json"])
def test_a_broken_file_is_told_and_the_other_rules_go_on(path: str, tmp_path: Path) -> None:
    made = sound(tmp_path / "model", "gptq")
    made.files[path] = b"---\nlicense: [\n---\n{"
    if path != "README.md":
        del made.config["quantization_config"]

    found = lint(made.write())

    assert 0 < len(found.errors) <= 2
    assert {each.where for each in found.errors} == {path}


def test_a_mended_release_is_mended_wholly_and_keeps_what_it_said(tmp_path: Path) -> None:
    made = sound(tmp_path / "model")
    made.put(f"{BLOCK}.mlp.down_proj", plain(HIDDEN, INNER))
    made.weights(symmetric=False)
    made.config["auto_map"] = {"AutoConfig": "lost.Config"}
    before = json.loads(json.dumps(made.config))

    mended = mend(made.write())

    after = json.loads(mended.release.changed["config.json"])
    assert "auto_map" not in after
    said, was = after["quantization_config"], before["quantization_config"]
    assert said == {**was, "ignore": ["lm_head", f"{BLOCK}.mlp.down_proj"], "dequantize": True}
    assert lint(mended.release).errors == ()


def test_a_dense_copy_that_says_so_may_be_called_by_its_bits(tmp_path: Path) -> None:
    made = sound(tmp_path / "Llama-GPTQ-4bit", "plain")
    made.config[MARK] = "weights that hubq quantized"

    assert lint(made.write()).errors == ()


def test_a_pattern_of_the_ignore_list_counts_as_all_that_it_fits(tmp_path: Path) -> None:
    made = sound(tmp_path / "model")
    made.put(f"{BLOCK}.mlp.down_proj", plain(HIDDEN, INNER))
    made.settings(ignore=["lm_head", "re:.*down_proj"])

    assert lint(made.write()).errors == ()


@pytest.mark.parametrize("pattern", ["re:(", "re:(a*)*b"])
def test_a_pattern_that_can_not_be_used_is_an_error_and_no_wait(
    tmp_path: Path, pattern: str
) -> None:
    made = sound(tmp_path / "model")
    made.settings(ignore=[pattern])
    made.put("a" * 200 + ".c_proj", plain(8, 8))

    assert "missed-by-ignore-list" in {each.rule for each in lint(made.write()).errors}


def with_odd_values(value: Any, odd: object) -> Iterator[Any]:
    """Yield a JSON value with one part of it replaced, for each part in turn."""
    yield odd
    inner = value.items() if isinstance(value, dict) else ()
    for key, each in inner:
        yield from ({**value, key: changed} for changed in with_odd_values(each, odd))
    for number, each in enumerate(value if isinstance(value, list) else ()):
        for changed in with_odd_values(each, odd):
            yield [*value[:number], changed, *value[number + 1 :]]


@pytest.mark.parametrize("odd", [None, True, 0, -1, 2**70, 0.5, "", "re:(", [], [[]], {}, {"": 1}])
@pytest.mark.parametrize("form", ["gptq", "awq", CT])
def test_whatever_a_stranger_writes_into_config_json_is_no_crash(
    form: str, odd: object, tmp_path: Path
) -> None:
    release = sound(tmp_path / "model", form).write()
    whole = {**release.config, "auto_map": {"A": ["b.C"]}}

    for config in with_odd_values(whole, odd):
        if isinstance(config, dict):
            lint(replace(release, config=config))


@pytest.mark.parametrize("shape", [(), (0,), (0, 0), (1, 2, 3), (7, 5), (2**40, 2**20)])
@pytest.mark.parametrize("form", ["gptq", "awq", CT])
def test_tensors_of_any_shape_are_no_crash(
    form: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    release = sound(tmp_path / "model", form).write()

    for name, info in release.tensors.items():
        lint(replace(release, tensors={**release.tensors, name: info._replace(shape=shape)}))
    lint(replace(release, tensors={k: v._replace(shape=shape) for k, v in release.tensors.items()}))


def test_groups_of_another_type_are_no_crash(tmp_path: Path) -> None:
    for number, odd in enumerate(([], {"a": 3}, {"a": {"targets": 3}}, {"a": {"weights": []}})):
        made = sound(tmp_path / str(number))
        made.settings(config_groups=odd)

        assert lint(made.write()).errors
