"""Checkpoints: a folder with `config.json` and `model.safetensors`. Building is `watermark.pair`; this module saves and loads."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from watermark.base_model import FrozenLM, TokenizedModel
from watermark.checkpoint_folder import CONFIG, WEIGHTS, read_config
from watermark.config import AnyConfig, BaseModelIdentity
from watermark.errors import CheckpointError
from watermark.pair import AnyPair, ResidualPair, build_pair

PROBE_TOKENS = 24
PROBE_NUMBERS = 16
PROBE_COSINE = 0.97
"""Hidden states of one model in float32, bfloat16 or int8 agree far better than this; those of another model do not."""


def probe(lm: FrozenLM, layers: tuple[int, ...]) -> list[float]:
    """A functional fingerprint of the frozen model: its deepest query layer on fixed tokens, at fixed random directions."""
    generator = torch.Generator().manual_seed(20240111)
    ids = torch.randint(1, lm.vocab_size, (PROBE_TOKENS,), generator=generator)
    directions = torch.randn(PROBE_NUMBERS, lm.hidden_size, generator=generator)
    states = lm.read_states([ids.tolist()], layers)[:, -1].cpu()
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


def _refuse_other_architecture(folder: Path, expected: BaseModelIdentity, lm: TokenizedModel) -> None:
    advice = _advice(folder.name, expected, lm)
    for field, label in [("model_type", "type"), ("hidden_size", "hidden size"), ("layer_count", "layers"), ("vocab_size", "vocabulary")]:
        wanted, found = getattr(expected, field), getattr(lm, field)
        if wanted != found:
            raise CheckpointError(f"Wrong base model: its {label} is {found}, not {wanted}. {advice}")
    if expected.tokenizer_sha256 != lm.tokenizer_digest():
        raise CheckpointError(f"Wrong base model: its tokenizer differs. {advice}")


def refuse_other_weights(name: str, config: AnyConfig, lm: FrozenLM) -> None:
    """The model is run for a moment: one of the same architecture that computes something else is refused with CheckpointError."""
    expected, layers = config.base_model, config.query_layers
    if expected is None:  # a pair that was never saved knows no other model than the one it is with
        return
    likeness = torch.nn.functional.cosine_similarity(torch.tensor(expected.probe), torch.tensor(probe(lm, layers)), dim=0)
    if not float(likeness) >= PROBE_COSINE:
        raise CheckpointError(
            f"Wrong base model: same architecture, other weights (likeness {float(likeness):.2f}). {_advice(name, expected, lm)}"
        )


def _advice(name: str, expected: BaseModelIdentity, lm: TokenizedModel) -> str:
    return f"The checkpoint {name} was trained for {expected.name!r}; load that model, or train a pair for {lm.name!r}."


def save_pair(pair: AnyPair, lm: FrozenLM, folder: Path) -> None:
    """Write the checkpoint so that a reader never sees half of it: each file is replaced in one step, weights first."""
    folder.mkdir(parents=True, exist_ok=True)
    config = pair.config.model_copy(update={"base_model": identity(lm, pair.config.query_layers)})
    # Weights of the residual kinds are rounded to half precision: what they are multiplied with is hardly more precise.
    dtype = torch.float16 if isinstance(pair, ResidualPair) else torch.float32
    weights = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in _own_weights(pair).items()}
    for name, write in [
        (WEIGHTS, lambda path: save_file(weights, path, metadata={"format": "pt"})),
        (CONFIG, lambda path: path.write_text(json.dumps(config.model_dump(mode="json"), indent=2, sort_keys=True) + "\n")),
    ]:
        partial = folder / f"{name}.partial"
        write(partial)
        partial.replace(folder / name)


def _own_weights(pair: AnyPair) -> dict[str, torch.Tensor]:
    """Each shared tensor once, under its name on the pair (modules shared by both halves appear three times in a state dict)."""
    return {name: tensor for name, tensor in pair.state_dict().items() if not _SHARED.intersection(name.split(".")[1:])}


_SHARED = {"normaliser", "attention", "codes", "contexts"}


def load_pair(folder: Path, lm: TokenizedModel) -> AnyPair:
    """Load the pair in `folder` for `lm`, without running it. A damaged file, or a base model of another architecture or tokenizer, is
    refused with CheckpointError; `refuse_other_weights` runs the model and tells others of the same architecture."""
    config = read_config(folder)
    if config.base_model is None:
        raise CheckpointError(f"{folder / CONFIG} does not say which base model it belongs to (key base_model).")
    _refuse_other_architecture(folder, config.base_model, lm)
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
