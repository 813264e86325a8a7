"""One command trains an evolving population; what it leaves behind answers questions."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.processes import ENVIRONMENT, covey, covey_json, newest_run, write_config


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    """A finished run of three generations, and the last line that it printed."""
    folder = tmp_path_factory.mktemp("trained")
    config = write_config(folder / "small.yaml", training={"max_steps": 1300, "evo_steps": 500})
    result = covey_json("train", config, "--runs", folder / "runs", "--json")
    return newest_run(folder / "runs"), result


def test_train_reports_the_whole_run(trained: tuple[Path, dict[str, object]]) -> None:
    run, result = trained
    assert result["env_steps"] == 4 * 1300 and result["generations"] == 3
    assert Path(str(result["run_dir"])).name == run.name
    assert isinstance(result["best_fitness"], float) and isinstance(result["best_fitness_stderr"], float)
    assert result["env_steps_per_s"] == pytest.approx(5200 / float(str(result["wall_s"])), rel=0.01)


def test_every_living_member_has_exactly_its_steps(trained: tuple[Path, dict[str, object]]) -> None:
    run, _ = trained
    members = covey_json("members", run, "--json")["members"]
    assert [m["env_steps"] for m in members] == [1300] * 4
    keys = {"member_id", "parent_id", "generation", "env_steps", "updates", "fitness", "architecture"}
    assert keys | {"hyperparameters", "mutation"} <= set(members[0])


def test_lineage_has_everybody_who_ever_lived(trained: tuple[Path, dict[str, object]]) -> None:
    run, _ = trained
    lineage = covey_json("lineage", run, "--json")["members"]
    living = {m["member_id"] for m in covey_json("members", run, "--json")["members"]}
    ids = [m["member_id"] for m in lineage]
    assert len(ids) == len(set(ids)) and living <= set(ids)
    assert {m["member_id"] for m in lineage if m["died_generation"] is None} == living
    for member in lineage:
        assert member["parent_id"] is None or member["parent_id"] < member["member_id"]
        assert member["fitness"] is not None, "every member was evaluated before it was replaced"


def test_children_are_compared_with_parents_that_went_on(trained: tuple[Path, dict[str, object]]) -> None:
    run, _ = trained
    lineage = {m["member_id"]: m for m in covey_json("lineage", run, "--json")["members"]}
    assert all(m["first_fitness"] is not None for m in lineage.values()), "the last generation's too"
    children = [m for m in lineage.values() if m["parent_id"] is not None]
    for child in children:
        parent = lineage[child["parent_id"]]
        went_on = parent["died_generation"] is None or parent["died_generation"] > child["generation"]
        assert (child["parent_fitness"] is not None) == went_on
        if went_on and parent["died_generation"] == child["generation"] + 1:
            assert child["parent_fitness"] == parent["fitness"]
    worth = covey_json("lineage", run, "--worth", "--json")
    assert sum(kind["children"] for kind in worth["kinds"] if not kind["change"]) == len(children) == 6
    compared = sum(kind["compared"] for kind in worth["kinds"] if not kind["change"])
    assert compared >= sum(m["parent_fitness"] is not None for m in children)


def test_kept_generations_play_a_hundred_of_the_best_policys_episodes(trained: tuple[Path, dict[str, object]]) -> None:
    run, _ = trained
    covey_json("evaluate", run, "--keep", "--episodes", 130, "--seed", 7, "--json")
    kept = json.loads((run / "evaluations.json").read_text())
    assert (kept["episodes"], kept["seed"], kept["best"]["episodes"]) == (130, 7, 130)
    assert [g["episodes"] for g in kept["generations"]] == [100] * 3


def test_the_best_member_can_be_evaluated_without_a_learner(trained: tuple[Path, dict[str, object]]) -> None:
    run, _ = trained
    first = covey_json("evaluate", run, "--episodes", 6, "--seed", 5, "--json")
    again = covey_json("evaluate", run, "--episodes", 6, "--seed", 5, "--json")
    other = covey_json("evaluate", run, "--episodes", 6, "--seed", 6, "--json")
    assert first == again and first["mean_return"] != other["mean_return"]
    assert first["episodes"] == 6 and first["mean_return"] == pytest.approx(sum(first["per_agent"].values()))
    living = covey_json("members", run, "--json")["members"]
    for member in living:
        assert covey_json("evaluate", run, "--member", member["member_id"], "--episodes", 1, "--json")


def test_a_finished_run_answers_status_and_actors(trained: tuple[Path, dict[str, object]]) -> None:
    run, _ = trained
    status = covey_json("status", run, "--json")
    assert status["state"] == "complete" and status["env_steps"] == 5200
    assert status["wire_bytes"] < status["raw_bytes"]
    actors = covey_json("actors", run, "--json")["actors"]
    assert sum(a["env_steps"] for a in actors) == 5200
    assert json.loads((run / "result.json").read_text())["state"] == "complete"


@pytest.mark.parametrize("algorithm", ["MATD3", "IPPO"])
def test_updates_import_nothing_of_torch_compile(algorithm: str, tmp_path: Path) -> None:
    # Actors would wait for it.
    config = write_config(tmp_path / "lean.yaml", algorithm={"name": algorithm})
    program = (
        "import sys; from covey.cli import run; "
        f"code = run(['train', {str(config)!r}, '--runs', {str(tmp_path)!r}, '--json']); "
        "sys.exit(code or ' '.join({'sympy', 'torch._dynamo', 'torch._inductor'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["updates"] > 0


@pytest.mark.parametrize(
    ("override", "words", "code"),
    [
        ("algorithm.lr_actr=1", ["algorithm.lr_actr", "lr_actor"], 2),
        ("algorithm.gamma=1.5", ["algorithm.gamma", "1.5"], 2),
        ("environment.name=mpe2.no_such_task", ["mpe2.no_such_task"], 3),
        ("environment.name=tests.support.environments:not_there", ["not_there"], 3),
        ("environment.config={continuous: 1}", ["continuous"], 3),
        ("network={nobody_0: {latent_dim: 8}}", ["nobody_0", "speaker"], 2),
        ("fitness.agents=[nobody]", ["fitness.agents", "nobody", "speaker_0"], 2),
        ("learner.device=cuda:7", ["learner.device", "cuda:7"], 2),
        ("learner.device=meta", ["learner.device", "meta", "use cpu"], 2),
        ("learner.updates=graph", ["learner.updates", "graph", "CUDA", "auto"], 2),
    ],
)
def test_bad_input_is_one_sentence(tmp_path: Path, override: str, words: list[str], code: int) -> None:
    config = write_config(tmp_path / "bad.yaml")
    done = covey("train", config, "--runs", tmp_path / "runs", "--set", override)
    assert done.returncode == code, done.stderr
    sentence = done.stderr.strip().splitlines()[-1]
    assert sentence.startswith("covey: error: ") and "Traceback" not in done.stderr
    assert all(word in done.stderr for word in words), done.stderr
