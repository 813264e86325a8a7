"""AgileRL's page "Multi-Agent Training": its code, of which `page/` holds the text, is what the examples run.

The text lost its indentation; statements and their order are the page's.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from gymnasium.spaces import Box, Discrete

from covey.errors import ConfigError
from covey.networks.resize import get_subnetwork
from covey_server import create_population

ROOT = Path(__file__).parents[3]
PAGE = Path(__file__).parent / "page"

EXAMPLES = {
    "page_off_policy": ("vectorised", "create_maddpg", "memory", "train_off_policy"),
    "page_custom_loop": ("custom_loop",),
    "page_on_policy": ("create_ippo", "train_on_policy"),
}

SHORTER = """
budget = {name: int(os.environ[name.upper()]) for name in ("max_steps", "evo_steps") if name.upper() in os.environ}
"""
PREAMBLES = {
    "page_off_policy": SHORTER
    + """
def train_multi_agent_off_policy(**arguments):
return covey_server.train_multi_agent_off_policy(**{**arguments, **budget})
TOURNAMENT AND MUTATIONS
""",
    "page_custom_loop": """
is_vectorised = True
sum_scores = True
max_steps, evo_steps = int(os.environ.get("MAX_STEPS", max_steps)), int(os.environ.get("EVO_STEPS", evo_steps))
""",
    "page_on_policy": SHORTER
    + """
def train_multi_agent_on_policy(env, **arguments):
return covey_server.train_multi_agent_on_policy(env, **{**arguments, **budget})
INIT_HP = {
"BATCH_SIZE": 128,
"LR": 0.001,
"GAMMA": 0.99,
"GAE_LAMBDA": 0.95,
"ENT_COEF": 0.05,
"LEARN_STEP": 2048,
"POP_SIZE": 4,
}
MUTATION_PARAMS = {"NO_MUT": 0.2, "ARCH_MUT": 0.2, "NEW_LAYER": 0.2, "PARAMS_MUT": 0.2, "ACT_MUT": 0, "RL_HP_MUT": 0.2}
accelerator = None
TOURNAMENT AND MUTATIONS
""",
}
"""All that the examples have beside the page's statements: what it leaves undefined, and a way to shorten runs."""


def page(name: str) -> list[str]:
    """The lines of a snippet but for imports and comments, spaces evened out."""
    return statements((PAGE / f"{name}.txt").read_text())


def statements(text: str) -> list[str]:
    lines = (" ".join(line.partition("# ")[0].split()) for line in text.splitlines())
    return [line for line in lines if line and not line.startswith(("import ", "from "))]


def test_each_example_is_the_page_and_a_preamble() -> None:
    loop = page("custom_loop")
    selection = loop[loop.index("tournament = TournamentSelection(") : loop.index("max_steps = 1000000")]
    for example, snippets in EXAMPLES.items():
        wanted = [line for name in snippets for line in page(name)]
        docstring, _, code = (ROOT / "examples" / f"{example}.py").read_text().removeprefix('"""').partition('"""')
        assert docstring
        added, left = [], iter(wanted)
        expected = next(left)
        for line in statements(code):
            if line == expected:
                expected = next(left, "")
            else:
                added.append(line)
        assert expected == "", f"{example} lacks the page's {expected!r}"
        preamble = statements(PREAMBLES[example])
        at = preamble.index("TOURNAMENT AND MUTATIONS") if "TOURNAMENT AND MUTATIONS" in preamble else len(preamble)
        preamble[at : at + 1] = selection if at < len(preamble) else []
        assert added == preamble


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_example_runs(example: str) -> None:
    environment = os.environ | {"MAX_STEPS": "400", "EVO_STEPS": "200", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", str(ROOT / "examples" / f"{example}.py")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    told = result.stdout + result.stderr
    assert told.count("Fitnesses: ['-") == 2, told  # two generations, each evaluated
    assert "Steps: [400, 400, 400, 400]" in told


ON_A_GPU = """
import runpy, sys, torch
runpy.run_path(sys.argv[1], run_name="__main__")
print("bytes on the GPU:", torch.cuda.max_memory_allocated())
"""


@pytest.mark.cuda
@pytest.mark.parametrize("example", EXAMPLES)
def test_the_example_runs_on_a_gpu(example: str) -> None:
    environment = os.environ | {"MAX_STEPS": "400", "EVO_STEPS": "200", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, "-c", ON_A_GPU, str(ROOT / "examples" / f"{example}.py")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    told = result.stdout + result.stderr
    assert "Steps: [400, 400, 400, 400]" in told
    assert int(result.stdout.rpartition("bytes on the GPU: ")[2]) > 0
    assert "all updates are eager" not in told  # what captures say of updates that are not those they were made of


AGENTS = """
bob_0: {latent_dim: 32, encoder_config: {hidden_size: [32], activation: ReLU}, head_config: {hidden_size: [32]}}
bob_1: {latent_dim: 32, encoder_config: {hidden_size: [64, 64], activation: ReLU}, head_config: {hidden_size: [32]}}
fred_0: {latent_dim: 32, encoder_config: {hidden_size: [64, 64], activation: ReLU}, head_config: {hidden_size: [32]}}
fred_1: {latent_dim: 32, encoder_config: {hidden_size: [64, 64], activation: ReLU}, head_config: {hidden_size: [32]}}
"""
GROUPS = """
bob: {latent_dim: 32, encoder_config: {hidden_size: [32], activation: ReLU}, head_config: {hidden_size: [32]}}
fred: {latent_dim: 32, encoder_config: {hidden_size: [64, 64], activation: ReLU}, head_config: {hidden_size: [32]}}
"""
ALL = "{latent_dim: 32, encoder_config: {hidden_size: [32], activation: ReLU}, head_config: {hidden_size: [32]}}"


def hidden_sizes(algo: str, net_config: str) -> dict[str, tuple[int, ...]]:
    """Of the encoders of all policies of an agent for the page's four agents."""
    names: dict[str, Any] = {"Box": Box, "Discrete": Discrete}
    exec((PAGE / "definition.txt").read_text(), names)
    hyperparameters = {"AGENT_IDS": names["agent_ids"]}
    spaces = names["observation_spaces"], names["action_spaces"]
    (agent,) = create_population(algo, *spaces, yaml.safe_load(net_config), hyperparameters)
    networks = agent.member.networks
    return {
        name: get_subnetwork(n.spec, "encoder.observation").hidden_size
        for name, n in networks.items()
        if name.startswith("actor/")
    }


def test_the_pages_architectures_are_built() -> None:
    sizes = {"bob_0": (32,), "bob_1": (64, 64), "fred_0": (64, 64), "fred_1": (64, 64)}
    assert hidden_sizes("MADDPG", AGENTS) == {f"actor/{agent}": size for agent, size in sizes.items()}
    assert hidden_sizes("MADDPG", GROUPS) == {f"actor/{a}": (32,) if a < "c" else (64, 64) for a in sizes}
    assert hidden_sizes("IPPO", GROUPS) == {"actor/bob": (32,), "actor/fred": (64, 64)}
    assert hidden_sizes("IPPO", ALL) == {"actor/bob": (32,), "actor/fred": (32,)}
    with pytest.raises(ConfigError, match=r"network\.bob_0: agents of group 'bob' share one policy"):
        hidden_sizes("IPPO", AGENTS)
