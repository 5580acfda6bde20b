"""Small causal language models: from tokens (B, T) to logits (B, T, V) of the next one, no row reading what comes later.

Sizes are in the names: ``gru64`` has a state of 64 numbers; ``transformer2x128`` has 2 layers of width 128.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["GRU", "LANGUAGE_MODELS", "Transformer"]


class GRU(nn.Module):
    """Embedding, one layer of gated recurrent units, and a linear output on tokens (B, T); returns logits (B, T, V).

    Args:
        num_classes: V.
        width: of embedding and state.
    """

    def __init__(self, num_classes: int, width: int):
        super().__init__()
        self.embedding = nn.Embedding(num_classes, width)
        self.gru = nn.GRU(width, width, batch_first=True)
        self.output = nn.Linear(width, num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        states, _ = self.gru(self.embedding(tokens))
        return self.output(states)


class Block(nn.Module):
    """Attention to what came before, then a perceptron; each on normalized inputs, and added to them (pre-norm)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, time, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, time, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, T, width / heads)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.project(attended.transpose(1, 2).reshape(batch, time, width))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Transformer(nn.Module):
    """Causal transformer (pre-norm, learned positions) on tokens (B, T); returns logits (B, T, V).

    Args:
        num_classes: V.
        layers: number of blocks.
        width: of every token's vector, a multiple of 16; heads are 32 wide, or 16 where the width is smaller than 64.
        positions: the largest T.

    Raises:
        ValueError: for such a width, or when called with more tokens than positions.
    """

    def __init__(self, num_classes: int, layers: int, width: int, positions: int = 256):
        super().__init__()
        if width < 16 or width % 16:
            raise ValueError(f"width: expected a multiple of 16, got {width}")
        heads = width // 32 if width >= 64 and width % 32 == 0 else width // 16
        self.tokens = nn.Embedding(num_classes, width)
        self.positions = nn.Embedding(positions, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, num_classes)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                # What is added to the sum of all blocks starts the smaller the more of them there are (GPT-2).
                last = name.endswith(("project.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * layers) if last else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, tokens: Tensor) -> Tensor:
        time, most = tokens.shape[1], self.positions.num_embeddings
        if time > most:
            raise ValueError(
                f"tokens: expected at most {most} at once, got {time}; make it with positions={time}"
            )
        places = torch.arange(time, device=tokens.device)
        return self.output(self.norm(self.blocks(self.tokens(tokens) + self.positions(places))))


def _gru(width: int) -> Callable[[int], nn.Module]:
    return lambda num_classes: GRU(num_classes, width)


def _transformer(layers: int, width: int) -> Callable[[int], nn.Module]:
    return lambda num_classes: Transformer(num_classes, layers, width)


LANGUAGE_MODELS: dict[str, Callable[..., nn.Module]] = {
    **{f"gru{width}": _gru(width) for width in (16, 32, 64, 128, 256)},
    **{
        f"transformer{n}x{width}": _transformer(n, width)
        for n, width in ((1, 32), (2, 32), (2, 64), (2, 128), (4, 128))
    },
}
