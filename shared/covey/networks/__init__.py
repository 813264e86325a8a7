"""Networks as pure functions of (spec, params, inputs), written once for actors (numpy) and learner (torch).

A spec names its parameters and labels their axes; padding, growth, removal and what happens to optimiser moments all
follow from the labels (`labels.py`, `pack.py`, `resize.py`). A further kind of encoder is one file beside `mlp.py`.
"""

from covey.networks.cnn import CNN
from covey.networks.encoders import Encoder
from covey.networks.labels import Axis, ParamSpec, Segment
from covey.networks.mlp import MLP
from covey.networks.multi_input import ImagePart, MultiInput
from covey.networks.network import Input, NetworkSpec, Params
from covey.networks.ops import NumpyOps, Ops
from covey.networks.recurrent import Recurrent
from covey.networks.resnet import ResNet
from covey.networks.simba import SimBa

__all__ = [
    "CNN",
    "MLP",
    "Axis",
    "Encoder",
    "ImagePart",
    "Input",
    "MultiInput",
    "NetworkSpec",
    "NumpyOps",
    "Ops",
    "ParamSpec",
    "Params",
    "Recurrent",
    "ResNet",
    "Segment",
    "SimBa",
]
