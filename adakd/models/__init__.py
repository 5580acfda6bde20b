"""The networks of the distillation tables, with the parameter names of the published teachers; small language models; and anybody's own."""

from .imagenet_resnet import ImageNetResNet
from .language import GRU, Transformer
from .mobilenet import MobileNetV2
from .network import MODELS, Network, create_model, network_of, seeded_model
from .resnet import ResNet
from .shufflenet import ShuffleNetV1, ShuffleNetV2
from .vgg import VGG
from .wrn import WideResNet

__all__ = [
    "GRU",
    "MODELS",
    "VGG",
    "ImageNetResNet",
    "MobileNetV2",
    "Network",
    "ResNet",
    "ShuffleNetV1",
    "ShuffleNetV2",
    "Transformer",
    "WideResNet",
    "create_model",
    "network_of",
    "seeded_model",
]
