"""Training in several processes: torchrun or `accelerate launch` starts them, and each works on texts of its own.

All hold the same weights and take the same steps: gradients and figures are averaged over the processes, so that a step of N processes
is one with N times the texts. Process 0 is the main one: it alone validates, writes files and talks.

Started without a launcher, a process is `ALONE`, and nothing is exchanged or changed.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

T = TypeVar("T")
PATIENCE = timedelta(days=2)
"""A process waits so long for the others. That one has died is not for this to notice: the launcher then ends them all."""


class Processes:
    """One process. The base of `Launched`, and all there is without a launcher."""

    count = 1
    index = 0

    @property
    def main(self) -> bool:
        return self.index == 0

    def device(self, asked: str) -> str:
        """Where this process computes, when `asked` is where the run does."""
        return asked

    def stream(self, *seed: int) -> list[int]:
        """A seed of this process's own; the main process draws what a single one would."""
        return [*seed, self.index] if self.index else [*seed]

    def wait(self) -> None:
        """Until all processes are here."""

    def from_main(self, make: Callable[[], T]) -> T:
        """What `make` gives in the main process, where alone it is called."""
        return make()

    def share(self, module: nn.Module) -> None:
        """Give the weights and buffers of the main process to all."""

    def mean(self, figures: dict[str, float]) -> dict[str, float]:
        """Figures averaged over the processes, the same to the bit in all of them."""
        return figures

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace gradients by their means. One that no process has stays None."""


ALONE = Processes()


class Launched(Processes):
    """One of the processes of a launcher, joined to the others by accelerate."""

    def __init__(self, device: str) -> None:
        """`device`: cpu, or cuda for one GPU to each process."""
        from accelerate import PartialState

        self._state = PartialState(cpu=device == "cpu", timeout=PATIENCE)
        atexit.register(self._state.destroy_process_group)
        self.count, self.index = self._state.num_processes, self._state.process_index

    def device(self, asked: str) -> str:
        return str(self._state.device)

    def wait(self) -> None:
        self._state.wait_for_everyone()

    def from_main(self, make: Callable[[], T]) -> T:
        from accelerate.utils import broadcast_object_list

        values: list[Any] = [make() if self.main else None]
        return broadcast_object_list(values)[0]

    def share(self, module: nn.Module) -> None:
        module.load_state_dict(self.from_main(lambda: {name: value.cpu() for name, value in module.state_dict().items()}))

    def mean(self, figures: dict[str, float]) -> dict[str, float]:
        # On the device, since GPUs exchange nothing else; in double, for figures that are no float32.
        total = self._mean(torch.tensor(list(figures.values()), dtype=torch.float64, device=self._state.device))
        return dict(zip(figures, total.tolist(), strict=True))

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        # In one piece: the pair is small, and what an exchange costs is mostly its being one.
        pieces = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        have = torch.tensor([float(p.grad is not None) for p in parameters], device=pieces[0].device)
        mean = self._mean(torch.cat([have, *(piece.float().flatten() for piece in pieces)]))
        have, *means = mean.split([len(pieces), *(piece.numel() for piece in pieces)])
        for parameter, there, gradient in zip(parameters, have.tolist(), means, strict=True):
            parameter.grad = gradient.view_as(parameter).to(parameter.dtype) if there else None

    def _mean(self, tensor: Tensor) -> Tensor:
        from accelerate.utils import reduce

        return cast(Tensor, reduce(tensor, "mean"))


def join(device: str) -> Processes:
    """The processes that a launcher started beside this one, or `ALONE`."""
    return Launched(device) if int(os.environ.get("WORLD_SIZE", "1")) > 1 else ALONE
