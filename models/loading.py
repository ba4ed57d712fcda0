"""From a folder of transformers files to a frozen model. Every way in which a folder can be unusable has its own sentence."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from watermark.errors import BaseModelError

if TYPE_CHECKING:
    from watermark.inference.openvino.lm import OpenVinoLM
    from watermark.inference.torch_lm import TorchLM

WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")


def check_folder(folder: Path, name: str) -> None:
    """Raises BaseModelError naming what a transformers folder of this base model lacks."""
    if not folder.is_dir():
        raise BaseModelError(f"Base model {name!r}: there is no folder {folder}.")
    for what, patterns in (("config.json", ("config.json",)), ("weights", WEIGHTS), ("a tokenizer", TOKENIZERS)):
        if not any(any(folder.glob(pattern)) for pattern in patterns):
            looked = "" if patterns == (what,) else f" ({', '.join(patterns)})"
            raise BaseModelError(f"Base model {name!r}: folder {folder} lacks {what}{looked}.")


def load_torch(folder: Path, name: str, *, device: str = "cpu") -> TorchLM:
    """The model and its tokenizer in `folder`, frozen, on `device`: in float32 on the CPU, in bfloat16 elsewhere. Raises BaseModelError."""
    check_folder(folder, name)
    # Heavy imports wait until the cheap checks have passed.
    from models.transformers_noise import quiet
    from watermark.inference.torch_lm import TorchLM

    with quiet(), _no_collections():
        config = _config(folder, name)
        tokenizer = _tokenizer(folder, name)
        model = _model(folder, name, config)
    _check_pair(model, tokenizer, name)
    lm = TorchLM(model, tokenizer, name)
    lm.to(device)
    _check_causal(lm)
    return lm


def load_converted(converted: Path, folder: Path, name: str) -> OpenVinoLM:
    """The model in `converted`, with the tokenizer of the transformers folder that it was made from. Raises BaseModelError."""
    check_folder(folder, name)
    from models.transformers_noise import quiet
    from watermark.inference.openvino.lm import OpenVinoLM

    with quiet(), _no_collections():
        return OpenVinoLM(converted, _tokenizer(folder, name), name)


@contextlib.contextmanager
def _no_collections() -> Iterator[None]:
    """A large tokenizer is a million small objects, all of them kept; looking for garbage among them took a third of the load."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _config(folder: Path, name: str) -> Any:
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise BaseModelError(f"Base model {name!r}: config.json in {folder} cannot be used: {_first_line(error)}") from error
    if getattr(config, "is_encoder_decoder", False):
        raise BaseModelError(
            f"Base model {name!r} ({config.model_type}) is an encoder-decoder model; "
            "marking needs a decoder-only one, which continues its prompt."
        )
    return config


def _tokenizer(folder: Path, name: str) -> Any:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        for built_from in ("_vocab", "_merges"):  # some classes keep them beside the tokenizer that was built: 150 MB for 262,144 tokens
            vars(tokenizer).pop(built_from, None)
        return tokenizer
    except ImportError as error:
        raise BaseModelError(f"Base model {name!r}: its tokenizer needs a Python package that is missing: {_first_line(error)}") from error
    except Exception as error:  # the tokenizers library raises bare Exception on a damaged file
        raise BaseModelError(f"Base model {name!r}: the tokenizer in {folder} cannot be loaded: {_first_line(error)}") from error


def _model(folder: Path, name: str, config: Any) -> Any:
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    loader: Any = AutoModelForCausalLM
    try:
        model, report = loader.from_pretrained(
            folder, config=config, dtype=torch.float32, local_files_only=True, trust_remote_code=False, output_loading_info=True
        )
    except SafetensorError as error:
        raise BaseModelError(f"Base model {name!r}: a weights file in {folder} is damaged: {_first_line(error)}") from error
    except ImportError as error:
        raise BaseModelError(f"Base model {name!r} needs a Python package that is missing: {_first_line(error)}") from error
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise BaseModelError(
            f"Base model {name!r} ({config.model_type}) does not load as a causal language model from {folder}: {_first_line(error)}"
        ) from error
    # transformers fills what it does not find with random numbers and goes on; text would come out, and be noise.
    absent = sorted({*report["missing_keys"], *(str(key[0]) for key in report["mismatched_keys"])})
    if absent:
        shown = ", ".join(absent[:3]) + (f" and {len(absent) - 3} more" if len(absent) > 3 else "")
        raise BaseModelError(
            f"Base model {name!r}: the weights in {folder} do not fit a causal language model: {shown} missing or of another shape."
        )
    return model


def _check_pair(model: Any, tokenizer: Any, name: str) -> None:
    vocabulary, rows = len(tokenizer), model.get_input_embeddings().weight.shape[0]
    if vocabulary > rows:
        raise BaseModelError(
            f"Base model {name!r}: its tokenizer has {vocabulary} tokens and its weights only {rows}; they do not belong together."
        )


def _check_causal(lm: TorchLM) -> None:
    """Some encoders (BERT and its kin) load as causal language models although every token sees the ones behind it."""
    import torch

    ids = torch.tensor([[5, 6, 7], [5, 6, 8]], device=lm.device)
    with torch.inference_mode():
        states = lm.model.base_model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    if not torch.allclose(states[0, 1], states[1, 1], rtol=1e-3, atol=1e-4):
        raise BaseModelError(
            f"Base model {lm.name!r} ({lm.model_type}) lets tokens see those behind them; marking needs a decoder-only model."
        )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
