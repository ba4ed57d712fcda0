"""Paraphrase by a local instruct model: a folder with weights, tokenizer and chat template."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from watermark.errors import InvalidInput

INSTRUCTION = "Rewrite the following text in other words. Keep its meaning and its length. Answer with the rewritten text only.\n\n"
TEMPERATURE, TOP_P = 0.7, 0.9


class InstructModel:
    """Rewrites one text at a time, sampling: a greedy small model mostly copies."""

    def __init__(self, folder: Path) -> None:
        """Raises InvalidInput for a folder that holds no such model."""
        from transformers import AutoModelForCausalLM, AutoTokenizer  # seconds, which `--help` need not wait for

        try:
            self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self.model: Any = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype="auto")
        except (OSError, ValueError) as error:
            raise InvalidInput(f"The paraphraser {folder} is no model that can be loaded: {error}") from None
        if not self.tokenizer.chat_template:
            raise InvalidInput(f"The paraphraser {folder} has no chat template, so it is no instruct model.")

    def rewrite(self, text: str, seed: int) -> str:
        """At most twice as many tokens as the text has; the same seed gives the same paraphrase."""
        import torch

        messages = [{"role": "user", "content": INSTRUCTION + text}]
        inputs = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        length = len(self.tokenizer(text).input_ids)
        with torch.inference_mode(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            output = self.model.generate(
                **inputs, max_new_tokens=2 * length + 16, do_sample=True, temperature=TEMPERATURE, top_p=TOP_P, top_k=0
            )
        return self.tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()


@functools.lru_cache(maxsize=1)
def load_instruct_model(folder: Path) -> InstructModel:
    """The model, kept for the texts that follow."""
    return InstructModel(folder)
