"""From a transformers model to the graphs that OpenVINO runs, as files.

The model is traced by its own `forward`, so any architecture converts whose attention goes through transformers' attention interface.
Attention itself becomes OpenVINO's paged attention, which lets every text of a batch have a length of its own; that operation cannot be
stored in a file, so the stored graph has a stand-in that `graph` replaces.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import torch
from openvino import opset13 as ops
from openvino.frontend.pytorch import ConversionExtension
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from watermark.errors import NotConvertible
from watermark.inference.openvino.files import BODY, EMBEDDING, FORMAT, HEAD, SHAPE, STAND_IN, Attention, Shape
from watermark.inference.openvino.graph import Model, ints
from watermark.inference.openvino.head import GROUP
from watermark.inference.openvino.rounding import write_rounded
from watermark.inference.torch_lm import TorchLM

ATTENTION = "countersign_paged"
UNSUPPORTED = ("softcap", "s_aux", "position_bias", "cache_position_bias")
"""Arguments by which an architecture asks for attention that is not the plain one."""


def convert(lm: TorchLM, folder: Path) -> None:
    """Write the files of `lm` into `folder`. Raises NotConvertible for an architecture that OpenVINO's paged attention cannot run.

    The weights of all linear layers are 8-bit integers, with a scale for each output; for the output head see `rounding`.
    """
    model, attentions = _traced(lm)
    gathers = [n for n in _of_type(model, "Gather") if _constant_shape(n, 0) == (lm.vocab_size, lm.hidden_size)]
    heads = [n for n in _of_type(model, "MatMul") if _constant_shape(n, 1) == (lm.vocab_size, lm.hidden_size)]
    if len(gathers) != 1 or len(heads) != 1 or len(attentions) != lm.layer_count:
        raise _unsupported(
            lm, f"{len(attentions)} of {lm.layer_count} attentions, {len(gathers)} embeddings and {len(heads)} heads were recognised"
        )
    np.save(folder / EMBEDDING, lm.token_embeddings.detach().cpu().half().contiguous().numpy())
    before_head = heads[0].input_value(0)
    _write_body(model, gathers[0], before_head, lm, folder)
    shape = Shape(
        format=FORMAT,
        model_type=lm.model_type,
        hidden_size=lm.hidden_size,
        layer_count=lm.layer_count,
        vocab_size=lm.vocab_size,
        context_size=lm.context_size,
        end_ids=lm.end_ids,
        rounded_head=_write_head(model, heads[0], lm, folder),
        attentions=attentions,
    )
    (folder / SHAPE).write_text(shape.model_dump_json(indent=1) + "\n", encoding="utf-8")


class _Forward(nn.Module):
    """The whole model for one flat row of tokens that may belong to many texts; logits at `keep` only."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, positions: Tensor, keep: Tensor) -> tuple[Tensor, ...]:
        output = self.model(input_ids=ids, position_ids=positions, use_cache=False, output_hidden_states=True, logits_to_keep=keep)
        return (output.logits[0], *(states[0] for states in output.hidden_states[:-1]))


def _traced(lm: TorchLM) -> tuple[Any, tuple[Attention, ...]]:
    model = lm.model
    example = [torch.zeros(1, 5, dtype=torch.long), torch.arange(5)[None], torch.tensor([4])]
    before, attentions = model.config.get_text_config()._attn_implementation, []
    ALL_ATTENTION_FUNCTIONS.register(ATTENTION, _attend)
    try:
        model.set_attn_implementation(ATTENTION)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer's, of numbers that are meant to be constants
            traced = torch.jit.trace(_Forward(model), example, check_trace=False)
            extension = ConversionExtension("countersign::paged_attention", lambda context: _stand_in(context, attentions))
            return ov.convert_model(traced, example_input=example, extension=[extension]), tuple(attentions)
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        raise _unsupported(lm, str(error).strip().splitlines()[0]) from error
    finally:
        model.set_attn_implementation(before)


@torch.library.custom_op("countersign::paged_attention", mutates_args=())
def _paged_attention(query: Tensor, key: Tensor, value: Tensor, numbers: str, width: int) -> Tensor:
    """Seen by the tracer only; what it computes does not matter, its shape does."""
    return query.new_zeros(len(query), width)


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, scaling: float | None = None, **options: Any
) -> Any:
    """transformers' attention interface: query (1, heads, tokens, width), key and value (1, key heads, tokens, width)."""
    if asked := [name for name in UNSUPPORTED if options.get(name) is not None]:
        raise ValueError(f"attention with {', '.join(asked)}")
    heads, width, value_width = int(query.shape[1]), int(query.shape[3]), int(value.shape[3])
    numbers = Attention(
        layer=int(module.layer_idx),
        scale=width**-0.5 if scaling is None else float(scaling),
        window=int(options.get("sliding_window") or 0),
        heads=int(key.shape[1]),
        query_width=heads * width,
        key_width=width,
        value_width=value_width,
    )

    def flat(states: Tensor) -> Tensor:
        return states.transpose(1, 2).reshape(-1, int(states.shape[1]) * int(states.shape[3]))

    attended = torch.ops.countersign.paged_attention(flat(query), flat(key), flat(value), numbers.model_dump_json(), heads * value_width)
    return attended.view(1, -1, heads, value_width), None


def _stand_in(context: Any, attentions: list[Attention]) -> list[Any]:
    """Query, key and value side by side, under a name that says which layer this is."""
    states = [context.get_input(i) for i in range(3)]
    attentions.append(Attention.model_validate_json(context.get_values_from_const_input(3)))
    together = ops.concat(states, 1, name=f"{STAND_IN}{attentions[-1].layer}")
    width = context.get_values_from_const_input(4)
    return [ops.slice(together, ints(0), ints(int(np.asarray(width).item())), ints(1), ints(1)).output(0)]


def _write_head(model: Any, head: Any, lm: TorchLM, folder: Path) -> bool:
    """From the last hidden states to the logits → `Shape.rounded_head`. Where the architecture does something after the product (caps,
    scales, a bias), all of that is kept, and the weights are in 8 bits."""
    result = model.outputs[0].get_node().input_value(0)
    after = result.get_node()
    # After a plain product comes the choice of the only row of a batch of one, and nothing else.
    plain = after.get_type_name() == "Gather" and after.input_value(0).get_node().get_friendly_name() == head.get_friendly_name()
    if plain and lm.hidden_size % GROUP == 0:
        weight = _constant(head, 1).data.astype(np.float32)
        write_rounded(weight if head.get_attributes()["transpose_b"] else weight.T, folder)
        return True
    states = ops.parameter([-1, lm.hidden_size], np.float32, name="states")
    head.input(0).replace_source_output(ops.unsqueeze(states, ints(0)).output(0))
    _round_weight(head)
    ov.save_model(Model([result], [states], "head"), folder / HEAD, compress_to_fp16=False)
    return False


def _write_body(model: Any, gather: Any, before_head: Any, lm: TorchLM, folder: Path) -> None:
    """From embedded tokens to the hidden states of every layer, and at `keep` to what the head reads."""
    embeddings = ops.parameter([1, -1, lm.hidden_size], np.float32, name="embeddings")
    for target in list(gather.output(0).get_target_inputs()):
        target.replace_source_output(embeddings.output(0))
    parameters = {next(iter(p.output(0).get_names())): p for p in model.get_parameters()}
    # Some architectures ask the ids for their shape; those that ask for more do not pass the check that follows a conversion.
    like_ids = ops.convert(ops.reduce_max(embeddings, ints(2), False), np.int64)
    for target in list(parameters["ids"].output(0).get_target_inputs()):
        target.replace_source_output(like_ids.output(0))
    outputs = {"final": before_head} | {f"state_{i}": out.get_node().input_value(0) for i, out in enumerate(model.outputs[1:])}
    results = []
    for name, output in outputs.items():
        results.append(ops.result(output))
        results[-1].set_friendly_name(name)
        results[-1].output(0).get_tensor().set_names({name})
    body = Model(results, [embeddings, parameters["positions"], parameters["keep"]], "body")
    for product in _joined([product for product in _of_type(body, "MatMul") if len(_constant_shape(product, 1) or ()) == 2]):
        _round_weight(product)
    ov.save_model(body, folder / BODY, compress_to_fp16=False)


def _joined(products: Sequence[Any]) -> list[Any]:
    """Three products of the same input, which are a layer's queries, keys and values, become one, whose result is taken apart: there is one
    to be started instead of three. Two, as of a gate and what it gates, are left: the gate's function is part of its product."""
    by_input: dict[tuple[str, int], list[Any]] = {}
    for product in products:
        source = product.input_value(0)
        by_input.setdefault((source.get_node().get_friendly_name(), source.get_index()), []).append(product)
    found = []
    for group in by_input.values():
        by_rows = {bool(product.get_attributes()["transpose_b"]) for product in group}
        if len(group) != 3 or len(by_rows) > 1:
            found += group
            continue
        (by_row,) = by_rows
        weights = [_constant(product, 1).data.astype(np.float32) for product in group]
        whole = ops.constant(np.concatenate(weights, axis=0 if by_row else 1))
        found.append(ops.matmul(group[0].input_value(0), whole, False, by_row))
        parts = ops.variadic_split(found[-1], ops.constant(np.int64(-1)), ints(*(weight.shape[0 if by_row else 1] for weight in weights)))
        for number, product in enumerate(group):
            for target in list(product.output(0).get_target_inputs()):
                target.replace_source_output(parts.output(number))
    return found


def _round_weight(product: Any) -> None:
    """The constant (outputs, inputs) of a matrix product becomes 8-bit integers times a scale for each output."""
    weight = _constant(product, 1).data.astype(np.float32)
    by_rows = product.get_attributes()["transpose_b"]
    scale = np.maximum(np.abs(weight).max(axis=1 if by_rows else 0, keepdims=True) / 127, np.finfo(np.float32).tiny)
    integers = np.rint(weight / scale).astype(np.int8)
    dequantised = ops.multiply(ops.convert(ops.constant(integers), np.float32), ops.constant(scale))
    product.input(1).replace_source_output(dequantised.output(0))


def _of_type(model: Any, name: str) -> list[Any]:
    return [node for node in model.get_ordered_ops() if node.get_type_name() == name]


def _constant(node: Any, port: int) -> Any:
    """The constant at an input, or None."""
    source = node.input_value(port).get_node()
    if source.get_type_name() == "Convert":
        source = source.input_value(0).get_node()
    return source if source.get_type_name() == "Constant" else None


def _constant_shape(node: Any, port: int) -> tuple[int, ...] | None:
    found = _constant(node, port)
    return tuple(found.get_output_shape(0)) if found else None


def _unsupported(lm: TorchLM, reason: str) -> NotConvertible:
    return NotConvertible(
        f"{lm.name!r} ({lm.model_type}) cannot be converted for the openvino backend: {reason.rstrip('.')}. The torch backend runs it."
    )
