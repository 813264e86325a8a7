"""Manifests with the sections and keys of AgileRL's multi-agent ones, in both of their forms."""

RANGES = """
    lr_actor: {min: 0.0002, max: 0.02}
    lr_critic: {min: 0.0002, max: 0.02}
    batch_size: {min: 16, max: 1024}
    learn_step: {min: 25, max: 250}
"""

OFF_POLICY = f"""---
algorithm:
  name: MADDPG
  batch_size: 96
  lr_actor: 0.0003
  lr_critic: 0.003
  learn_step: 20
  gamma: 0.96
  tau: 0.002
  O_U_noise: true
  expl_noise: 0.15
  mean_noise: 0.0
  theta: 0.2
  dt: 0.02
environment:
  name: mpe2.simple_speaker_listener_v4
  num_envs: 12
mutation:
  probabilities: {{no_mut: 0.5, arch_mut: 0.3, new_layer: 0.25, params_mut: 0.0, act_mut: 0.0, rl_hp_mut: 0.3}}
  rl_hp_selection: {RANGES}
  mutation_sd: 0.05
  rand_seed: 7
network:
  latent_dim: 48
  min_latent_dim: 16
  max_latent_dim: 512
  encoder_config: {{hidden_size: [48], min_mlp_nodes: 32, max_mlp_nodes: 400}}
  head_config:
    hidden_size: [48, 32]
    activation: ReLU
    min_hidden_layers: 1
    max_hidden_layers: 2
    min_mlp_nodes: 32
    max_mlp_nodes: 400
replay_buffer: {{max_size: 50_000}}
selection_strategy: {{tournament_size: 3, elitism: true}}
training:
  max_steps: 1_500_000
  target_score:
  pop_size: 6
  evo_steps: 5_000
  eval_steps:
  eval_loop: 2
  learning_delay: 100
"""

ON_POLICY = """---
algorithm:
  name: IPPO
  batch_size: 256
  lr: 0.0003
  learn_step: 1024
  gamma: 0.98
  gae_lambda: 0.9
  action_std_init: 0.0
  clip_coef: 0.25
  ent_coef: 0.02
  vf_coef: 0.4
  max_grad_norm: 0.7
  target_kl:
  update_epochs: 5
environment: {name: mpe2.simple_speaker_listener_v4, num_envs: 10}
mutation:
  probabilities: {no_mut: 0.4, arch_mut: 0.2, new_layer: 0.2, params_mut: 0.2, act_mut: 0.2, rl_hp_mut: 0.3}
  rl_hp_selection:
    lr: {min: 0.00001, max: 0.02}
    learn_step: {min: 128, max: 4096}
    ent_coef: {min: 0.002, max: 0.2}
  mutation_sd: 0.2
  rand_seed: 11
network:
  latent_dim: 32
  encoder_config: {hidden_size: [32], activation: Tanh, min_mlp_nodes: 16, max_mlp_nodes: 300, layer_norm: true}
  head_config: {hidden_size: [32], activation: ReLU, max_hidden_layers: 3, layer_norm: true}
selection_strategy: {tournament_size: 2, elitism: true}
training: {max_steps: 900_000, target_score: , pop_size: 3, evo_steps: 9_000, eval_steps: , eval_loop: 1}
"""

OLDER_OFF_POLICY = """---
INIT_HP:
  ENV_NAME: pettingzoo.mpe.simple_speaker_listener_v4
  ALGO: MATD3
  CHANNELS_LAST: false
  NUM_ENVS: 12
  O_U_NOISE: false
  EXPL_NOISE: 0.2
  MEAN_NOISE: 0.
  THETA: 0.1
  DT: 0.05
  BATCH_SIZE: 48
  LR_ACTOR: 0.0005
  LR_CRITIC: 0.005
  POLICY_FREQ: 3
  MAX_STEPS: 700_000
  TARGET_SCORE:
  GAMMA: 0.97
  MEMORY_SIZE: 40_000
  LEARN_STEP: 24
  TAU: 0.003
  TOURN_SIZE: 3
  ELITISM: false
  POP_SIZE: 5
  EVO_STEPS: 7_000
  EVAL_STEPS:
  EVAL_LOOP: 2
  LEARNING_DELAY: 50
  WANDB: true
  TORCH_COMPILE: default
MUTATION_PARAMS:
  NO_MUT: 0.3
  ARCH_MUT: 0.1
  NEW_LAYER: 0.3
  PARAMS_MUT: 0.1
  ACT_MUT: 0.1
  RL_HP_MUT: 0.4
  RL_HP_SELECTION: [lr, batch_size, learn_step]
  MUT_SD: 0.3
  RAND_SEED: 19
  MIN_LR: 0.0001
  MAX_LR: 0.01
  MIN_LEARN_STEP: 20
  MAX_LEARN_STEP: 100
  MIN_BATCH_SIZE: 8
  MAX_BATCH_SIZE: 512
NET_CONFIG:
  latent_dim: 40
  encoder_config: {hidden_size: [40], activation: ReLU, min_mlp_nodes: 32, max_mlp_nodes: 300}
  head_config: {hidden_size: [40], output_activation: Sigmoid, min_hidden_layers: 1, max_hidden_layers: 2}
DISTRIBUTED_TRAINING: false
"""

OLDER_ON_POLICY = """---
INIT_HP:
  ENV_NAME: pettingzoo.butterfly.cooperative_pong_v6
  ALGO: IPPO
  CHANNELS_LAST: true
  NUM_ENVS: 4
  BATCH_SIZE: 192
  LR: 0.0002
  LEARN_STEP: 512
  MAX_STEPS: 300_000
  GAMMA: 0.98
  GAE_LAMBDA: 0.94
  ACTION_STD_INIT: 0.1
  CLIP_COEF: 0.15
  ENT_COEF: 0.03
  VF_COEF: 0.6
  MAX_GRAD_NORM: 0.4
  TARGET_KL:
  UPDATE_EPOCHS: 3
  TOURN_SIZE: 2
  ELITISM: true
  POP_SIZE: 2
  EVO_STEPS: 3_000
  EVAL_LOOP: 1
  WANDB: false
MUTATION_PARAMS:
  NO_MUT: 0.4
  RL_HP_MUT: 0.6
  RL_HP_SELECTION: [lr, learn_step]
  RAND_SEED: 3
  MIN_LR: 0.00001
  MAX_LR: 0.01
  MIN_LEARN_STEP: 128
  MAX_LEARN_STEP: 1024
  MIN_ENT_COEF: 0.001
  MAX_ENT_COEF: 0.1
NET_CONFIG:
  latent_dim: 64
  encoder_config: {channel_size: [16, 16], kernel_size: [6, 3], stride_size: [3, 2], activation: ReLU}
  head_config: {hidden_size: [64], activation: ReLU}
DISTRIBUTED_TRAINING: false
"""
