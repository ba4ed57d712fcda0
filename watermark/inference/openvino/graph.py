"""From the stored graphs to compiled ones: attention gets its caches, and what a use does not need is cut off."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import torch
from openvino import opset13 as ops
from openvino.op import _PagedAttentionExtension as PagedAttention  # type: ignore[attr-defined]  # not in the stubs
from torch import Tensor, nn

from watermark.inference.openvino.files import BODY, HEAD, STAND_IN, Attention, Shape
from watermark.inference.openvino.head import GROUP

Model: Any = ov.Model
"""Its type stubs contradict themselves."""
BLOCK = 32
"""Tokens in a block of the cache: fixed by OpenVINO's kernel."""
SHAPES_KEPT = 16
"""Numbers of tokens for which OpenVINO keeps what it prepared: 2 MB each. By default it keeps 5,000, and a service that reads texts of all
lengths grows by gigabytes; preparing it anew takes no time that can be measured (docs/experiments.md, "Gigabytes of prepared shapes")."""
TABLES = ("past", "begins", "blocks", "block_begins", "longest")
WRITING_GROUP, READING_GROUP = 32, 128
"""Like the weights, activations are rounded to 8 bits, in groups of so many, each with its own scale. A token that is written goes through
all layers, and their roundings add up; of a text that is read, the lower layers are run, on many tokens at once, which is work for the
CPU's arithmetic units (docs/experiments.md, "Reading in 8 bits after all")."""


def _layer_precision(core: ov.Core) -> ov.Type:
    """bfloat16 where the CPU has instructions for it; elsewhere its conversion costs more than it saves."""
    return ov.Type.bf16 if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else ov.Type.f32


def compile_reading(core: ov.Core, folder: Path, shape: Shape, outputs: Sequence[str], threads: int) -> Any:
    """The graph up to `outputs` ("state_0" …: (tokens, hidden) after so many layers), with paged attention. Beside `embeddings` and
    `positions` it takes the tables of `TABLES` and, for every layer that it runs, `keys_LAYER` and `values_LAYER` (blocks, heads, BLOCK,
    width)."""
    stored = core.read_model(folder / BODY)
    results = [stored.output(name).get_node() for name in outputs]
    return _compile(core, _paged(core, stored, results, shape), _layer_precision(core), threads, READING_GROUP)


def compile_writing(core: ov.Core, folder: Path, shape: Shape, layers: Sequence[int], network: nn.Module | None, threads: int) -> Any:
    """The graph up to what the head reads: at the places of `keep`, another input, "final" (1, kept, hidden) and, with a network,
    "network": what it makes of the states (kept, layers, hidden) there."""
    stored = core.read_model(folder / BODY)
    results = [stored.output("final").get_node()]
    if network:
        states = [stored.output(f"state_{layer}").get_node().input_value(0) for layer in layers]
        keep = next(p for p in stored.get_parameters() if p.get_friendly_name() == "keep")
        rows = [ops.unsqueeze(ops.gather(state, keep, np.int64(0)), np.int64(1)) for state in states]
        results.append(_with_network(network, ops.concat(rows, 1), (len(layers), shape.hidden_size)))
    return _compile(core, _paged(core, stored, results, shape), _layer_precision(core), threads, WRITING_GROUP)


def _with_network(network: nn.Module, states: Any, shape: tuple[int, int]) -> Any:
    """The node of the result "network"."""
    converted = _converted(network, torch.zeros(2, *shape))
    for target in list(converted.get_parameters()[0].output(0).get_target_inputs()):
        target.replace_source_output(states.output(0))
    result = ops.result(converted.get_results()[0].input_value(0))
    result.output(0).get_tensor().set_names({"network"})
    return result


def _paged(core: ov.Core, stored: Any, results: Sequence[Any], shape: Shape) -> Any:
    """The part of the stored graph that leads to `results`, its stand-ins replaced by paged attention."""
    precision = _layer_precision(core)
    tables = {name: _parameter([] if name == "longest" else [-1], np.int32, name) for name in TABLES}
    caches: list[Any] = []
    by_layer = {attention.layer: attention for attention in shape.attentions}
    for node in Model(results, stored.get_parameters(), "body").get_ordered_ops():
        if node.get_friendly_name().startswith(STAND_IN) and node.get_type_name() == "Concat":
            attention = by_layer[int(node.get_friendly_name().removeprefix(STAND_IN))]
            pair = [
                _parameter([-1, attention.heads, BLOCK, width], precision, f"{what}_{attention.layer}")
                for what, width in (("keys", attention.key_width), ("values", attention.value_width))
            ]
            caches += pair
            attended = _paged_attention([node.input_value(i) for i in range(3)], pair, tables, attention)
            (cut,) = [each.get_node() for each in node.output(0).get_target_inputs()]
            for target in list(cut.output(0).get_target_inputs()):
                target.replace_source_output(attended.output(0))
    kept = any(result.output(0).get_any_name() == "final" for result in results)
    used = [p for p in stored.get_parameters() if kept or p.get_friendly_name() != "keep"]
    return Model(results, [*used, *tables.values(), *caches], "body")


def compile_head(core: ov.Core, folder: Path, *, rounded: bool, threads: int) -> Any:
    """See `head`."""
    return _compile(core, core.read_model(folder / HEAD), ov.Type.f32, threads, GROUP if rounded else WRITING_GROUP)


def compile_network(core: ov.Core, network: nn.Module, example: Tensor, threads: int) -> Any:
    """A torch module on one tensor whose first dimension is free."""
    return _compile(core, _converted(network, example), _layer_precision(core), threads)


def _converted(network: nn.Module, example: Tensor) -> Any:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Traced here: the conversion's own tracing compares two runs, and imports half of torch for it, which takes a second.
        traced = torch.jit.trace(network, example, check_trace=False)
        return ov.convert_model(traced, example_input=example, input=[ov.PartialShape([-1, *example.shape[1:]])])


def _compile(core: ov.Core, model: Any, precision: ov.Type, threads: int, group: int = 0) -> Any:
    return core.compile_model(
        model,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": precision,
            "KV_CACHE_PRECISION": precision,
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # threads of every process would be tied to the same first cores, and wait for each other there
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": group,
            "CPU_RUNTIME_CACHE_CAPACITY": SHAPES_KEPT,
        },
    )


def ints(*values: int) -> Any:
    """A constant of an operation's own."""
    return ops.constant(np.array(values, np.int64))


def _parameter(shape: list[int], element: Any, name: str) -> Any:
    parameter = ops.parameter(shape, element, name=name)
    parameter.output(0).get_tensor().set_names({name})
    return parameter


def _paged_attention(states: list[Any], caches: list[Any], tables: dict[str, Any], attention: Attention) -> Any:
    """The operation has 28 inputs; those for features that nobody uses here (ALiBi, eviction, sparse attention, sinks …) are empty."""

    def empty(element: Any, rank: int = 1) -> Any:
        return ops.constant(np.zeros([0] * rank, element)).output(0)

    def scalar(value: float, element: Any) -> Any:
        return ops.constant(np.array(value, element)).output(0)

    i32, f32 = np.int32, np.float32
    node = PagedAttention(
        [
            *states,
            *(cache.output(0) for cache in caches),
            *(tables[name].output(0) for name in TABLES[:4]),
            scalar(attention.scale, f32),
            scalar(attention.window, i32),
            empty(f32),  # ALiBi slopes
            tables["longest"].output(0),
            empty(i32),  # score aggregation window
            *(empty(i32), empty(i32, 2), empty(f32, 2)),  # rotation of cached blocks
            *(empty(f32), scalar(0, i32), scalar(0, i32)),  # sparse attention: threshold, block size, stride
            empty(f32),  # sinks
            *(scalar(0, i32), empty(i32), empty(i32), empty(i32)),  # eviction by diversity
            empty(i32),  # token types
            *(empty(np.uint8), empty(i32)),  # bias between queries
        ]
    )
    information = node.get_rt_info()
    information["num_k_heads"] = information["num_v_heads"] = attention.heads
    information["k_head_size"], information["v_head_size"] = attention.key_width, attention.value_width
    return node
