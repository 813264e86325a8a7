"""Models of the `network:` section: the architecture of one agent's or group's networks."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from covey.config.section import OnResume, Section

Activation = Literal["ReLU", "ELU", "GELU", "Tanh", "Sigmoid", "SiLU", "LeakyReLU", "Softplus", "Identity"]


class MLPConfig(Section):
    """A multilayer perceptron: its hidden layers, and the limits within which mutations keep them."""

    on_resume: ClassVar[OnResume] = OnResume.FIXED

    hidden_size: list[int] = Field(
        default=[64],
        max_length=32,
        description="Units of each hidden layer in order, each from 1 to 65536; `[]`: no hidden layer.",
    )
    activation: Activation = Field(
        default="ReLU",
        description="Activation function of the hidden layers; an encoder's is that of its outputs too.",
    )
    layer_norm: bool = Field(
        default=False,
        description="Whether each hidden layer is normalised (LayerNorm). Mutations that add units then change what "
        "the network computes.",
    )
    min_hidden_layers: int = Field(default=1, ge=0, description="Fewest hidden layers that mutations leave.")
    max_hidden_layers: int = Field(default=3, ge=1, le=32, description="Most hidden layers that mutations build.")
    min_mlp_nodes: int = Field(default=16, ge=1, description="Fewest units in a hidden layer that mutations leave.")
    max_mlp_nodes: int = Field(
        default=500, ge=1, le=65536, description="Most units in a hidden layer that mutations build."
    )

    @model_validator(mode="after")
    def _sizes(self) -> MLPConfig:
        if any(not 1 <= n <= 65536 for n in self.hidden_size):
            raise ValueError(f"hidden_size {self.hidden_size}, expected sizes from 1 to 65536")
        return self


class NetConfig(Section):
    """Architecture of the networks of one agent or group: an encoder for observations, a latent space, a head."""

    on_resume: ClassVar[OnResume] = OnResume.FIXED

    latent_dim: int = Field(
        default=64, ge=1, le=65536, description="Units of the latent space: outputs of each encoder."
    )
    min_latent_dim: int = Field(default=8, ge=1, description="Fewest units of the latent space that mutations leave.")
    max_latent_dim: int = Field(
        default=128, ge=1, le=65536, description="Most units of the latent space that mutations build."
    )
    encoder_config: MLPConfig = Field(
        default_factory=MLPConfig, description="Encoder: the layers between an observation and the latent space."
    )
    head_config: MLPConfig = Field(
        default_factory=MLPConfig, description="Head: the layers between the latent space and actions or values."
    )
