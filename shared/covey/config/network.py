"""Models of the `network:` section: the architecture of one agent's or group's networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

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


def _sizes(least: int, most: int) -> Any:
    """Return the type of a list of sizes that may be one number, which is a list of one: residual networks have one."""
    listed = {"items": {"type": "integer"}, "minItems": least, "maxItems": most, "type": "array"}
    return Annotated[
        list[int],
        Field(min_length=least or None, max_length=most),
        BeforeValidator(lambda value: [value] if type(value) is int else value),
        WithJsonSchema({"anyOf": [listed, {"type": "integer"}]}),
    ]


if TYPE_CHECKING:
    Sizes = list[int]
    MLPSizes = list[int]
else:
    Sizes, MLPSizes = _sizes(1, 16), _sizes(0, 32)


class EncoderConfig(MLPConfig):
    """An encoder: what is between an observation and the latent space.

    Of an image it is a CNN, of a dictionary or tuple with images in it `multi_input` (a CNN for each image, an MLP for
    all the rest), of everything else an MLP; `kind`, or keys that one kind alone has, say otherwise. `hidden_size`,
    `layer_norm` and the limits of nodes are those of an MLP; channels, kernels and strides those of a CNN. Residual
    blocks of `simba` (vectors) and `resnet` (images) have one `hidden_size` or `channel_size`.
    """

    kind: str | None = Field(
        default=None,
        alias="arch",
        description="`mlp`, `cnn`, `multi_input`, `simba`, `resnet`, `torch`, or a kind that a package has installed; "
        "null: by the observation and the other keys.",
    )
    module: str | None = Field(
        default=None,
        description="Of kind `torch`, the function that makes a torch.nn.Module, as package.module:function. It is "
        "called with the shape of an observation, and `options` as keyword arguments (docs/own_network.md). null: no "
        "module.",
    )
    hidden_size: MLPSizes = Field(
        default=[64],
        description="Units of each hidden layer in order, each from 1 to 65536; `[]`: no hidden layer. Of kind `simba` "
        "one number, 128 if it is not said.",
    )
    channel_size: Sizes | None = Field(
        default=None,
        description="Channels of each convolution in order, each from 1 to 4096; of kind `resnet` "
        "one number, for all. null: 32.",
    )
    kernel_size: Sizes | None = Field(
        default=None,
        description="Rows and columns of each convolution's window; null: 8 where 36 pixels of the shorter side are "
        "left, 4 from 12 on, else 3.",
    )
    stride_size: Sizes | None = Field(
        default=None,
        description="Pixels from one window to the next; null: half the kernel, 1 for kernels below 4.",
    )
    min_channel_size: int = Field(default=16, ge=1, description="Fewest channels of a layer that mutations leave.")
    max_channel_size: int = Field(
        default=256, ge=1, le=4096, description="Most channels of a layer that mutations build."
    )
    channels: Literal["first", "last"] | None = Field(
        default=None,
        description="Which of an image's three axes has its channels; null: by their lengths (two equal neighbours are "
        "height and width, else the shortest of first and last axis has the channels, the last in doubt).",
    )
    recurrent: bool = Field(
        default=False,
        description="Whether policies have memory: a GRU behind the encoder, whose state lasts as long as the episode. "
        "IPPO alone learns such policies.",
    )
    hidden_state_size: int = Field(default=64, ge=1, le=4096, description="Units of the GRU of a policy with memory.")
    min_hidden_state_size: int = Field(
        default=16, ge=1, le=4096, description="Fewest units of the GRU that mutations leave."
    )
    max_hidden_state_size: int = Field(
        default=512, ge=1, le=4096, description="Most units of the GRU that mutations build."
    )
    num_blocks: int = Field(
        default=2, ge=1, le=32, description="Of kinds `simba` and `resnet`, residual blocks; of `resnet` at most 7."
    )
    scale_factor: int = Field(
        default=4,
        ge=1,
        le=64,
        description="Of these kinds, how many times as wide as `hidden_size` or `channel_size` a block is inside. "
        "Mutations change that width, within as many times the limits of nodes or channels.",
    )
    min_blocks: int = Field(default=1, ge=1, description="Fewest residual blocks that mutations leave.")
    max_blocks: int = Field(default=4, ge=1, le=32, description="Most residual blocks that mutations build.")
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="Keys of a kind of encoder that a package has installed; of kind `torch`, the keyword arguments of "
        "the function that makes the module.",
    )
    max_hidden_layers: int = Field(
        default=3,
        ge=1,
        le=32,
        description="Most hidden layers that mutations build; of a CNN at most 16, and 6 if it is not said.",
    )

    @model_validator(mode="before")
    @classmethod
    def _of_parts(cls, data: Any) -> Any:
        """Take the keys of `cnn_config` and `mlp_config`, where AgileRL's manifests have them, for the encoder's."""
        if not isinstance(data, Mapping):
            return data
        names = [key for key in ("cnn_config", "mlp_config") if isinstance(data.get(key), Mapping)]
        own = {k: v for k, v in data.items() if k not in names}
        for name in names:
            for key, value in data[name].items():
                if own.setdefault(key, value) != value:
                    raise ValueError(
                        f"{name}.{key} {value!r} beside {own[key]!r}, expected one value: CNN and MLP share this key"
                    )
        return own

    @model_validator(mode="after")
    def _memory(self) -> EncoderConfig:
        given = sorted(self.model_fields_set & {f"{which}hidden_state_size" for which in ("", "min_", "max_")})
        if given and "recurrent" not in self.model_fields_set:
            raise ValueError(f"{given[0]}: for policies with memory, expected recurrent: true beside it")
        return self

    @model_validator(mode="after")
    def _convolutions(self) -> EncoderConfig:
        for key, most in (("channel_size", 4096), ("kernel_size", 255), ("stride_size", 255)):
            its = getattr(self, key)
            if its is not None and any(not 1 <= n <= most for n in its):
                raise ValueError(f"{key} {its}, expected numbers from 1 to {most}")
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
    encoder_config: EncoderConfig = Field(
        default_factory=EncoderConfig, description="Encoder: the layers between an observation and the latent space."
    )
    head_config: MLPConfig = Field(
        default_factory=MLPConfig, description="Head: the layers between the latent space and actions or values."
    )
