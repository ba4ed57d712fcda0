"""Checkpoints: a folder with `config.json` and `model.safetensors`. Building is `watermark.pair`; this module saves and loads."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from watermark.base_model import FrozenLM
from watermark.config import BaseModelIdentity, WatermarkConfig
from watermark.errors import CheckpointError
from watermark.pair import WatermarkPair, build_pair

CONFIG, WEIGHTS = "config.json", "model.safetensors"
PROBE_TOKENS = 24
PROBE_NUMBERS = 16
PROBE_COSINE = 0.97
"""Hidden states of one model in float32, bfloat16 or int8 agree far better than this; those of another model do not."""


def probe(lm: FrozenLM, layers: tuple[int, ...]) -> list[float]:
    """A functional fingerprint of the frozen model: its deepest query layer on fixed tokens, at fixed random directions."""
    generator = torch.Generator().manual_seed(20240111)
    ids = torch.randint(1, lm.vocab_size, (1, PROBE_TOKENS), generator=generator)
    directions = torch.randn(PROBE_NUMBERS, lm.hidden_size, generator=generator)
    states = lm.trunk_states(ids.to(lm.device), torch.ones_like(ids).to(lm.device), layers)[0, :, -1].float().cpu()
    # Median over positions: outlier positions (the first token) would otherwise dominate.
    values = (torch.nn.functional.normalize(states, dim=-1) @ directions.T).median(dim=0).values
    return [round(float(v), 6) for v in values]


def identity(lm: FrozenLM, layers: tuple[int, ...]) -> BaseModelIdentity:
    """What a checkpoint for `lm` remembers of it."""
    return BaseModelIdentity(
        name=lm.name,
        model_type=lm.model_type,
        hidden_size=lm.hidden_size,
        layer_count=lm.layer_count,
        vocab_size=lm.vocab_size,
        tokenizer_sha256=lm.tokenizer_digest(),
        probe=probe(lm, layers),
    )


def _refuse_wrong_model(folder: Path, expected: BaseModelIdentity, lm: FrozenLM, layers: tuple[int, ...]) -> None:
    advice = f"The checkpoint {folder.name} was trained for {expected.name!r}; load that model, or train a pair for {lm.name!r}."
    for field, label in [("model_type", "type"), ("hidden_size", "hidden size"), ("layer_count", "layers"), ("vocab_size", "vocabulary")]:
        wanted, found = getattr(expected, field), getattr(lm, field)
        if wanted != found:
            raise CheckpointError(f"Wrong base model: its {label} is {found}, not {wanted}. {advice}")
    if expected.tokenizer_sha256 != lm.tokenizer_digest():
        raise CheckpointError(f"Wrong base model: its tokenizer differs. {advice}")
    likeness = torch.nn.functional.cosine_similarity(torch.tensor(expected.probe), torch.tensor(probe(lm, layers)), dim=0)
    if not float(likeness) >= PROBE_COSINE:
        raise CheckpointError(f"Wrong base model: same architecture, other weights (likeness {float(likeness):.2f}). {advice}")


def save_pair(pair: WatermarkPair, lm: FrozenLM, folder: Path) -> None:
    """Write the checkpoint so that a reader never sees half of it: each file is replaced in one step, weights first."""
    folder.mkdir(parents=True, exist_ok=True)
    config = pair.config.model_copy(update={"base_model": identity(lm, pair.config.query_layers)})
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in _own_weights(pair).items()}
    for name, write in [
        (WEIGHTS, lambda path: save_file(weights, path, metadata={"format": "pt"})),
        (CONFIG, lambda path: path.write_text(json.dumps(config.model_dump(mode="json"), indent=2, sort_keys=True) + "\n")),
    ]:
        partial = folder / f"{name}.partial"
        write(partial)
        partial.replace(folder / name)


def _own_weights(pair: WatermarkPair) -> dict[str, torch.Tensor]:
    """Each shared tensor once, under its name on the pair (modules shared by both halves appear three times in a state dict)."""
    return {name: tensor for name, tensor in pair.state_dict().items() if not _SHARED.intersection(name.split(".")[1:])}


_SHARED = {"normaliser", "attention", "codes"}


def read_config(folder: Path) -> WatermarkConfig:
    """The configuration of the checkpoint in `folder`, or CheckpointError."""
    path = folder / CONFIG
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"Cannot read {path}: {getattr(error, 'strerror', None) or 'it is not text'}.") from None
    return WatermarkConfig.from_json(text, str(path))


def weights_digest(folder: Path) -> str:
    """SHA-256 of the weights in a checkpoint folder, to which a calibration belongs. Raises CheckpointError."""
    try:
        with (folder / WEIGHTS).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"Cannot read {folder / WEIGHTS}: {error.strerror}.") from None


def load_pair(folder: Path, lm: FrozenLM) -> WatermarkPair:
    """Load the pair in `folder` for `lm`. A damaged file, or a base model other than the one trained for, is refused."""
    config = read_config(folder)
    if config.base_model is None:
        raise CheckpointError(f"{folder / CONFIG} does not say which base model it belongs to (key base_model).")
    _refuse_wrong_model(folder, config.base_model, lm, config.query_layers)
    path = folder / WEIGHTS
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"Cannot read {path}: {error}. Restore the file or train again.") from None
    pair = build_pair(config, lm)
    wanted = _own_weights(pair)
    wrong = sorted({*wanted} ^ {*weights}) or [k for k in wanted if wanted[k].shape != weights[k].shape]
    if wrong:
        raise CheckpointError(f"{path} does not fit its config.json: {', '.join(wrong[:3])}.")
    if not all(bool(torch.isfinite(tensor).all()) for tensor in weights.values()):
        raise CheckpointError(f"{path} holds values that are not finite. Restore the file or train again.")
    pair.load_state_dict(weights, strict=False)
    return pair.eval().requires_grad_(False)
