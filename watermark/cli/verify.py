"""`countersign verify`: who issued a text, from the text alone."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from watermark.bulk.jobs import KeyChoice, VerifyJob
from watermark.bulk.work import verifying
from watermark.cli import common
from watermark.cli.batches import run_batches
from watermark.cli.bulk import BlockLinesOption, Engine, EngineOption, WorkersOption, check_engine, run_bulk
from watermark.cli.common import BackendOption, BaseModelOption, BatchSizeOption, CheckpointOption, DeviceOption, JsonOption, KeysOption
from watermark.cli.jsonlines import LinesFile, LinesOutput
from watermark.errors import InvalidInput
from watermark.statistics.verdict import Verdict


class Detail(StrEnum):
    public = "public"
    full = "full"


def register(app: typer.Typer) -> None:
    app.command("verify")(verify)


def verify(
    text: Annotated[str | None, typer.Argument(help="Text to verify; - reads it from stdin.", show_default=False)] = None,
    texts: Annotated[Path | None, typer.Option(metavar="IN.JSONL", help='Many texts: JSON lines {"text": …}.')] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT.JSONL", help="With --texts: one verdict per line, in the same order. Broken off, the same command resumes."
        ),
    ] = None,
    issuer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Issuer to look for; repeatable. The fewer, the shorter the texts that suffice. [default: all keys]"
        ),
    ] = None,
    false_positive_rate: Annotated[
        float, typer.Option(help="Accepted share of unmarked texts called marked. Lower it when a wrong accusation is costly.")
    ] = 1e-3,
    detail: Annotated[
        Detail, typer.Option(help="public leaves out what would help an attacker remove the mark, such as evidence per token.")
    ] = Detail.full,
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
    """Say who issued a text, or that no mark was found. The exit status is 0 for every verdict.

    A bad line of a batch is reported with its number, stands as {"error": …} in the output, and makes the exit status 1; the
    others are done.
    """
    files = common.batch_files(text, texts, out, "--texts")
    check_engine(engine, files, workers, block_lines, device)
    if not 0.0 < false_positive_rate < 1.0:
        raise InvalidInput(f"--false-positive-rate must be between 0 and 1; got {false_positive_rate!r}.")
    ring = common.key_ring(keys)
    chosen = common.chosen_keys(ring, issuer)
    if files is None:
        single = common.read_text(text, "text")
        model = common.load_model(base_model, checkpoint, device, backend)
        [verdict] = model.verify([single], chosen, false_positive_rate=false_positive_rate, detail=detail.value)
        _show(verdict, as_json)
        return
    if engine is Engine.ray:
        choice = common.chosen_model(base_model, checkpoint, device, backend).anywhere()
        job = VerifyJob(choice, KeyChoice.of(ring, chosen), false_positive_rate, detail.value)
        common.finish_batch(run_bulk(job, files, workers, block_lines, device, batch_size), as_json)
        return
    source = LinesFile(files[0])
    arguments = {
        "command": "verify",
        "input": source.sha256,
        "keys": [[key.name, key.payload_bits, key.created] for key in chosen],
        "false_positive_rate": false_positive_rate,
        "detail": detail.value,
        "models": [base_model, checkpoint],
    }
    with LinesOutput(files[1], arguments) as output:
        model = common.load_model(base_model, checkpoint, device, backend)
        summary = run_batches(source, output, verifying(model, chosen, false_positive_rate, detail.value), batch_size)
    common.finish_batch(summary, as_json)


def _show(verdict: Verdict, as_json: bool) -> None:
    if as_json:
        common.print_json(verdict)
        return
    print(verdict.verdict.replace("_", " ") + (f": issued by {verdict.issuer}" if verdict.issuer else ""))
    if verdict.payload or verdict.payload_bits:
        print(f"payload: {_payload(verdict.payload, verdict.payload_confidence)}")
    bits = "".join("?" if bit.value is None else str(bit.value) for bit in verdict.payload_bits or ())
    if not verdict.payload and bits.strip("?"):
        print(f"its bits, ? where unsure: {bits}")
    searched = f", {verdict.windows:,} parts of the text" if verdict.windows else ""
    tried = f"{_count(verdict.candidates)} candidates, {verdict.tokens:,} tokens{searched}"
    print(f"p-value: {verdict.p_value:.3g} (threshold {verdict.false_positive_rate:g}; {tried})")
    if verdict.exact_p_value != verdict.p_value:
        print(f"exact p-value: {verdict.exact_p_value:.3g} (for a key drawn at random)")
    if verdict.verdict != "marked" and verdict.expected_detection is not None:
        print(f"expected detection: {_percent(verdict.expected_detection)} of marked texts of this length, unedited")
    for segment in verdict.segments:
        has_payload = segment.payload is not None or segment.payload_confidence is not None
        payload = f", payload {_payload(segment.payload, segment.payload_confidence)}" if has_payload else ""
        where = f"characters {segment.start}…{segment.end}, {segment.tokens:,} token{'s' * (segment.tokens != 1)}"
        print(f"segment: {where}, {segment.issuer}{payload}, p-value {segment.p_value:.3g}")
    print(verdict.explanation)


def _payload(payload: str | None, confidence: float | None) -> str:
    sure = "" if confidence is None else f" (confidence {_percent(confidence)})"
    return (payload or "a message is there but cannot be read") + sure


def _percent(share: float) -> str:
    """Never 100 %, which neither a confidence nor a share of all texts can be."""
    return "over 99.9 %" if share > 0.999 else f"{100 * share:.3g} %"


def _count(candidates: int) -> str:
    return f"{candidates:,}" if candidates < 10**9 else f"{candidates:.2g}"
