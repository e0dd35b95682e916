"""A release made again from its own repo, over HTTP: the same bytes, or how far apart."""

import json
from pathlib import Path
from typing import Any

import pytest
from made_on_a_hub import BASE, GPTQ, PAIRS, RTN, TEXTS, Maker, leaves, pairs
from progress_recorder import Killed, Killing
from safetensors.torch import load_file

from hubq.errors import UserError
from hubq.machine.progress import SILENT, Progress
from hubq.records.checkpoint import Checkpoint
from hubq.records.reproduction import Reproduction
from hubq.records.run_folder import LOCK_IN_A_REPO, REPRODUCTION
from hubq.stages.publish.publish import Publication
from hubq.stages.reproduce.released import Given
from hubq.stages.reproduce.reproduce import Asked, reproduce

QLORA: dict[str, Any] = {
    "name": "qlora",
    "rank": 4,
    "dataset": {"hub": PAIRS},
    "steps": 3,
    "batch_size": 4,
    "held_out": 4,
}
RECIPE = "hubq/recipe.yaml"
NOTHING = Asked()


def again(
    maker: Maker, repo: str, run: Path, asked: Asked = NOTHING, progress: Progress = SILENT
) -> Reproduction:
    return reproduce(repo, run, maker.client, asked, progress)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "again"


@pytest.fixture(scope="module")
def releases(maker: Maker) -> dict[str, Publication]:
    """A release by RTN and one by GPTQ, whose base and data have moved since."""
    text = {"dataset": {"hub": TEXTS}, "length": 32}
    measured = {"perplexity": [text], "fidelity": None, "efficiency": None}
    recipes = {"rtn": maker.recipe(RTN, evaluate=measured), "gptq": maker.recipe(GPTQ)}
    made = {name: maker.published(recipe, name) for name, recipe in recipes.items()}
    maker.put(BASE, {"notes.md": b"Newer than the release.\n"})
    maker.put(TEXTS, {"train.txt": leaves(80, factor=9).encode()}, "dataset")
    return made


@pytest.mark.parametrize("method", ["rtn", "gptq"])
def test_a_release_made_again_has_the_same_bytes_though_base_and_data_moved(
    maker: Maker, releases: dict[str, Publication], method: str, run: Path
) -> None:
    found = again(maker, releases[method].repo, run)

    assert found.verdict == "same bytes"
    assert (found.files_apart, found.remarks) == ((), ())
    assert found.files == len(Checkpoint.load(maker.runs[method] / "checkpoint.json").files)
    assert found == Reproduction.load(run / REPRODUCTION)


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(
    maker: Maker, releases: dict[str, Publication], run: Path
) -> None:
    with pytest.raises(Killed):
        again(maker, releases["gptq"].repo, run, progress=Killing(6, "Quantizing"))

    found = again(maker, releases["gptq"].repo, run)

    assert found.verdict == "same bytes"


def test_a_run_that_was_quantized_on_other_threads_says_so(
    maker: Maker, releases: dict[str, Publication], run: Path
) -> None:
    again(maker, releases["rtn"].repo, run)
    checkpoint = Checkpoint.load(run / "checkpoint.json")
    assert checkpoint.lock is not None
    other = checkpoint.lock.model_copy(update={"threads": 77})
    checkpoint.model_copy(update={"lock": other}).save(run / "checkpoint.json")

    found = again(maker, releases["rtn"].repo, run)

    assert found.remarks == (f"quantized on 77 threads here, on {checkpoint.lock.threads} there",)


def test_a_run_with_measurements_is_left_alone(
    maker: Maker, releases: dict[str, Publication]
) -> None:
    run = maker.runs["rtn"]
    before = (run / "report.json").read_bytes()

    with pytest.raises(UserError, match="a run that was measured"):
        again(maker, releases["rtn"].repo, run)

    assert (run / "report.json").read_bytes() == before


def test_another_option_in_the_repos_recipe_ends_apart_and_says_how_far(
    maker: Maker, releases: dict[str, Publication], run: Path
) -> None:
    repo = maker.tamper(
        releases["gptq"].repo, RECIPE, lambda text: text.replace("damping: 0.01", "damping: 0.5")
    )

    found = again(maker, repo, run)

    assert (found.verdict, f"{found.repo}@{found.commit}") == ("apart", repo)
    assert found.files_apart == ("model.safetensors",)
    assert found.modules == 14
    assert found.codes_apart is not None
    assert 0 < found.codes_apart < 0.5
    (farthest, *_) = found.tensors_apart
    assert farthest.mean is not None
    assert farthest.largest is not None
    assert farthest.step is not None
    assert 0 < farthest.mean < farthest.step <= 1.01 * farthest.largest
    (remark,) = found.remarks
    assert "method.damping: 0.01 there, 0.5 now" in remark


def test_what_was_made_again_is_measured_beside_the_release(
    maker: Maker, releases: dict[str, Publication], run: Path
) -> None:  # seconds: both models are loaded in a process of their own
    repo = maker.tamper(
        releases["rtn"].repo, RECIPE, lambda text: text.replace("bits: 4", "bits: 3")
    )

    found = again(maker, repo, run, Asked(evaluate=True))

    assert found.verdict == "apart"
    assert found.codes_apart is None  # of another width
    assert found.divergence is not None
    assert found.divergence.mean.value > 0
    assert found.text is not None
    assert found.text.startswith("acme/texts (test), acme/texts@")


def test_other_papers_leave_the_codes_the_same(
    maker: Maker, releases: dict[str, Publication], run: Path
) -> None:
    repo = maker.tamper(releases["rtn"].repo, "LICENSE", lambda text: f"Another {text}")

    found = again(maker, repo, run)

    assert (found.verdict, found.files_apart) == ("same codes", ("LICENSE",))


def test_a_repo_holds_its_lock_by_which_other_versions_are_told(
    maker: Maker, releases: dict[str, Publication], run: Path
) -> None:
    repo = releases["rtn"].repo
    changed = maker.tamper(
        repo,
        "hubq/report.json",
        lambda text: text.replace('"safetensors": "', '"safetensors": "9'),
    )

    found = again(maker, changed, run)

    assert found.verdict == "same bytes"
    (remark,) = found.remarks
    assert "safetensors" in remark
    assert f"uv pip sync --python hubq-0.1.0 --torch-backend cpu {run / LOCK_IN_A_REPO}" in remark
    assert "\nsafetensors==9" in (run / LOCK_IN_A_REPO).read_text()
    held = Path(maker.client.api().hf_hub_download(repo, LOCK_IN_A_REPO)).read_text()
    assert "\nsafetensors==" in held
    assert "\nhubq==" not in held  # no index has it
    with pytest.raises(UserError, match="--strict"):
        again(maker, changed, run, Asked(strict=True))


def test_a_release_of_before_there_were_locks_is_made_again_by_its_report(
    maker: Maker, run: Path
) -> None:
    recipe = maker.recipe(GPTQ, publish={"org": "acme", "name": "Old"})
    planned, report = maker.quantized(recipe, "old")
    old = report.checkpoint.model_copy(update={"lock": None, "device": "An old CPU, 1 thread"})
    plan = planned.model_copy(update={"data": {}})
    plan.save(maker.runs["old"] / "plan.json")
    published = maker.published_report(
        report.model_copy(update={"checkpoint": old, "plan": plan}), "old"
    )
    maker.put(TEXTS, {"train.txt": leaves(70, factor=5).encode()}, "dataset")

    found = again(maker, published.repo, run)

    assert found.verdict == "same bytes"
    (remark,) = found.remarks
    assert remark.startswith("the release is of before there were locks")
    assert LOCK_IN_A_REPO not in published.files


@pytest.mark.parametrize("merge", [False, True], ids=["adapter", "merged"])
def test_what_was_adapted_is_made_again_from_the_pairs_that_it_was_planned_with(
    maker: Maker, tmp_path: Path, run: Path, merge: bool
) -> None:
    recipe = maker.recipe(
        RTN,
        adapt={**QLORA, "merge": merge},
        publish={"org": "acme", "name": f"Base-{merge}", "adapted_name": f"Adapted-{merge}"},
    )
    maker.put(PAIRS, {"train.jsonl": pairs(3)}, "dataset")
    name = f"adapted-{merge}"
    made = maker.quantized(recipe, name)
    maker.put(PAIRS, {"train.jsonl": pairs(4)}, "dataset")
    *_, published = maker.published_adapted(*made, name)

    found = again(maker, published.repo, run)

    assert (found.verdict, found.files_apart, found.remarks) == ("same bytes", (), ())
    assert found.quantized_apart == ()
    if not merge:
        scaled = maker.tamper(
            published.repo,
            "adapter_config.json",
            lambda text: text.replace('"lora_alpha": ', '"lora_alpha": 9'),
        )
        (apart,) = again(maker, scaled, run).tensors_apart
        assert apart.name == "adapter_config.json"
        other = again(maker, f"acme/Base-{merge}", tmp_path / "base")
        assert other.verdict == "same bytes"
        tensors = load_file(run / "adapted/model/adapter/adapter_model.safetensors")
        assert any(bool(each.any()) for name, each in tensors.items() if "lora_B" in name)


def test_files_of_the_maker_are_known_by_their_hashes(
    maker: Maker, tmp_path: Path, run: Path
) -> None:
    text, base = maker.folder / "mine.txt", maker.folder / "base"
    text.write_text(leaves(60))
    recipe = maker.recipe(
        GPTQ,
        model={"folder": base, "license": "mit"},
        calibration={"dataset": {"file": text}, "samples": 4, "length": 64},
        publish={"org": "acme", "name": "Local"},
    )
    published = maker.published(recipe, "local")
    other = tmp_path / "other.txt"
    other.write_text(leaves(61))

    with pytest.raises(UserError, match="strangers can't get") as stranger:
        again(maker, published.repo, run)
    with pytest.raises(UserError, match="none of the files"):
        again(maker, published.repo, run, Asked(Given(base, (other,))))
    found = again(maker, published.repo, run, Asked(Given(base, (text,))))

    assert (found.verdict, found.remarks) == ("same bytes", ())
    said = str(stranger.value)
    assert "the base base (sha256:" in said
    assert "the data mine.txt (sha256 " in said
    assert str(maker.folder) not in said


def test_another_base_is_refused(maker: Maker, tmp_path: Path, run: Path) -> None:
    base, other = maker.folder / "base", tmp_path / "other"
    recipe = maker.recipe(
        RTN, model={"folder": base, "license": "mit"}, publish={"org": "acme", "name": "Own"}
    )
    published = maker.published(recipe, "own")
    other.mkdir()
    for path in base.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-5}))

    with pytest.raises(UserError, match="is not the base that acme/Own was made from"):
        again(maker, published.repo, run, Asked(Given(other)))


HOSTILE = {
    "a file of the reader's": ("hub: acme/texts", "file: /etc/passwd", "passwd"),
    "a way out of the folder": ("hub: acme/texts", "file: ../../../secret.txt", "secret.txt"),
    "code": ("model:\n", "trust_remote_code: true\nmodel:\n", "trust_remote_code: no such option"),
    "a plugin": ("  name: gptq", "  name: os.system", "no method is called os.system"),
    "an endpoint": ("hub: acme/texts", "hub: http://127.0.0.1:9/acme/texts", "must be org/name"),
    "a tag": ("samples: 4", "samples: !!python/object/apply:os.getpid []", "not supported"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_recipe_of_a_stranger_names_nothing_but_data(
    maker: Maker, releases: dict[str, Publication], what: str, run: Path
) -> None:
    old, new, said = HOSTILE[what]
    repo = releases["gptq"].repo
    changed = maker.tamper(repo, RECIPE, lambda text: text.replace(old, new))

    with pytest.raises(UserError, match=said):
        again(maker, changed, run)

    assert not (run / "plan.json").exists()


def test_a_dtype_that_is_none_is_refused(
    maker: Maker, releases: dict[str, Publication], run: Path
) -> None:
    repo = releases["gptq"].repo
    changed = maker.tamper(
        repo,
        "hubq/report.json",
        lambda text: text.replace('"compute_dtype": "bfloat16"', '"compute_dtype": "load"'),
    )

    with pytest.raises(UserError, match="'load', which is no dtype"):
        again(maker, changed, run)


def test_what_was_measured_on_no_text_is_not_measured_again(
    maker: Maker, releases: dict[str, Publication], run: Path
) -> None:
    with pytest.raises(UserError, match="was measured on no text"):
        again(maker, releases["gptq"].repo, run, Asked(evaluate=True))

    assert not run.exists()


def test_a_repo_that_hubq_did_not_publish_is_refused(maker: Maker, run: Path) -> None:
    with pytest.raises(UserError, match=f"{BASE} holds no hubq/report.json"):
        again(maker, BASE, run)
