"""The networks of the distillation tables, with the parameter names of the published teachers; and anybody's own."""

from .network import MODELS, Network, create_model, network_of, seeded_model
from .resnet import ResNet
from .vgg import VGG
from .wrn import WideResNet

__all__ = ["MODELS", "VGG", "Network", "ResNet", "WideResNet", "create_model", "network_of", "seeded_model"]
