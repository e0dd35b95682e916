"""The command line: whole outputs, exit codes, and how long --help may take."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
import yaml
from click.testing import CliRunner, Result
from command_line import hubq
from faulty_hub import FaultyHub

from hubq.cli import cli
from hubq.cli.bars import Lines
from hubq.machine.progress import Clock
from hubq.stages.publish.afterwards import Followed
from hubq.stages.publish.publish import Publication

HEAVY = ("torch", "transformers", "huggingface_hub", "lm_eval", "pydantic", "numpy", "rich", "yaml")


def refused(result: Result) -> str:
    """Return the message of a command that failed as it should: exit code 1, no traceback."""
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    return result.stderr


@pytest.fixture(autouse=True)
def _columns(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def recipe(own_folder: Path, tiny_model: Callable[[str], Path]) -> Path:
    """Write a recipe of RTN for a tiny model, without measurements."""
    values = {
        "model": {"folder": str(tiny_model("llama")), "base_model": "acme/tiny"},
        "method": {"name": "rtn", "bits": 4, "group_size": 32},
        "publish": {"org": "acme"},
    }
    path = own_folder / "mine.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_importing_the_command_line_imports_nothing_heavy() -> None:
    code = f"import sys, hubq.cli; print([each for each in {HEAVY} if each in sys.modules])"

    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ended.stdout.strip() == "[]"


def commands(group: click.Group, *above: str) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, *above, name)
        else:
            yield (*above, name)


@pytest.mark.parametrize("path", list(commands(cli)), ids=" ".join)
def test_every_command_has_help_with_an_example(path: tuple[str, ...]) -> None:
    said = hubq(*path, "--help").output

    assert re.search(rf"Example:\n    hubq {' '.join(path)}\b", said)


def test_commands_stand_in_the_order_of_the_work() -> None:
    said = hubq("--help").output

    listed = re.findall(r"^  (\w+)  ", said.partition("Commands:")[2], re.MULTILINE)
    assert listed[:6] == ["plan", "quantize", "adapt", "evaluate", "card", "publish"]


def test_a_plan_is_a_table_and_facts(recipe: Path) -> None:
    said = hubq("plan", recipe).output

    lines = [line.strip() for line in said.splitlines() if line.strip()]
    assert lines[0] == "mine: LlamaForCausalLM"
    assert re.match(r"weights +becomes +number +out x in +bits +on disk", lines[1])
    assert re.match(r"embed_tokens +bfloat16 +1 +260 x 64 +16\.000 +0\.0 MB", lines[3])
    assert re.match(r"self_attn\.q_proj +rtn +2 +64 x 64 +4\.656 +0\.0 MB", lines[4])
    assert lines[-1] == "repo              acme/tiny-RTN-4bit (not checked: no token)"


@pytest.mark.usefixtures("nothing_tried")
def test_a_plan_as_json_is_the_record_and_nothing_else(recipe: Path, own_folder: Path) -> None:
    said = hubq("plan", recipe, "--json").stdout

    saved = json.loads((own_folder / "runs" / "mine" / "plan.json").read_text())
    told = json.loads(said)
    estimate = told.pop("estimate")
    beside = {"destination": "not checked: no token", "goes_on": None, "by_blocks": None}
    assert told.pop("storage") == "about 0.1 MB more; not compared: no token"
    assert told.pop("disk") == 2 * saved["bytes"]  # nothing flows: there are no states
    vllm = told.pop("lint")["engines"]["vLLM"]
    assert vllm == {"loads": True, "rules": [], "known": "by its sources"}
    assert told == saved | beside | {"does_not_fit": []}
    assert estimate["seconds"]["quantize"]["solving"] > 0


def test_a_plan_for_a_gpu_elsewhere_names_its_source(recipe: Path) -> None:
    said = hubq("plan", recipe, "--for", "4090").output

    (line,) = [line for line in said.splitlines() if line.startswith("time ")]
    assert "GeForce RTX 4090, by NVIDIA Ada" in line


def test_a_gpu_without_published_figures_is_refused(recipe: Path) -> None:
    said = refused(hubq("plan", recipe, "--for", "h1000"))

    assert "no published figures for h1000; did you mean h100?" in said


def test_a_mistake_in_a_recipe_is_one_message_and_exit_code_1(own_folder: Path) -> None:
    (own_folder / "mine.yaml").write_text("modle: a/b\nmethod: rtn\npublish: {org: me}\n")

    said = refused(hubq("plan", "mine.yaml"))

    assert said == (
        "mine.yaml is no recipe:\n"
        "  line 1  model: is missing\n"
        "  line 1  modle: no such option; did you mean model?\n"
    )


def test_a_wrong_use_is_exit_code_2() -> None:
    assert hubq("plan").exit_code == 2


def test_a_hub_that_is_no_address_is_a_wrong_use(recipe: Path) -> None:
    result = hubq("plan", recipe, "--hub", "locla")

    assert result.exit_code == 2
    assert "write https://... or local" in result.stderr


def test_another_recipe_in_the_run_folder_is_refused(recipe: Path) -> None:
    hubq("plan", recipe)
    recipe.write_text(recipe.read_text().replace("bits: 4", "bits: 3"))

    said = refused(hubq("plan", recipe))

    assert "method.bits: 4 there, 3 now" in said


def test_a_recipe_that_only_measures_otherwise_keeps_the_model(
    recipe: Path, own_folder: Path
) -> None:
    hubq("plan", recipe)
    run = own_folder / "runs" / "mine"
    (run / "checkpoint.json").write_text("{}")
    (run / "report.json").write_text("{}")
    recipe.write_text(recipe.read_text() + "evaluate: {require: {stored_bits: 9}}\n")

    result = hubq("plan", recipe)

    assert result.exit_code == 0, result.output
    saved = json.loads((run / "plan.json").read_text())
    assert saved["recipe"]["evaluate"]["require"]["stored_bits"] == 9
    assert (run / "checkpoint.json").exists()
    assert not (run / "report.json").exists()


def test_budgets_that_cannot_be_kept_are_refused_by_plan(recipe: Path) -> None:
    recipe.write_text(recipe.read_text() + "evaluate: {require: {stored_bits: 4}}\n")

    assert "this recipe will store 4.649" in refused(hubq("plan", recipe))


def test_fresh_replaces_the_run_folder(recipe: Path, own_folder: Path) -> None:
    hubq("plan", recipe)
    recipe.write_text(recipe.read_text().replace("bits: 4", "bits: 3"))

    result = hubq("plan", recipe, "--fresh")

    assert result.exit_code == 0
    saved = json.loads((own_folder / "runs" / "mine" / "plan.json").read_text())
    assert saved["recipe"]["method"]["bits"] == 3


def test_a_folder_that_is_no_run_is_neither_used_nor_cleared(
    recipe: Path, own_folder: Path
) -> None:
    (own_folder / "thesis").mkdir()
    (own_folder / "thesis" / "chapter.txt").write_text("years of work")

    for more in ([], ["--fresh"]):
        said = refused(hubq("plan", recipe, "--run", "thesis", *more))

        assert "nothing was written or removed there" in said
        assert [path.name for path in (own_folder / "thesis").iterdir()] == ["chapter.txt"]


def test_fresh_removes_nothing_when_the_new_plan_is_refused(recipe: Path, own_folder: Path) -> None:
    hubq("plan", recipe)
    precious = own_folder / "runs" / "mine" / "model"
    precious.mkdir()
    recipe.write_text(recipe.read_text().replace("group_size: 32", "group_size: 48"))

    said = refused(hubq("plan", recipe, "--fresh"))

    assert "does not divide" in said
    assert precious.exists()


def test_fresh_removes_all_of_the_old_run(recipe: Path, own_folder: Path) -> None:
    hubq("plan", recipe)
    run = own_folder / "runs" / "mine"
    (run / "model").mkdir()
    (run / "report.json").write_text("{}")

    hubq("plan", recipe, "--fresh")

    assert [path.name for path in run.iterdir()] == ["plan.json"]


def test_a_run_folder_that_another_process_uses_is_refused_until_it_ends(
    recipe: Path, own_folder: Path
) -> None:
    run = own_folder / "runs" / "mine"
    code = (
        "import pathlib, time; from hubq.records.run_folder import locked\n"
        f"with locked(pathlib.Path({str(run)!r})): print('locked', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()

        said = refused(hubq("plan", recipe))
        other.kill()

    assert said.startswith("another hubq process is using runs/mine.")
    assert hubq("plan", recipe).exit_code == 0


def test_a_full_disk_is_a_message(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "runs/mine/plan.json.partial")

    monkeypatch.setattr(os, "replace", full)

    said = refused(hubq("plan", recipe))

    assert said == (
        "no space left on the disk (runs/mine/plan.json.partial). "
        "Make room, then run again to continue.\n"
    )


def test_too_little_memory_is_a_message(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "replace", lambda *_: bytearray(1 << 60))

    said = refused(hubq("plan", recipe))

    assert said == (
        "hubq ran out of memory: free memory, or use a machine with more of it, then run again\n"
    )


def test_a_folder_that_may_not_be_written_is_a_message(recipe: Path, own_folder: Path) -> None:
    (own_folder / "runs").write_text("a file where a folder should be")

    said = refused(hubq("plan", recipe))

    assert "Fix this, then run again" in said


def test_ctrl_c_is_exit_code_130_and_says_how_to_go_on(own_folder: Path) -> None:
    # A real process and a real signal, while it reads a recipe that never ends: two seconds.
    endless = own_folder / "endless.yaml"
    os.mkfifo(endless)
    command = [sys.executable, "-m", "hubq", "plan", str(endless)]
    with (
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as planning,
        endless.open("w"),  # returns when the process has opened it too
    ):
        planning.send_signal(signal.SIGINT)
        _, said = planning.communicate(timeout=30)

    assert planning.returncode == 130
    assert said == "\nInterrupted. Finished work is kept: run again to continue.\n"


@pytest.fixture
def stopped(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> Result:
    """Return what a run says that gets SIGTERM once a block of two is done."""
    replace = os.replace

    def put(source: Path, target: Path) -> None:
        replace(source, target)
        if Path(target).name == "block-00000.json":
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", put)
        return hubq("quantize", recipe)


def test_a_run_that_is_told_to_end_says_where_it_will_go_on(stopped: Result) -> None:
    assert stopped.exit_code == 130
    assert stopped.stderr.splitlines()[-2:] == [
        "Interrupted. Finished work is kept: run again to continue.",
        "Quantizing will go on after block 1 of 2.",
    ]


@pytest.mark.usefixtures("stopped")
def test_a_run_that_was_stopped_says_where_it_goes_on(recipe: Path) -> None:
    planned, as_json = hubq("plan", recipe), hubq("plan", recipe, "--json")
    quantized = hubq("quantize", recipe)

    assert "goes on           after block 1 of 2" in planned.output.splitlines()
    assert json.loads(as_json.stdout)["goes_on"] == "after block 1 of 2"
    assert quantized.stderr.splitlines()[0] == "runs/mine goes on after block 1 of 2"
    assert "goes on" not in hubq("plan", recipe).output


def test_the_recipes_are_listed_with_whom_they_are_for() -> None:
    said = hubq("recipes").output

    assert re.search(r"^quickstart_awq_4bit +For a first try without a GPU", said, re.MULTILINE)


def test_a_copied_recipe_is_the_shipped_one(own_folder: Path) -> None:
    result = hubq("copy", "awq_4bit", "mine.yaml")

    shipped = Path(__file__).parents[2] / "recipes" / "awq_4bit.yaml"
    assert result.output == "mine.yaml: set publish.org, then run: hubq plan mine.yaml\n"
    assert (own_folder / "mine.yaml").read_text() == shipped.read_text()


def test_a_copy_overwrites_nothing(own_folder: Path) -> None:
    (own_folder / "mine.yaml").write_text("mine")

    said = refused(hubq("copy", "awq_4bit", "mine.yaml"))

    assert "is not overwritten" in said
    assert (own_folder / "mine.yaml").read_text() == "mine"


def test_a_recipe_that_is_not_shipped_names_the_nearest() -> None:
    assert "did you mean awq_4bit?" in refused(hubq("copy", "awq4bit", "mine.yaml"))


def test_the_methods_are_listed_with_their_options() -> None:
    found = json.loads(hubq("methods", "--json").stdout)

    assert found["rtn"]["needs"] == []
    options = ["bits", "group_size", "symmetric", "activations"]
    assert [each["name"] for each in found["rtn"]["options"]] == options


def test_a_method_tells_its_bits_and_the_formats_that_hold_them() -> None:
    found = json.loads(hubq("methods", "--json").stdout)

    assert found["gptq"]["bits"] == [2, 3, 4, 8]
    assert found["gptq"]["formats"] == {
        "awq": [4],
        "compressed-tensors": [2, 3, 4, 8],
        "gptq": [2, 3, 4, 8],
        "hubq": [2, 3, 4, 8],
    }


def test_the_methods_are_a_table() -> None:
    said = hubq("methods").output

    assert re.search(r"^ *method +bits +options +formats: bits", said, re.MULTILINE)
    assert re.search(r"^ *awq +2 3 4 8 +group_size 128 +awq: 4 *$", said, re.MULTILINE)
    assert "https://arxiv.org/abs/2306.00978" in said


def test_a_quantized_head_is_said_to_be_rounded(recipe: Path) -> None:
    values = yaml.safe_load(recipe.read_text())
    method = {"name": "gptq", "bits": 4, "group_size": 32, "symmetric": True}
    (recipe.parent / "text.txt").write_text("a llama")
    calibration = {"dataset": "./text.txt", "samples": 1, "length": 4}
    changed = values | {"method": method, "calibration": calibration, "embeddings": 8}
    recipe.write_text(yaml.safe_dump(changed))

    said = hubq("plan", recipe).output

    assert re.search(r"^ *lm_head +rtn ", said, re.MULTILINE)


def test_a_plan_says_which_conversations_calibrate_and_how(recipe: Path) -> None:
    values = yaml.safe_load(recipe.read_text())
    row = {"question": "How many llamas?", "answer": "Seven."}
    (recipe.parent / "talks.jsonl").write_text(f"{json.dumps(row)}\n" * 3)
    dataset = {"file": "./talks.jsonl", "user": "question", "assistant": "answer"}
    calibration = {"dataset": dataset, "samples": 2, "length": 64}
    method = {"name": "gptq", "group_size": 32}
    recipe.write_text(yaml.safe_dump(values | {"method": method, "calibration": calibration}))

    said = " ".join(hubq("plan", recipe).output.split())

    assert "calibrates on 2 conversations of" in said
    assert "talks.jsonl, by the model's chat template, each cut at 64 tokens" in said


def test_the_schema_is_json() -> None:
    assert json.loads(hubq("schema").stdout)["title"] == "hubq recipe"


def test_a_plan_says_that_the_organization_is_writable(recipe: Path, hub: FaultyHub) -> None:
    said = hubq("plan", recipe, "--hub", hub.endpoint).output

    assert "repo              acme/tiny-RTN-4bit (ann may write to acme)" in said


def test_an_organization_that_is_not_writable_is_refused_by_plan(
    recipe: Path, hub: FaultyHub
) -> None:
    recipe.write_text(recipe.read_text().replace("org: acme", "org: strangers"))

    said = refused(hubq("plan", recipe, "--hub", hub.endpoint))

    assert "ann may not write to strangers" in said


def test_publish_asks_for_write_access_before_it_computes(
    recipe: Path, hub: FaultyHub, own_folder: Path
) -> None:
    recipe.write_text(recipe.read_text().replace("org: acme", "org: strangers"))

    refused(hubq("publish", recipe, "--hub", hub.endpoint))

    assert [path.name for path in (own_folder / "runs" / "mine").iterdir()] == ["plan.json"]


def test_publish_goes_all_the_way_the_second_time_does_nothing_and_pull_brings_it(
    recipe: Path, hub: FaultyHub, own_folder: Path
) -> None:
    # The whole chain with a real model loader in a fresh process: about ten seconds.
    first = hubq("publish", recipe, "--hub", hub.endpoint)
    assert first.exit_code == 0, first.output
    before = {path: path.stat().st_mtime_ns for path in (own_folder / "runs").rglob("model/*")}

    second = hubq("publish", recipe, "--hub", hub.endpoint)

    run, card, repo, *_ = second.stdout.splitlines()
    assert run == "run   runs/mine"
    assert card == "card  runs/mine/README.md"
    assert re.fullmatch(
        rf"repo  {hub.endpoint}/acme/tiny-RTN-4bit "
        r"\(private, commit [0-9a-f]{12}, \d+ files verified\)",
        repo,
    )
    assert repo == first.stdout.splitlines()[2]
    seen, among, took = first.stdout.splitlines()[3:6]
    assert seen.startswith("seen  loaded by transformers: the same logits as the local folder")
    assert among.startswith(f"among {hub.endpoint}/collections/acme/tiny-quantized-private-")
    assert took.startswith("took  ")
    assert before == {
        path: path.stat().st_mtime_ns for path in (own_folder / "runs").rglob("model/*")
    }

    pulled = hubq("pull", "acme/tiny-RTN-4bit", "here", "--hub", hub.endpoint, "--json")

    folder = own_folder / "here"
    told = json.loads(pulled.stdout)
    assert (told["repo"], told["folder"]) == ("acme/tiny-RTN-4bit", str(folder))
    assert (folder / "model.safetensors").is_file()


def test_what_went_to_the_embedded_hub_can_be_looked_at(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = Publication(
        endpoint="http://127.0.0.1:1",
        repo="acme/x",
        commit="0" * 40,
        url="http://127.0.0.1:1/acme/x",
        private=True,
        files={},
    )
    asked = SimpleNamespace(adapt=None)
    stage = SimpleNamespace(run=Path("runs/mine"), recipe=asked, clock=Clock(), parts={})
    monkeypatch.setattr("hubq.cli.stages.stages", lambda *given: nullcontext(stage))
    monkeypatch.setattr("hubq.cli.stages.publications", lambda *_, **__: (done,))
    monkeypatch.setattr("hubq.cli.stages.follow", lambda *given, collection: Followed())

    here, elsewhere = (hubq("publish", recipe, "--hub", x) for x in ("local", "http://a.b"))

    assert here.stdout.splitlines()[3] == "look  hubq hub serve: shows acme/x in a browser"
    assert "look" not in elsewhere.stdout


def test_a_model_of_a_folder_answers_a_prompt(tiny_model: Callable[[str], Path]) -> None:
    result = hubq("chat", tiny_model("llama"), "hello", "--max-new-tokens", 3)

    assert result.exit_code == 0, result.output


def test_a_conversation_ends_with_the_input(tiny_model: Callable[[str], Path]) -> None:
    folder = str(tiny_model("llama"))

    result = CliRunner().invoke(cli, ["chat", folder, "--max-new-tokens", "1"], input="hello\n\n")

    assert result.exit_code == 0, result.output
    assert "ends the conversation" in result.stderr


def test_a_token_of_the_embedded_hub_is_printed_alone(tmp_path: Path) -> None:
    result = hubq("hub", "token", "--root", tmp_path / "hub", "--org", "acme")

    assert re.fullmatch(r"hf_\S{30,}\n", result.stdout)


def test_doctor_speaks_json(hub: FaultyHub) -> None:
    found = json.loads(hubq("doctor", "--json", "--hub", hub.endpoint).stdout)

    assert found["user"] == "ann"


def test_lines_tell_the_start_and_the_end_of_a_task(capsys: pytest.CaptureFixture[str]) -> None:
    with Lines().task("counting", 4) as advance:
        advance(4)

    assert capsys.readouterr().err == "counting ...\ncounting: done in 0 s\n"


def test_a_plan_says_what_storage_is_left_and_what_will_not_fit(
    recipe: Path, hub: FaultyHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUBQ_STORAGE", "1KB")

    text = hubq("plan", recipe, "--hub", hub.endpoint).output

    assert "of 0.0 MB left for private repos of acme (by HUBQ_STORAGE)" in text
    assert "does not fit      not enough storage at http" in text


def test_what_will_not_fit_is_told_before_anything_is_computed(
    recipe: Path, own_folder: Path, hub: FaultyHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUBQ_STORAGE", "1KB")

    said = refused(hubq("publish", recipe, "--hub", hub.endpoint))

    assert "; nothing was computed" in said
    assert not (own_folder / "runs" / "mine" / "model").exists()
