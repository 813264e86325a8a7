"""The encoder that an observation gets: of the kind that the configuration says, else by what is observed."""

from __future__ import annotations

from typing import Any

from covey.config.network import EncoderConfig, MLPConfig
from covey.config.residual_choice import BLOCK_KEYS, RESNET_KEYS, SIMBA_KEYS, resnet, simba
from covey.errors import ConfigError
from covey.networks.cnn import CNN, MAX_LAYERS
from covey.networks.encoders import ENCODERS, Encoder, encoder_kind, is_foreign
from covey.networks.images import Image, image_of, is_image, sized
from covey.networks.mlp import MLP
from covey.networks.multi_input import ImagePart, MultiInput
from covey.networks.recurrent import Recurrent
from covey.networks.resnet import ResNet
from covey.networks.simba import SimBa
from covey.networks.torch_module import TorchModule, options_text, shapes_of
from covey.networks.trusted_modules import ENTRY_POINT, torch_ops, trust
from covey.spaces import Space, leaves

_MLP_KEYS = frozenset({"hidden_size", "layer_norm", "min_mlp_nodes", "max_mlp_nodes"})
_CNN_KEYS = frozenset(
    {"channel_size", "kernel_size", "stride_size", "min_channel_size", "max_channel_size", "channels"}
)


_MEMORY_KEYS = frozenset({"recurrent", "hidden_state_size", "min_hidden_state_size", "max_hidden_state_size"})


def policy_encoder_of(config: EncoderConfig, encoder: Encoder) -> Encoder:
    """Return the encoder of a policy: that of its observation or, for a policy with memory, a GRU behind that one.

    Args:
        config: The encoder's configuration.
        encoder: What `encoder_of` made of it.
    """
    if not config.recurrent:
        return encoder
    if is_foreign(encoder) or isinstance(encoder, TorchModule):
        raise ConfigError(
            f"network.encoder_config.recurrent: true, but encoders of kind {encoder.kind!r} have no memory behind "
            "them; leave it out, or choose one of covey's own kinds"
        )
    return Recurrent(
        encoder=encoder,
        hidden_state_size=config.hidden_state_size,
        min_hidden_state_size=config.min_hidden_state_size,
        max_hidden_state_size=config.max_hidden_state_size,
        activation=config.activation,
    )


def encoder_of(
    config: EncoderConfig, space: Space, where: str, whose: str, *, beside: int = 0, frames: int = 1
) -> Encoder:
    """Return the encoder of an observation, or of a stack of several.

    Args:
        config: Its configuration.
        space: What is observed.
        where: Dotted path of the configuration, for errors.
        whose: Who observes, for errors: "agent 'listener_0'".
        beside: How many numbers the encoder reads behind the observation, such as an agent's one-hot index.
        frames: How many observations are stacked.

    Raises:
        ConfigError: keys of several kinds, an unknown kind, a kind that cannot read such observations, a kernel that
            does not fit an image, or channels on another axis than that on which frames are stacked.
    """
    kind = config.kind or _kind(config, space, where, whose)
    if kind == Recurrent.kind:
        raise ConfigError(f"{where}.kind: {kind!r}, expected the kind that reads observations; say recurrent: true too")
    if kind == TorchModule.kind:
        if frames > 1:
            raise ConfigError(
                f"{where}.kind: {kind!r} with environment.frame_stack {frames}, expected single observations for "
                "networks of one's own; stack frames in the environment"
            )
        return _torch_module(config, space, where)
    if config.module is not None:
        raise ConfigError(f"{where}.module: a key of kind 'torch', not of {kind!r}; leave one of both out")
    if kind in ENCODERS and config.options:
        raise ConfigError(f"{where}.options: for kinds that a package has installed, not for {kind!r}; leave it out")
    match kind:
        case MLP.kind:
            _only(config, _CNN_KEYS | BLOCK_KEYS, where, kind)
            return mlp(config)
        case CNN.kind:
            _only(config, _MLP_KEYS | BLOCK_KEYS, where, kind)
            image = _image(config, space, frames, where, whose)
            if image is None:
                raise ConfigError(
                    f"{where}: {_named(config, kind, _CNN_KEYS)}, but {whose} observes {space}, expected an image of "
                    "two or three axes; give agents that see no image an encoder_config of their own"
                )
            return _cnn(config, image, where, whose)
        case SimBa.kind:
            _allowed(config, SIMBA_KEYS, where, kind)
            return simba(config, where)
        case ResNet.kind:
            _allowed(config, RESNET_KEYS, where, kind)
            image = _image(config, space, frames, where, whose)
            if image is None:
                raise ConfigError(
                    f"{where}: kind {kind!r}, but {whose} observes {space}, expected an image of two or three axes; "
                    "give agents that see no image an encoder_config of their own"
                )
            return resnet(config, image, where, whose, frames * space.width + beside)
        case MultiInput.kind:
            _only(config, BLOCK_KEYS, where, kind)
            return _multi_input(config, space, where, whose, beside, frames)
    _only(config, frozenset(EncoderConfig.model_fields) - {"kind", "options"} - _MEMORY_KEYS, where, kind)
    try:
        made: Encoder = encoder_kind(kind).from_json(config.options)
        made.check(where, frames * space.width + beside)
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise ConfigError(
            f"{where}.options: {type(exc).__name__} {exc}, expected keys of kind {kind!r}; see its package"
        ) from exc
    return made


def vector_encoder_of(config: EncoderConfig, where: str) -> MLP | SimBa:
    """Return the encoder of numbers that no agent observes, such as the environment's state.

    It is of the configured kind if that reads vectors, else an MLP: images, and encoders of one's own, are about what
    agents observe.

    Args:
        config: Its configuration.
        where: Dotted path of the configuration, for errors.
    """
    return simba(config, where) if config.kind == SimBa.kind else mlp(config)


def leaf_kinds(encoder: Encoder, space: Space) -> dict[str, str]:
    """Return by dotted name which kind of encoder reads each leaf of a Dict or Tuple; {} for other spaces."""
    own = [leaf.name for leaf in leaves(space) if leaf.name]
    if not isinstance(encoder, MultiInput):
        return dict.fromkeys(own, encoder.kind)
    images = {part.name: part.encoder.kind for part in encoder.images}
    return {name: images.get(name, MLP.kind) for name in own}


def _kind(config: EncoderConfig, space: Space, where: str, whose: str) -> str:
    """Choose the kind of encoder by the keys that are given, or by what is observed."""
    given = _given(config)
    if config.module is not None:
        return TorchModule.kind
    images = [leaf for leaf in leaves(space) if is_image(leaf.space)]
    if images and images[0].name:
        return MultiInput.kind  # with keys of both kinds, as it has encoders of both
    if given & _MLP_KEYS and given & _CNN_KEYS:
        raise ConfigError(
            f"{where}: {_listed(given & _MLP_KEYS)} of an MLP and {_listed(given & _CNN_KEYS)} of a CNN, expected "
            f"those of one kind: {whose} observes {space}; leave the others out"
        )
    if given & _CNN_KEYS:
        return CNN.kind
    return CNN.kind if images and not given & _MLP_KEYS else MLP.kind


def _torch_module(config: EncoderConfig, space: Space, where: str) -> TorchModule:
    """Return the description of a `torch.nn.Module` that a function makes, which is called for it.

    The configuration that names a function allows this process to call it.

    Raises:
        ConfigError: keys of other kinds, torch is missing, or the module is none that can be trained.
    """
    _only(config, frozenset(EncoderConfig.model_fields) - {"kind", "module", "options", "activation"}, where, "torch")
    if config.module is None or not ENTRY_POINT.fullmatch(config.module):
        raise ConfigError(
            f"{where}.module: {config.module!r}, expected the function that makes a torch.nn.Module; write it as "
            "package.module:function"
        )
    try:
        options = options_text(config.options)
    except (TypeError, ValueError) as exc:
        raise ConfigError(
            f"{where}.options: {exc}, expected numbers, texts, lists and keys; give the function others in code"
        ) from exc
    trust(config.module)
    described = torch_ops(f"{where}.module {config.module}").describe_module
    made: TorchModule = described(config.module, options, shapes_of(space), config.activation, f"{where}.module")
    return made


def mlp(config: MLPConfig) -> MLP:
    """Return the MLP that the configuration of an encoder or a head describes."""
    return MLP(
        hidden_size=tuple(config.hidden_size),
        **{key: getattr(config, key) for key in MLPConfig.model_fields if key != "hidden_size"},
    )


def _cnn(config: EncoderConfig, image: Image, where: str, whose: str) -> CNN:
    """Return the CNN that an encoder's configuration describes, sized to an image where it does not say."""
    channels, kernels, strides = sized(image, config.channel_size, config.kernel_size, config.stride_size, where, whose)
    said = "max_hidden_layers" in config.model_fields_set
    return CNN(
        image=(image.height, image.width, image.channels),
        channels_first=image.channels_first,
        channel_size=channels,
        kernel_size=kernels,
        stride_size=strides,
        padding=(0,) * len(kernels),
        activation=config.activation,
        min_hidden_layers=config.min_hidden_layers,
        max_hidden_layers=min(MAX_LAYERS, config.max_hidden_layers) if said else 6,
        min_channel_size=config.min_channel_size,
        max_channel_size=config.max_channel_size,
    )


def _image(config: EncoderConfig, space: Space, frames: int, where: str, whose: str) -> Image | None:
    """Return the sizes of the image that a CNN reads of so many stacked observations; None if they are no images."""
    image = image_of(space, config.channels, frames)
    if frames > 1 and image is not None and image != image_of(space, None, frames):
        raise ConfigError(
            f"{where}.channels: {config.channels}, but {whose} observes {space}, whose frames are stacked on the other "
            "axis (environment.frame_stack), as its sizes say; leave channels out, or transpose what the environment "
            "shows"
        )
    return image


def _multi_input(config: EncoderConfig, space: Space, where: str, whose: str, beside: int, frames: int) -> MultiInput:
    """Return an encoder with a CNN for each image of an observation, and an MLP for all the rest."""
    parts: list[ImagePart] = []
    at, rest = 0, beside
    for leaf in leaves(space):
        image = _image(config, leaf.space, frames, where, whose) if is_image(leaf.space) else None
        if image is None:
            rest += frames * leaf.space.width
        else:
            name = leaf.name or "image"
            parts.append(ImagePart(name, at, _cnn(config, image, where, f"{whose}, {name}")))
        at += frames * leaf.space.width
    if not parts:
        raise ConfigError(
            f"{where}: kind 'multi_input', but {whose} observes {space}, expected a dictionary or tuple with an image "
            "in it; leave out the kind for an MLP"
        )
    return MultiInput(images=tuple(parts), vector=mlp(config) if rest else None, activation=config.activation)


def _allowed(config: EncoderConfig, keys: frozenset[str], where: str, kind: str) -> set[str]:
    """Refuse keys that a kind of residual network does not have; returns those that are given."""
    _only(config, frozenset(EncoderConfig.model_fields) - keys - {"kind", "activation"}, where, kind)
    return _given(config)


def _only(config: EncoderConfig, others: frozenset[str], where: str, kind: str) -> None:
    """Refuse keys that a kind of encoder does not have."""
    foreign = _given(config) & others
    if foreign:
        raise ConfigError(f"{where}: {_listed(foreign)}, no key of kind {kind!r}; leave it out, or choose another kind")


def _named(config: EncoderConfig, kind: str, keys: frozenset[str]) -> str:
    """Name what asks for a kind: the kind itself, or keys that it alone has."""
    return f"kind {kind!r}" if config.kind else _listed(_given(config) & keys)


def _given(config: EncoderConfig) -> set[str]:
    """Return the keys that the configuration gives, but for one that asks for what a CNN does anyway."""
    return config.model_fields_set - (set() if config.layer_norm else {"layer_norm"})


def _listed(keys: Any) -> str:
    return ", ".join(sorted(keys))
