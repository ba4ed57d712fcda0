"""How many marked texts of one issuer let somebody without the key forge that issuer's mark, or tell it from unmarked text.

    python -m benchmarks.secret_safety --prompts FILE.jsonl[.gz] ... --work FOLDER [--preset small|full] [--seed 0] [--plot FILE.png]
    python -m benchmarks.secret_safety --table REPORT.json [--into docs/secret-safety.md]

PROMPTS have a "prompt" per line, as for `countersign evaluate`. Prints one JSON object; what is finished is kept in the work folder, and
the same command goes on from there. The second form prints the numbers of a report as Markdown, or puts them between the marks of a page.
What each section means is said in docs/secret-safety.md.

The issuer's marked texts are written once, with one codeword and with as many nonces as ship. "generated" rows use them as they are;
"re-signed" rows give them the signs of other keys (`benchmarks.attacker.resign`), which allows other numbers of codewords and of
texts, and a fresh key for every trial. "written" rows are forgeries that the model really wrote and the verifier really tested;
all other forgeries are simulated from the evidence of marked texts.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys
import time
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import attacker, oracle
from benchmarks.attack_data import (
    Issuer,
    Material,
    Sample,
    best_p_value,
    drawing,
    forging_share,
    interval,
    mean_z,
    question_counts,
)
from benchmarks.attack_presets import PRESETS, Forgery, Knowledge, Preset, Source
from benchmarks.attack_report import plot, put_into, tables
from benchmarks.attacker import Floats, Prior, Rng
from benchmarks.forging import CodesEmbedder, EagerEmbedder, Reading, Writer, Written, read
from models.registry import DEFAULT_BASE_MODEL, default_checkpoint, load_base_model, load_torch_model
from watermark.codebook.codewords import codeword
from watermark.codebook.keys import IssuerKey
from watermark.evaluation.generation import WorkFolder, text_seed
from watermark.evaluation.quality import likelihoods
from watermark.evaluation.records import Prompt, draw_prompts, file_digest, last_tokens, read_prompts
from watermark.inference.torch_lm import TorchLM
from watermark.pair import WatermarkPair, build_pair
from watermark.pipeline import FALSE_POSITIVE_RATE, WatermarkedModel
from watermark.statistics.intervals import clopper_pearson

FALSE_ALARMS = 0.01
"""At which texts are told apart."""
PROMPTS = 2000
PERPLEXITY_TEXTS = 12
OTHER_SEED = 1_000_003


class Run:
    def __init__(self, model: WatermarkedModel, preset: Preset, prompts: Sequence[Prompt], work: WorkFolder, seed: int) -> None:
        self.model, self.preset, self.work, self.seed = model, preset, work, seed
        self.key = IssuerKey("issuer", hashlib.sha256(f"countersign secret safety {seed}".encode()).digest())
        self.bits = model.config.nonce_bits
        self.writer = Writer(model, prompts, work, seed, preset.tokens, preset.batch, _progress)
        self.books = {bits: self._book(bits) for bits in {0, self.bits}}
        self.texts = {
            "unmarked": self.writer.write("unmarked", range(preset.unmarked), lambda _: (0, None)),
            "single": self.writer.write("single", range(10_000, 10_000 + preset.single), lambda number: self._nonce(number, 0)),
            "nonces": self.writer.write("nonces", range(20_000, 20_000 + preset.nonces), lambda number: self._nonce(number, self.bits)),
        }
        self.readings = {name: read(model, [t.text for t in texts], work, name, _progress) for name, texts in self.texts.items()}
        self.materials: dict[Knowledge, Material] = {"checkpoint": self._material("checkpoint"), "codes": self._material("codes")}

    def report(self) -> dict[str, Any]:
        return {
            "marks": self.marks(),
            "blind": self.blind(),
            "guessed_pairs": self.guessed_pairs(),
            "written": [self.written(forgery) for forgery in self.preset.forgeries],
            "simulated": self.simulated(),
            "oracle": self.oracle(),
        }

    # ---- the issuer's texts -----------------------------------------------------------------------------------------

    def _book(self, bits: int) -> Floats:
        return np.stack([codeword(self.key, 0, nonce, bits, self.model.config.n) for nonce in range(2**bits)]).astype(np.float64)

    def _nonce(self, number: int, bits: int) -> tuple[int, Floats]:
        nonce = int(np.random.default_rng([text_seed(self.seed, number), 1]).integers(2**bits))
        return nonce, self.books[bits][nonce]

    def _signs(self, name: str) -> Floats:
        book = self.books[0 if name == "single" else self.bits]
        return np.stack([book[text.nonce] for text in self.texts[name]])

    def _material(self, knowledge: Knowledge) -> Material:
        """Each kind of text is split into the attacker's own, those held out, and the issuer's."""
        own, held = slice(None, self.preset.aside), slice(self.preset.aside, self.preset.aside + self.preset.held_out)
        rest = slice(held.stop, None)
        seen = {name: reading.evidence(knowledge) for name, reading in self.readings.items()}
        signs = {name: self._signs(name) for name in ("single", "nonces")}
        # Texts marked with a key of the attacker's own are texts of this issuer whose signs are known: to a marker all keys are alike.
        rng = np.random.default_rng([self.seed, 2])
        prior = Prior.learn(seen["unmarked"], seen["single"][own], signs["single"][own], rng)

        def signed(part: slice) -> Floats:
            return np.concatenate([attacker.directions(seen[name][part], prior.background) * signs[name][part] for name in signs])

        truth = {name: self.readings[name].evidence("checkpoint") for name in signs}
        return Material(
            prior,
            {
                bits: Issuer(seen[name][rest], np.array([text.nonce for text in self.texts[name][rest]]), self.books[bits])
                for bits, name in ((0, "single"), (self.bits, "nonces"))
            },
            signed(rest),
            signed(held),
            np.concatenate([attacker.directions(truth[name][held]) * signs[name][held] for name in signs]),
            attacker.directions(seen["unmarked"][self.preset.aside :], prior.background),
        )

    def sample(self, knowledge: Knowledge, source: Source, bits: int, count: int, rng: Rng) -> Sample:
        material = self.materials[knowledge]
        if source == "generated":
            issuer = material.issuers[bits]
            chosen = rng.choice(len(issuer.evidence), count, replace=False)
            return Sample(attacker.directions(issuer.evidence[chosen], material.prior.background), issuer.book)
        book = rng.choice([-1.0, 1.0], size=(2**bits, material.n))
        text, word = attacker.simulated_sharing(count, len(book), len(material.signed), rng)
        return Sample(attacker.resign(material.signed[text], np.ones(material.n), book[word]), book)

    def available(self, knowledge: Knowledge, source: Source, bits: int) -> int:
        material = self.materials[knowledge]
        if source == "generated":
            return len(material.issuers[bits].evidence) if bits in material.issuers else 0
        return len(material.signed) * 2**bits

    # ---- what is measured -------------------------------------------------------------------------------------------

    def marks(self) -> list[dict[str, Any]]:
        """z of the true codeword, so that it is seen that the texts carry ordinary marks; and how likely they are."""
        rows: list[dict[str, Any]] = [{"texts": "unmarked", "n": self.preset.unmarked}]
        for name in ("single", "nonces"):
            z = (attacker.directions(self.readings[name].evidence("checkpoint")) * self._signs(name)).sum(axis=1)
            rows.append({"texts": name, "n": len(z), **mean_z(z, self.seed)})
        return [{**row, "perplexity": self._perplexity(self.texts[row["texts"]])} for row in rows]

    def blind(self) -> dict[str, Any]:
        """No marked text seen at all: does a text agree with itself on some codeword?"""
        marked = np.concatenate([self.readings[name].coherence for name in ("single", "nonces")])
        found = attacker.separation(marked, self.readings["unmarked"].coherence, FALSE_ALARMS, self.seed, self.preset.resamples)
        return {"marked": len(marked), "unmarked": self.preset.unmarked, **asdict(found)}

    def guessed_pairs(self) -> list[dict[str, Any]]:
        """The issuer's pair is kept private, and the attacker reads with another one, or with the token codes alone."""
        count = min(self.preset.guesses, self.preset.unmarked, self.preset.single)
        signs = self._signs("single")[:count]
        codes = self.readings["single"].evidence("codes"), self.readings["unmarked"].evidence("codes")
        background = attacker.directions(codes[1]).mean(axis=0)
        z = (attacker.directions(codes[0][:count], background) * signs).sum(axis=1)
        rows: list[dict[str, Any]] = [{"pair": "the issuer's", **self._guess(self.readings["single"], self.readings["unmarked"], signs)}]
        rows.append({"pair": "none, token codes alone", "n": count, **mean_z(z, self.seed)})
        for name, seed in (("untrained, with the seed of the issuer's", 0), ("untrained, with another seed", OTHER_SEED)):
            pair = build_pair(self.model.config, self.model.lm, seed)
            assert isinstance(pair, WatermarkPair)
            pair.normaliser.fit(self._states([text.text for text in self.texts["unmarked"][: min(count, 16)]]))
            guess = WatermarkedModel(self.model.lm, pair.eval(), "guess")
            marked, unmarked = (
                read(guess, [t.text for t in self.texts[kind][:count]], self.work, f"guess-{seed}-{kind}", _progress)
                for kind in ("single", "unmarked")
            )
            rows.append({"pair": name, **self._guess(marked, unmarked, signs)})
        return rows

    def _guess(self, marked: Reading, unmarked: Reading, signs: Floats) -> dict[str, Any]:
        count = len(signs)
        z = (attacker.directions(marked.evidence("checkpoint")[:count]) * signs).sum(axis=1)
        blind = (marked.coherence[:count], unmarked.coherence[:count])
        found = attacker.separation(*blind, FALSE_ALARMS, self.seed, self.preset.resamples)
        return {"n": count, **mean_z(z, self.seed), "auc": found.auc, "auc_interval": found.auc_interval}

    @torch.inference_mode()
    def _states(self, texts: Sequence[str]) -> torch.Tensor:
        found = []
        for text in texts:
            ids = torch.tensor([self.model.lm.tokenize(text).ids], device=self.model.lm.device)
            found.append(self.model.lm.read_states([ids[0].tolist()], self.model.config.query_layers))
        return torch.cat(found)

    def written(self, forgery: Forgery) -> dict[str, Any]:
        """Forgeries by the model itself, each from texts drawn for it alone, put before the verifier."""
        base = 100_000 + zlib.crc32(forgery.name.encode()) % 1000 * 1000
        numbers = range(base, base + self.preset.forged)

        def drawn(number: int) -> Sample:
            rng = np.random.default_rng([self.seed, 3, number])
            return self.sample(forgery.knowledge, forgery.source, forgery.nonce_bits, forgery.texts, rng)

        def signs(number: int) -> tuple[int, Floats]:
            sample = drawn(number)
            found = attacker.group(sample.units, self.materials[forgery.knowledge].prior, len(sample.book)).signs[0]
            return int((sample.book @ found).argmax()), found

        kind = CodesEmbedder if forgery.knowledge == "codes" else EagerEmbedder
        texts = self.writer.write(forgery.name, numbers, signs, kind(self.model, forgery.push))
        evidence = read(self.model, [t.text for t in texts], self.work, forgery.name, _progress).evidence("checkpoint")
        results = [best_p_value(e, drawn(text.number).book) for e, text in zip(evidence, texts, strict=True)]
        front_door = None
        if forgery.source == "generated" and forgery.nonce_bits == self.bits:
            verdicts = self.model.verify([text.text for text in texts], [self.key], detail="public")
            front_door = sum(verdict.verdict == "marked" for verdict in verdicts) / len(verdicts)
        p = np.array([result[0] for result in results])
        forged = int((p < FALSE_POSITIVE_RATE).sum())
        return {
            **asdict(forgery),
            "n": len(p),
            "forged": forged / len(p),
            "forged_interval": clopper_pearson(forged, len(p)),
            "median_p": float(np.median(p)),
            "front_door": front_door,
            **mean_z(np.array([result[1] for result in results]), self.seed),
            # Where the embedder does what it does for the issuer, so does the text.
            "perplexity": self._perplexity(texts) if forgery.push != 1 or forgery.knowledge == "codes" else None,
        }

    def simulated(self) -> list[dict[str, Any]]:
        plan: list[tuple[Knowledge, Source, int]] = [
            ("checkpoint", "generated", 0),
            ("checkpoint", "generated", self.bits),
            *(("checkpoint", "re-signed", bits) for bits in self.preset.simulated_bits),
            ("codes", "re-signed", 0),
            ("codes", "re-signed", self.bits),
        ]
        needed: dict[int, Floats] = {}
        rows = []
        for knowledge, source, bits in plan:
            if bits not in needed:
                own = self.materials["checkpoint"].verified
                needed[bits] = np.array([attacker.needed_z(e, 2**bits, FALSE_POSITIVE_RATE) for e in own])
            for count in self.preset.counts:
                if count <= self.available(knowledge, source, bits):
                    _progress(f"simulating {knowledge}, {source}, {bits} bits, texts", count, self.preset.counts[-1])
                    rows.append(self._simulate(knowledge, source, bits, count, needed[bits]))
        return rows

    def _simulate(self, knowledge: Knowledge, source: Source, bits: int, count: int, needed: Floats) -> dict[str, Any]:
        """Several attacks, each on other texts (and, re-signed, on another key): forgeries and texts told apart."""
        material = self.materials[knowledge]
        trials = int(np.clip(4 * self.preset.counts[-1] // count, 4, self.preset.trials))
        z, forged, marked, unmarked, others = [], [], [], [], []
        for trial in range(trials):
            rng = np.random.default_rng([self.seed, 4, bits, count, trial, source == "generated", knowledge == "codes"])
            sample = self.sample(knowledge, source, bits, count, rng)
            found = attacker.group(sample.units, material.prior, len(sample.book)).signs[: len(sample.book)]
            truth = sample.book[int((sample.book @ found[0]).argmax())]
            z.append(attacker.simulated_forgery(found[0], truth, material.verified))
            forged.append((z[-1] > needed).mean())
            words = rng.integers(len(sample.book), size=len(material.held_out))
            marked.append(attacker.scores(material.held_out * sample.book[words], found))
            others.append(attacker.scores(material.held_out * rng.choice([-1.0, 1.0], size=material.held_out.shape), found))
            unmarked.append(attacker.scores(material.unmarked, found))

        def told_from(negative: list[Floats]) -> dict[str, Any]:
            return asdict(attacker.separation(np.array(marked), np.array(negative), FALSE_ALARMS, self.seed, self.preset.resamples))

        return {
            "knowledge": knowledge,
            "source": source,
            "nonce_bits": bits,
            "texts": count,
            "trials": trials,
            "z": float(np.mean(z)),
            # Without a pair no forgery follows from signs as simulated here: the written rows say what codes alone can do.
            **({"forged": float(np.mean(forged)), "forged_interval": interval(forged, self.seed)} if knowledge == "checkpoint" else {}),
            "from_unmarked": told_from(unmarked),
            "from_other_issuers": told_from(others),
        }

    def oracle(self) -> list[dict[str, Any]]:
        """Questions to a public verifier until a text is called marked, and until the signs are known well enough to forge."""
        quarters = self.readings["unmarked"].quarters.astype(np.float64)
        segments = quarters.reshape(-1, quarters.shape[-1])
        material = self.materials["checkpoint"]
        rows = []
        for bits in (0, self.bits):
            needed = np.array([attacker.needed_z(e, 2**bits, FALSE_POSITIVE_RATE) for e in material.verified])
            for answers in oracle.ANSWERS:
                _progress(f"asking a verifier with {bits} nonce bits for answers: {answers}", 0, self.preset.asking)
                climbs: list[int | None] = []
                recoveries: list[int | None] = []
                for trial in range(self.preset.asking):
                    rng = np.random.default_rng([self.seed, 5, bits, trial])
                    book = rng.choice([-1.0, 1.0], size=(2**bits, material.n))
                    segment = drawing(segments, rng)
                    climbed = oracle.climb(oracle.Oracle(book, answers), segment, rng, self.preset.questions)
                    climbs.append(climbed.asked if climbed.marked else None)
                    text = material.issuers[0].evidence[trial % len(material.issuers[0].evidence)] * material.issuers[0].book[0]
                    forges = forging_share(book, material.verified, needed)
                    question = oracle.Oracle(book, answers)
                    limit = self.preset.questions // 2
                    recoveries.append(oracle.recover(question, segment, text * book[0], forges, rng, share=0.5, limit=limit))
                rows.append(
                    {
                        "nonce_bits": bits,
                        "answers": answers,
                        "attacks": self.preset.asking,
                        "climb": question_counts(climbs, self.preset.questions),
                        "recover": question_counts(recoveries, self.preset.questions // 2),
                    }
                )
        return rows

    def _perplexity(self, texts: Sequence[Written]) -> float:
        """Of the first few, under the base model: an indication only, because logits of a large vocabulary take long."""
        chosen = texts[:PERPLEXITY_TEXTS]
        prompts = [self.writer.prompt_ids(text.number) for text in chosen]
        _progress(f"measuring perplexity of {chosen[0].collection}", 0, len(chosen))
        judge = self.model.lm if isinstance(self.model.lm, TorchLM) else load_torch_model(self.model.lm.name)
        found = likelihoods(judge, prompts, [text.ids for text in chosen], batch_size=4)
        return float(np.exp(sum(sum(f.nlls) for f in found) / sum(len(f.nlls) for f in found)))


def _progress(stage: str, done: int, total: int) -> None:
    print(f"{stage}: {done} of {total}", file=sys.stderr, flush=True)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    checkpoint = default_checkpoint(DEFAULT_BASE_MODEL)
    model = WatermarkedModel.load(load_base_model(DEFAULT_BASE_MODEL), checkpoint)
    preset = PRESETS[options.preset]
    drawn = draw_prompts([read_prompts(path) for path in options.prompts], PROMPTS, options.seed)
    prompts = [Prompt(last_tokens(model.lm, p.text), p.human, p.source) for p in drawn]
    settings = {
        "base_model": model.lm.name,
        "checkpoint": model.name,
        "checkpoint_digest": file_digest(checkpoint / "model.safetensors"),
        "prompts": [[path.name, file_digest(path)] for path in options.prompts],
        "preset": options.preset,
        "tokens": preset.tokens,
        "seed": options.seed,
        "unmarked": preset.unmarked,
        "single": preset.single,
        "nonces": preset.nonces,
    }
    start = time.process_time()
    result = Run(model, preset, prompts, WorkFolder(options.work, settings), options.seed).report()
    return {
        "command": f"python -m benchmarks.secret_safety --preset {options.preset} --seed {options.seed}",
        "settings": {
            **settings,
            "nonce_bits": model.config.nonce_bits,
            "signs": model.config.n,
            "false_positive_rate": FALSE_POSITIVE_RATE,
            "false_alarms": FALSE_ALARMS,
            "date": time.strftime("%Y-%m-%d"),
        },
        "versions": {"python": platform.python_version(), **{name: version(name) for name in ("torch", "transformers", "numpy", "scipy")}},
        "seconds": time.process_time() - start,
        **result,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=Path, nargs="+", default=[])
    parser.add_argument("--work", type=Path, help="folder of finished parts")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="full")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--table", type=Path, metavar="REPORT.json", help="print the numbers of this report, measure nothing")
    parser.add_argument("--into", type=Path, metavar="PAGE.md", help="with --table: put them between the marks of this page")
    options = parser.parse_args()
    if options.table:
        report = json.loads(options.table.read_text(encoding="utf-8"))
        if options.into:
            put_into(options.into, tables(report))
        else:
            print(tables(report))
    else:
        if not options.prompts or not options.work:
            parser.error("--prompts and --work are needed to measure")
        report = measure(options)
        print(json.dumps(report, indent=2))
    if options.plot:
        plot(report, options.plot)


if __name__ == "__main__":
    main()
