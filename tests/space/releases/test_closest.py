from dataclasses import replace

from made_models import BASE, interval, made_fidelity, made_model
from made_run import measurement

from releases.comparison import closest, widths
from releases.models import Released

GPTQ = made_model("acme/GPTQ", divergence=0.031)
AWQ = made_model("acme/AWQ", divergence=0.042)


def test_the_model_with_the_least_divergence_is_closest() -> None:
    model, sentence = closest([AWQ, GPTQ], 4)

    assert model is GPTQ
    assert sentence == (
        f"**acme/GPTQ** is closest to {BASE}: its mean KL divergence on xsum is 0.03100 "
        "(95 %: 0.03000 to 0.03200) nats per token, and its most likely next token is the base's "
        "in 96.9 % of places. acme/AWQ follows with 0.04200 (95 %: 0.04100 to 0.04300): "
        "beyond the noise."
    )


def test_a_runner_up_within_the_noise_is_called_so() -> None:
    near = made_model("acme/AWQ", divergence=0.0315)

    _, sentence = closest([near, GPTQ], 4)

    assert "within the noise, so the two can't be told apart" in sentence


def test_only_models_of_that_width_count() -> None:
    wider = made_model("acme/8", bits=8.0, divergence=0.001)

    model, _ = closest([wider, GPTQ], 4)

    assert model is GPTQ


def test_a_model_alone_says_so() -> None:
    _, sentence = closest([GPTQ], 4)

    assert "No other model of this width was measured this way." in sentence


def test_models_that_read_another_text_are_left_out_and_counted() -> None:
    other = made_model("acme/other", fidelity=made_fidelity(0.001, dataset="c4"))

    model, sentence = closest([GPTQ, AWQ, other], 4)

    assert model is GPTQ
    assert "1 more can't be compared: not measured on this text." in sentence


def test_without_divergence_perplexity_decides() -> None:
    first = made_model("acme/A", divergence=None, measurements=(measurement(value=29.0),))
    second = made_model("acme/B", divergence=None, measurements=(measurement(value=31.0),))

    model, sentence = closest([second, first], 4)

    assert model is first
    assert "its perplexity (KL divergence was not measured) on xsum is 1.117 times the" in sentence
    assert "whether that is more than noise is not known" in sentence


def test_perplexities_with_known_differences_can_be_told_apart() -> None:
    def model(name: str, value: float) -> Released:
        one = measurement(value=value, difference=interval(value - 25.97, 0.2), paired=True)
        return made_model(name, divergence=None, measurements=(one,))

    _, sentence = closest([model("acme/A", 29.0), model("acme/B", 31.0)], 4)

    assert "beyond the noise" in sentence


def test_nothing_measured_is_said() -> None:
    model, sentence = closest([made_model(divergence=None, measurements=())], 4)

    assert model is None
    assert "was not measured" in sentence


def test_no_model_of_the_width_is_said() -> None:
    assert closest([GPTQ], 3) == (None, "There is no model with 3 bits here.")


def test_models_of_two_bases_are_not_compared() -> None:
    other = replace(AWQ, base="acme/other")

    model, sentence = closest([GPTQ, other], 4)

    assert model is None
    assert "Choose a base first" in sentence


def test_widths_are_whole_bits() -> None:
    models = [made_model(bits=bits) for bits in (1.1, 1.7, 4.0, 2.0)]

    assert widths(models) == [1, 2, 4]
