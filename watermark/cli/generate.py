"""`countersign generate`: continue prompts with marked text."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Annotated

import typer

from watermark.bulk.jobs import GenerateJob, KeyChoice
from watermark.bulk.lines import Record
from watermark.bulk.work import generating, generation_record
from watermark.cli import common
from watermark.cli.batches import run_batches
from watermark.cli.bulk import BlockLinesOption, Engine, EngineOption, WorkersOption, check_engine, run_bulk
from watermark.cli.common import BackendOption, BaseModelOption, BatchSizeOption, CheckpointOption, DeviceOption, JsonOption, KeysOption
from watermark.cli.jsonlines import LinesFile, LinesOutput
from watermark.errors import InvalidInput
from watermark.sampling.requests import GenerationRequest, GenerationResult, SamplingSettings

DEFAULTS = SamplingSettings()


def register(app: typer.Typer) -> None:
    app.command("generate")(generate)


def generate(
    prompt: Annotated[str | None, typer.Argument(help="Text to continue; - reads it from stdin.", show_default=False)] = None,
    prompts: Annotated[Path | None, typer.Option(metavar="IN.JSONL", help='Many prompts: JSON lines {"prompt": …}.')] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT.JSONL",
            help='With --prompts: lines {"prompt", "text", "marking"}, in the same order. Broken off, the same command resumes.',
        ),
    ] = None,
    issuer: Annotated[str | None, typer.Option(metavar="NAME", help="Whose key marks the text. [default: the only key there is]")] = None,
    payload: Annotated[
        str | None, typer.Option(metavar="HEX", help="Message beside the issuer, up to 16 digits, for keys with payload bits. [default: 0]")
    ] = None,
    strength: Annotated[
        float, typer.Option(help="0 … 1. Lower it only when measured quality asks for it: weaker marks need longer texts.")
    ] = 1.0,
    no_watermark: Annotated[
        bool,
        typer.Option(
            "--no-watermark", help="Write unmarked text, e.g. to compare. --issuer, --payload and --strength then have no effect."
        ),
    ] = False,
    max_new_tokens: Annotated[int, typer.Option(help="Longest continuation.")] = DEFAULTS.max_new_tokens,
    min_new_tokens: Annotated[
        int, typer.Option(help="No end of text before this many tokens. Raise it when texts are too short to verify.")
    ] = 0,
    temperature: Annotated[
        float, typer.Option(help="0 is greedy and cannot be marked. Lower is more predictable and marks less.")
    ] = DEFAULTS.temperature,
    top_k: Annotated[int, typer.Option(help="Draw among this many likeliest tokens.")] = DEFAULTS.top_k,
    top_p: Annotated[float, typer.Option(help="Draw among the likeliest tokens that together have this probability.")] = DEFAULTS.top_p,
    seed: Annotated[
        int | None,
        typer.Option(
            help="Same seed, same text. In a batch each line gets its own, derived from this and its place. [default: a fresh one]"
        ),
    ] = None,
    batch_size: BatchSizeOption = 16,
    engine: EngineOption = Engine.local,
    workers: WorkersOption = None,
    block_lines: BlockLinesOption = None,
    base_model: BaseModelOption = None,
    checkpoint: CheckpointOption = None,
    device: DeviceOption = "cpu",
    backend: BackendOption = "auto",
    keys: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Continue a prompt, or a file of prompts, with text that carries the issuer's mark.

    A bad line of a batch is reported with its number, stands as {"error": …} in the output, and makes the exit status 1; the
    others are done.
    """
    files = common.batch_files(prompt, prompts, out, "--prompts")
    check_engine(engine, files, workers, block_lines, device)
    sampling = SamplingSettings(max_new_tokens, min_new_tokens, temperature, top_k, top_p, seed)
    ring = common.key_ring(keys)
    key = None if no_watermark else common.chosen_key(ring, issuer)
    message = 0 if no_watermark else parse_payload(payload)
    template = GenerationRequest("", sampling, key, message, strength)  # bad settings end here, before anything is loaded
    if files is None:
        request = dataclasses.replace(template, prompt=common.read_text(prompt, "prompt"))
        model = common.load_model(base_model, checkpoint, device, backend)
        with common.waiting("writing"):
            [result] = model.generate([request])
        _show(request, result, as_json)
    elif engine is Engine.ray:
        chosen = KeyChoice.of(ring, [key]) if key else None
        job = GenerateJob(common.chosen_model(base_model, checkpoint, device, backend).anywhere(), chosen, sampling, message, strength)
        common.finish_batch(run_bulk(job, files, workers, block_lines, device, batch_size), as_json)
    else:
        source = LinesFile(files[0])
        with LinesOutput(files[1], _arguments(source, template) | {"models": [base_model, checkpoint]}) as output:
            model = common.load_model(base_model, checkpoint, device, backend)
            summary = run_batches(source, output, generating(model, template), batch_size)
        common.finish_batch(summary, as_json)


def _arguments(source: LinesFile, template: GenerationRequest) -> Record:
    """What the output of a batch depends on. A batch size is not among it, and a secret must not be."""
    key = template.key
    return {
        "command": "generate",
        "input": source.sha256,
        "sampling": dataclasses.asdict(template.sampling),
        "key": key and [key.name, key.payload_bits, key.created],
        "payload": template.payload,
        "strength": template.strength,
    }


def parse_payload(text: str | None) -> int:
    """Raises InvalidInput for anything but up to 16 hexadecimal digits, with or without 0x."""
    if text is None:
        return 0
    if not re.fullmatch(r"(0[xX])?[0-9a-fA-F]{1,16}", text):
        raise InvalidInput(f"--payload must be 1 to 16 hexadecimal digits, e.g. 2f; got {text!r}.")
    return int(text, 16)


def _show(request: GenerationRequest, result: GenerationResult, as_json: bool) -> None:
    if as_json:
        common.print_json(generation_record(request, result) | {"seed": result.seed, "finish_reason": result.finish_reason})
        return
    print(result.text)
    marking = result.marking
    if marking.watermark:
        what = f"marked for {marking.issuer}" + (f", payload {marking.payload}" if marking.payload else "")
        what += f": {marking.marked_tokens} of {marking.tokens} tokens, self-check p = {marking.p_value:.2g}"
    else:
        what = f"not marked: {marking.reason}"
    common.note(f"[{what} · seed {result.seed}]")
