"""Matrix products in bfloat16 with everything around them in float32: what a CPU with bfloat16 instructions does four times faster.

Sums are kept in float32 inside the product, and the residual stream never leaves float32; only a layer's inputs and weights are rounded
(8 bits of mantissa). Measured on the default model: evidence of a text agrees with the float32 one to a cosine of .9998 (marked) and
.9993 (human), mean z 9.17 against 9.16, in half the CPU time (`python -m benchmarks.reading_precision`). Integer weights are faster still
and cost 7 % of a mark's z (docs/experiments.md).
"""

from __future__ import annotations

import copy
import functools

import torch
from torch import Tensor, nn


@functools.cache
def pays_off() -> bool:
    """Whether this CPU has bfloat16 instructions; without them the conversion costs more than it saves."""
    return torch.cpu._is_avx512_bf16_supported() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


class HalfLinear(nn.Module):
    """A linear layer with bfloat16 weights: float32 in, float32 out. Inference only."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight = nn.Parameter(linear.weight.detach().bfloat16(), requires_grad=False)
        self.bias = None if linear.bias is None else nn.Parameter(linear.bias.detach().bfloat16(), requires_grad=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return nn.functional.linear(inputs.bfloat16(), self.weight, self.bias).float()


def halved(module: nn.Module) -> nn.Module:
    """A copy that shares everything with `module` but its linear layers, which are replaced."""
    if isinstance(module, nn.Linear):
        return HalfLinear(module)
    found = copy.copy(module)
    found._modules = {name: child if child is None else halved(child) for name, child in module._modules.items()}
    return found
