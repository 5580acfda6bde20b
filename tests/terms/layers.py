"""Layers of the connectors, step by step in NumPy, from the numbers of torch's modules."""

import numpy as np


def array(x):
    return x.detach().numpy()


def convolution(module, x):
    """(N, C, H, W) by loops over fields; stride 1."""
    weight, pad = array(module.weight), module.padding[0]
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    size = weight.shape[-1]
    height, width = x.shape[2] - size + 1, x.shape[3] - size + 1
    out = np.zeros((len(x), len(weight), height, width))
    for i in range(height):
        for j in range(width):
            patch = x[:, :, i : i + size, j : j + size]
            out[:, :, i, j] = (patch[:, None] * weight[None]).sum(axis=(2, 3, 4))
    if module.bias is not None:
        out += array(module.bias)[:, None, None]
    return out


def batch_norm(module, x):
    """As in training: by the statistics of the batch."""
    mean = x.mean(axis=(0, 2, 3), keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=(0, 2, 3), keepdims=True)
    x = (x - mean) / np.sqrt(variance + module.eps)
    return x * array(module.weight)[:, None, None] + array(module.bias)[:, None, None]


def nearest(x, size):
    """The value of the field that a new field's corner lies in."""
    rows = [i * x.shape[2] // size for i in range(size)]
    columns = [j * x.shape[3] // size for j in range(size)]
    return x[:, :, rows][:, :, :, columns]


def averaged(x, size):
    """Means over size × size fields, of a map that they divide."""
    n, c, h, w = x.shape
    return x.reshape(n, c, size, h // size, size, w // size).mean(axis=(3, 5))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))
