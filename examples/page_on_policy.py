"""AgileRL's page "Multi-Agent Training", its on-policy part line by line; only the imports are covey's.

Run it: python examples/page_on_policy.py
"""

import os

import torch
from mpe2 import simple_speaker_listener_v4

import covey_server
from covey import AsyncPettingZooVecEnv, HyperparameterConfig, RLParameter
from covey_server import Mutations, TournamentSelection, create_population

# MAX_STEPS and EVO_STEPS in the environment shorten the run.
budget = {name: int(os.environ[name.upper()]) for name in ("max_steps", "evo_steps") if name.upper() in os.environ}


def train_multi_agent_on_policy(env, **arguments):
    return covey_server.train_multi_agent_on_policy(env, **{**arguments, **budget})


# What the page leaves undefined here
INIT_HP = {
    "BATCH_SIZE": 128,  # Batch size
    "LR": 0.001,  # Learning rate
    "GAMMA": 0.99,  # Discount factor
    "GAE_LAMBDA": 0.95,  # Lambda of the advantage estimate
    "ENT_COEF": 0.05,  # Weight of the entropy
    "LEARN_STEP": 2048,  # Env steps of a rollout
    "POP_SIZE": 4,  # Population size
}
MUTATION_PARAMS = {"NO_MUT": 0.2, "ARCH_MUT": 0.2, "NEW_LAYER": 0.2, "PARAMS_MUT": 0.2, "ACT_MUT": 0, "RL_HP_MUT": 0.2}
accelerator = None

# Create a Population of Agents
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

# Define the network configuration
NET_CONFIG = {
    "speaker_0": {
        "encoder_config": {"hidden_size": [32, 32], "activation": "ReLU"},
        "head_config": {"hidden_size": [32]},
    },
    "listener_0": {
        "encoder_config": {"hidden_size": [32, 32], "activation": "ReLU"},
        "head_config": {"hidden_size": [32]},
    },
}

# Define the simple speaker listener environment as a parallel environment
num_envs = 8
env = AsyncPettingZooVecEnv(
    [
        lambda: simple_speaker_listener_v4.parallel_env(continuous_actions=True)
        for _ in range(num_envs)
    ]
)
env.reset()

# Configure the multi-agent algo input arguments
observation_spaces = [env.single_observation_space(agent) for agent in env.agents]
action_spaces = [env.single_action_space(agent) for agent in env.agents]

# Append number of agents and agent IDs to the initial hyperparameter dictionary
INIT_HP["AGENT_IDS"] = env.agents

# Mutation config for RL hyperparameters
hp_config = HyperparameterConfig(
    lr = RLParameter(min=1e-4, max=1e-2),
    batch_size = RLParameter(min=8, max=1024),
    learn_step = RLParameter(min=256, max=8192, grow_factor=1.5, shrink_factor=0.75)
)

# Create a population ready for evolutionary hyper-parameter optimisation
population_size = 4
pop = create_population(
    "IPPO",
    observation_spaces,
    action_spaces,
    NET_CONFIG,
    INIT_HP,
    hp_config,
    population_size=population_size,
    num_envs=num_envs,
    device=device,
)

# What the page defines in its custom loop alone: examples/page_custom_loop.py
# Instantiate a tournament selection object (used for HPO)
tournament = TournamentSelection(
    tournament_size=2,  # Tournament selection size
    elitism=True,  # Elitism in tournament selection
    population_size=INIT_HP["POP_SIZE"],  # Population size
    eval_loop=1,  # Evaluate using last N fitness scores
)

# Instantiate a mutations object (used for HPO)
mutations = Mutations(
    no_mutation=0.2,  # Probability of no mutation
    architecture=0.2,  # Probability of architecture mutation
    new_layer_prob=0.2,  # Probability of new layer mutation
    parameters=0.2,  # Probability of parameter mutation
    activation=0,  # Probability of activation function mutation
    rl_hp=0.2,  # Probability of RL hyperparameter mutation
    mutation_sd=0.1,  # Mutation strength
    rand_seed=1,
    device=device,
)

# Training Loop
trained_pop, pop_fitnesses = train_multi_agent_on_policy(
    env,
    env_name='simple_speaker_listener_v4',  # Environment name
    algo="IPPO",  # Algorithm
    pop=pop,  # Population of agents
    sum_scores=True,
    INIT_HP=INIT_HP,
    MUT_P=MUTATION_PARAMS,
    max_steps=1000000,  # Max number of training steps
    evo_steps=10000,  # Evolution frequency
    eval_steps=None,  # Number of steps in evaluation episode
    eval_loop=1,  # Number of evaluation episodes
    target=-30.0,  # Target score for early stopping
    tournament=tournament,  # Tournament selection object
    mutation=mutations,  # Mutations object
    wb=False,  # Weights and Biases tracking
    accelerator=accelerator,
)
