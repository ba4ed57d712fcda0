from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.observability.metrics import Metrics
from service.storage.errors import MasterKeyError
from tests.service.fake_engine import FakeEngine
from tests.service.harness import Served, problem, serving, small_settings, until


@pytest.fixture
def fresh(tmp_path: Path):
    with serving(small_settings(tmp_path)) as running:
        yield running


def scrape(served: Served) -> dict[tuple[str, ...], float]:
    """Value by name and label values."""
    answer = served.client.get("/metrics")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain")
    samples = [sample for family in text_string_to_metric_families(answer.text) for sample in family.samples]
    return {(sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value for sample in samples}


def test_tokens_times_and_verdicts_are_counted(fresh: Served) -> None:
    text = fresh.generate(prompt=["Hello", "Hi"], max_new_tokens=30).json()["results"][0]["text"]
    fresh.verify([text, "x" * 25, "short"])
    found = scrape(fresh)
    assert found["countersign_generated_tokens_total",] == 60
    assert found["countersign_prompt_tokens_total",] == len("Hello") + 1 + len("Hi") + 1
    assert found["countersign_verified_tokens_total",] == 30 + 25 + 5
    verdicts = {verdict: found["countersign_verdicts_total", verdict] for verdict in ("marked", "not_detected", "insufficient_text")}
    assert verdicts == {"marked": 1, "not_detected": 1, "insufficient_text": 1}
    for name, count in {"first_token": 2, "generation": 2, "verification": 1}.items():
        assert found[f"countersign_{name}_seconds_count",] == count
    assert (found["countersign_queue_seconds_count", "generate"], found["countersign_queue_seconds_count", "verify"]) == (2, 1)


def test_the_engines_state_is_that_of_the_moment(fresh: Served) -> None:
    assert scrape(fresh)["countersign_waiting_prompts",] == 0
    with ThreadPoolExecutor(1) as pool, fresh.holding():
        pool.submit(fresh.generate, prompt=["a", "b"], max_new_tokens=10)
        until(lambda: fresh.unfinished == 2, "two prompts to wait")
        found = scrape(fresh)
        assert found["countersign_waiting_prompts",] == 2 and found["countersign_queued_tokens",] == 2 * (2 + 10)
        assert {found[f"countersign_{name}",] for name in ("running_prompts", "waiting_texts", "worker_restarts_total")} == {0}
    until(lambda: scrape(fresh)["countersign_waiting_prompts",] == 0, "them to be done")


def test_refusals_are_counted_by_their_code(fresh: Served) -> None:
    fresh.generate(issuer="nobody")
    fresh.generate(temperature=-1)
    fresh.generate(temperature=-1)
    fresh.verify("a" * 70_000)
    fresh.client.get("/nowhere")
    fresh.generate(prompt="poison")
    fresh.generate(prompt="poison", stream=True)
    fresh.client.post("/v1/completions", json={"model": "other", "prompt": "a"})
    found = scrape(fresh)
    codes = {labels[1]: value for labels, value in found.items() if labels[0] == "countersign_refused_total" and value}
    expected = {"unknown_issuer": 1, "invalid_input": 2, "body_too_large": 1, "not_found": 1, "internal": 2, "model_not_found": 1}
    assert codes == expected
    assert found["countersign_internal_errors_total",] == 2


def test_http_requests_are_counted_by_template_and_never_by_address(fresh: Served) -> None:
    fresh.client.get("/issuers/default")
    fresh.client.get("/issuers/newsroom")
    fresh.client.get("/somewhere/private?q=secret")
    fresh.client.get("/livez")
    found = {labels: value for labels, value in scrape(fresh).items() if labels[0] == "http_requests_total"}
    assert found["http_requests_total", "/issuers/{name}", "GET", "200"] == 2
    assert found["http_requests_total", "none", "GET", "404"] == 1
    text = fresh.client.get("/metrics").text
    assert "private" not in text and "newsroom" not in text and "/livez" not in text


def test_apps_in_one_process_count_apart() -> None:
    one, other = Metrics(FakeEngine()), Metrics(FakeEngine())
    one.refused("not_found", 404)
    assert b'code="not_found"' in one.exposition() and b'code="not_found"' not in other.exposition()


def test_library_errors_of_any_code_are_internal_ones(fresh: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def sealed(*_: object) -> None:
        raise MasterKeyError("the stored secrets are of another key")

    monkeypatch.setattr(fresh.runtime.require_storage().issuers, "verification_keys", sealed)
    problem(fresh.verify("a"), 500, "master_key")
    found = scrape(fresh)
    assert found["countersign_refused_total", "master_key"] == found["countersign_internal_errors_total",] == 1
