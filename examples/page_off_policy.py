"""AgileRL's page "Multi-Agent Training", its off-policy part line by line; only the imports are covey's.

Run it: python examples/page_off_policy.py
"""

import os

import torch
from mpe2 import simple_speaker_listener_v4

import covey_server
from covey import AsyncPettingZooVecEnv, HyperparameterConfig, RLParameter, make_multi_agent_vect_envs
from covey_server import MultiAgentReplayBuffer, Mutations, TournamentSelection, create_population

# MAX_STEPS and EVO_STEPS in the environment shorten the run.
budget = {name: int(os.environ[name.upper()]) for name in ("max_steps", "evo_steps") if name.upper() in os.environ}


def train_multi_agent_off_policy(**arguments):
    return covey_server.train_multi_agent_off_policy(**{**arguments, **budget})


# Vectorised Environments


# Define the environment
def make_env():
    return simple_speaker_listener_v4.parallel_env(continuous_actions=True)


# Vectorise the environment
env = make_multi_agent_vect_envs(make_env, num_envs=8)

# Creating a Population of Agents
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

# Define the initial hyperparameters
INIT_HP = {
    "BATCH_SIZE": 32,  # Batch size
    "O_U_NOISE": True,  # Ornstein Uhlenbeck action noise
    "EXPL_NOISE": 0.1,  # Action noise scale
    "MEAN_NOISE": 0.0,  # Mean action noise
    "THETA": 0.15,  # Rate of mean reversion in OU noise
    "DT": 0.01,  # Timestep for OU noise
    "LR_ACTOR": 0.001,  # Actor learning rate
    "LR_CRITIC": 0.001,  # Critic learning rate
    "GAMMA": 0.95,  # Discount factor
    "MEMORY_SIZE": 100000,  # Max memory buffer size
    "LEARN_STEP": 100,  # Learning frequency
    "TAU": 0.01,  # For soft update of target parameters
    "POLICY_FREQ": 2,  # Policy frequnecy
    "POP_SIZE": 4,  # Population size
}

num_envs = 8
# Define the simple speaker listener environment as a parallel environment
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
    lr_actor = RLParameter(min=1e-4, max=1e-2),
    lr_critic = RLParameter(min=1e-4, max=1e-2),
    batch_size = RLParameter(min=8, max=512),
    learn_step = RLParameter(min=20, max=200, grow_factor=1.5, shrink_factor=0.75)
)

# Create a population ready for evolutionary hyper-parameter optimisation
pop = create_population(
    "MADDPG",
    observation_spaces,
    action_spaces,
    NET_CONFIG,
    INIT_HP,
    hp_config,
    population_size=INIT_HP["POP_SIZE"],
    num_envs=num_envs,
    device=device,
)

# Experience Replay
field_names = ["state", "action", "reward", "next_state", "done"]
memory = MultiAgentReplayBuffer(
    INIT_HP["MEMORY_SIZE"],
    field_names=field_names,
    agent_ids=INIT_HP["AGENT_IDS"],
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
trained_pop, pop_fitnesses = train_multi_agent_off_policy(
    env=env,  # Pettingzoo-style environment
    env_name='simple_speaker_listener_v4',  # Environment name
    algo="MADDPG",  # Algorithm
    pop=pop,  # Population of agents
    memory=memory,  # Replay buffer
    INIT_HP=INIT_HP,  # IINIT_HP dictionary
    net_config=NET_CONFIG,  # Network configuration
    max_steps=2000000,  # Max number of training steps
    evo_steps=10000,  # Evolution frequency
    eval_steps=None,  # Number of steps in evaluation episode
    eval_loop=1,  # Number of evaluation episodes
    learning_delay=1000,  # Steps before starting learning
    target=-30.0,  # Target score for early stopping
    tournament=tournament,  # Tournament selection object
    mutation=mutations,  # Mutations object
    wb=False,  # Weights and Biases tracking
)
