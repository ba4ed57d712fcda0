"""The texts of a running batch that are being marked: who is where in the batch, what each has carried so far, and its next token.

Knows nothing of vLLM but that texts come, go and change places, and may go and come back (preemption).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from countersign_vllm.handover import Step
from countersign_vllm.orders import Order
from watermark.config import WatermarkConfig
from watermark.embedding.conditioning import Conditioning
from watermark.embedding.embedder import Embedder
from watermark.embedding.repeats import ContextMemory
from watermark.sampling.candidates import BatchSettings, draw, select_candidates

CAPACITY = 256
"""Steps that a new memory of contexts has room for; it grows."""
AWAY = 256
"""Texts that left and are remembered, since it cannot be seen whether they will come back."""


@dataclass(eq=False)
class Text:
    order: Order
    prompt_tokens: int
    signs: Tensor
    """Codeword (n,)."""
    uniforms: Tensor
    """(max_new_tokens,)."""
    place: int
    """In the batch, as vLLM numbers it."""
    memory: ContextMemory | None = field(default=None, repr=False)
    """Contexts marked so far, while the text is not among those that are written together."""


class Marks:
    """`join`, `leave` and `move` as vLLM's batch does, then `draw` at every step."""

    def __init__(self, embedder: Embedder, config: WatermarkConfig) -> None:
        self._embedder, self._config = embedder, config
        self._texts: dict[int, Text] = {}
        """By place."""
        self._names: dict[int, Hashable] = {}
        self._away: OrderedDict[Hashable, Text] = OrderedDict()
        self._written: list[Text] = []
        """Those that have begun, in the order of the rows of `_memory`."""
        self._memory = ContextMemory(0, CAPACITY, config.n)
        self._static: tuple[BatchSettings, Conditioning] | None = None

    def __len__(self) -> int:
        return len(self._texts)

    def join(self, place: int, name: Hashable, order: Order, prompt_tokens: int) -> None:
        """`name` is the same when a text comes back."""
        self.leave(place)
        text = self._away.pop(name, None)
        if text is None:
            seed = order.seed
            text = Text(order, prompt_tokens, order.signs(seed, self._config), order.uniforms(seed), place)
        text.place = place
        self._texts[place], self._names[place] = text, name

    def leave(self, place: int) -> None:
        """Of a place without such a text, nothing happens."""
        text = self._texts.pop(place, None)
        if text is None:
            return
        if text in self._written:
            row = self._written.index(text)
            text.memory = self._memory.take(row)
            self._written[row] = self._written[-1]
            self._written.pop()
            self._static = None
        self._away[self._names.pop(place)] = text
        while len(self._away) > AWAY:
            self._away.popitem(last=False)

    def move(self, source: int, target: int, *, swap: bool) -> None:
        """Without `swap`, whoever was at the target has left."""
        if not swap:
            self.leave(target)
        for table in (self._texts, self._names):
            here, there = table.pop(source, None), table.pop(target, None)
            if here is not None:
                table[target] = here  # type: ignore[assignment]
            if swap and there is not None:
                table[source] = there  # type: ignore[assignment]
        for place, text in self._texts.items():
            text.place = place

    @torch.inference_mode()
    def draw(self, logits: Tensor, step: Step) -> Tensor:
        """logits (batch, vocabulary), after temperature → the same with the next token of every marked text as its only candidate.

        A text whose prompt is still being read has no next token, and what vLLM draws for it is discarded.
        """
        positions = step.positions.cpu()
        writing = [text for text in self._texts.values() if int(positions[text.place]) + 1 >= text.prompt_tokens]
        self._begin([text for text in writing if text not in self._written])
        if len(writing) != len(self._written):
            raise RuntimeError("Countersign: a text that had begun gets no token. Marked text would be wrong.")
        if not writing:
            return logits
        places = torch.tensor([text.place for text in self._written], device=logits.device)
        settings, conditioning = self._static = self._static or self._stacked(logits.shape[1], logits.device)
        ids, probs = select_candidates(logits[places], settings)
        attention = self._embedder.contexts(step.states[places])
        probs, _ = self._embedder(attention, ids, probs, conditioning, self._memory)
        uniforms = [text.uniforms[int(positions[text.place]) + 1 - text.prompt_tokens] for text in self._written]
        token = ids.gather(1, draw(probs, torch.stack(uniforms)).unsqueeze(1))
        self._memory.record(token.squeeze(1).numpy())
        logits[places] = torch.full_like(logits[places], -torch.inf).scatter(1, token.to(logits.device), 0.0)
        return logits

    def _begin(self, texts: list[Text]) -> None:
        for text in texts:
            self._memory.join(text.memory or ContextMemory(1, CAPACITY, self._config.n))
            text.memory = None
            self._written.append(text)
            self._static = None

    def _stacked(self, vocab_size: int, device: torch.device) -> tuple[BatchSettings, Conditioning]:
        signs = torch.stack([text.signs.float() for text in self._written]).to(device)
        strength = torch.tensor([text.order.strength for text in self._written], device=device)
        settings = BatchSettings.stack([text.order.sampling for text in self._written], vocab_size)
        return settings, Conditioning(signs, strength)
