"""Dockerfile, docker-compose.yml and the Prometheus configuration, as far as they can be held to their promises without a Docker engine."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from service.first_start import require_api_keys
from service.observability.metrics import Metrics
from service.server import GRACE
from service.settings import Settings, build_settings
from service.storage.open import open_storage
from tests.service.fake_engine import FakeEngine
from tests.service.harness import serving, small_settings
from watermark.cli.main import app
from watermark.errors import InvalidInput

ROOT = Path(__file__).parents[1]
FOLDERS = ("COUNTERSIGN_HOME", "COUNTERSIGN_CACHE")
"""Variables that are read before there are settings."""
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


class Stage:
    def __init__(self, base: str, name: str) -> None:
        self.base, self.name = base, name
        self.instructions: list[tuple[str, str]] = []

    def all(self, word: str) -> list[str]:
        return [rest for each, rest in self.instructions if each == word]


def stages() -> list[Stage]:
    lines = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found: list[Stage] = []
    for line in filter(str.strip, lines.splitlines()):
        word, rest = line.split(maxsplit=1)
        if word == "FROM":
            base, _, name = rest.split()
            found.append(Stage(base, name))
        else:
            found[-1].instructions.append((word, rest.strip()))
    return found


BUILD, RUNTIME, *TARGETS = stages()
ENVIRONMENT = dict(part.split("=", 1) for rest in RUNTIME.all("ENV") for part in shlex.split(rest))


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"COUNTERSIGN_{name.upper()}", raising=False)


def test_the_cpu_image_is_the_default_target() -> None:
    assert [target.name for target in TARGETS] == ["cuda", "cpu"]
    assert {target.base for target in TARGETS} == {RUNTIME.name}
    assert "COUNTERSIGN_DEVICE=cuda" in TARGETS[0].all("ENV")[0]


def test_all_that_is_copied_is_there_and_not_ignored() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    sources = [source for rest in BUILD.all("COPY") for source in rest.split()[:-1]]
    assert sources and set(sources) <= allowed
    assert not [source for source in sources if not (ROOT / source).exists()]
    assert [rest for rest in RUNTIME.all("COPY") if not rest.startswith(f"--from={BUILD.name} ")] == []


@pytest.mark.parametrize("extras", [None, "ray redis tracing"])
def test_requirements_are_those_of_the_project(extras: str | None) -> None:
    given = dict(rest.split("=", 1) for rest in BUILD.all("ARG"))["EXTRAS"].strip('"') if extras is None else extras
    command = next(rest for rest in BUILD.all("RUN") if "requirements.txt" in rest)
    code = shlex.split(command.partition(" > requirements.txt")[0])[2]
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={"EXTRAS": given}, check=True, capture_output=True, text=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [each for extra in given.split() for each in project["optional-dependencies"][extra]]
    assert given.split()[-2:] == ["redis", "tracing"]
    assert run.stdout.splitlines() == [*project["dependencies"], *wanted]


def test_it_runs_as_nobody_special() -> None:
    words = [word for word, _ in RUNTIME.instructions]
    (user,) = RUNTIME.all("USER")
    assert int(user) >= 10_000  # a number, so that an orchestrator can tell that it is not root
    assert words.index("USER") > max(place for place, word in enumerate(words) if word in ("RUN", "COPY"))
    assert not any(target.all("USER") or target.all("RUN") for target in TARGETS)


def test_what_the_image_starts_is_a_command() -> None:
    (command,) = RUNTIME.all("CMD")
    program, name = json.loads(command)
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert program in scripts and name in typer.main.get_command(app).commands  # type: ignore[attr-defined]


def test_its_environment_is_of_known_settings_and_asks_for_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ours = {name: value for name, value in ENVIRONMENT.items() if name.startswith("COUNTERSIGN_")}
    assert {name.removeprefix("COUNTERSIGN_").lower() for name in ours if name not in FOLDERS} <= set(Settings.model_fields)
    for name, value in {**ours, "COUNTERSIGN_HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    settings = build_settings()
    assert settings.host == "0.0.0.0" and settings.authenticated
    assert RUNTIME.all("EXPOSE") == [str(settings.port)]
    storage = open_storage(settings)
    with pytest.raises(InvalidInput, match="COUNTERSIGN_ADMIN_KEY"):
        require_api_keys(settings, storage)
    storage.close()
    volumes = json.loads(RUNTIME.all("VOLUME")[0])
    assert {ours[name] for name in FOLDERS} == set(volumes)


def test_the_health_check_tells_life_from_death(tmp_path: Path) -> None:
    (check,) = RUNTIME.all("HEALTHCHECK")
    _, *command = json.loads(check.partition("CMD")[2])

    def healthy(port: int) -> bool:
        environment = {"COUNTERSIGN_PORT": str(port)}
        return subprocess.run([sys.executable, *command], env=environment, stderr=subprocess.DEVNULL).returncode == 0

    engine = FakeEngine()
    engine.loading.clear()  # alive, though not ready: not to be replaced
    with serving(small_settings(tmp_path, authentication=True, admin_key="k" * 32), engine, wait=False) as served:
        port = served.client.base_url.port
        assert port is not None
        assert healthy(port)
        assert served.readiness()[0] == 503
    assert not healthy(port)


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"] and "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "/tmp" in service["tmpfs"]
    assert service["pids_limit"] <= 4096
    assert service["logging"] == {"driver": "json-file", "options": {"max-size": "10m", "max-file": "5"}}
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert not service.keys() & {"privileged", "network_mode", "pid", "ipc", "devices"}


def test_secrets_have_no_defaults_and_stand_in_no_file() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    secret = [(name, rest) for name, rest in re.findall(r"\$\{(\w+)([^}]*)\}", text) if re.search("KEY|PASSWORD", name)]
    assert {name for name, _ in secret} == {"COUNTERSIGN_ADMIN_KEY", "COUNTERSIGN_MASTER_KEY", "POSTGRES_PASSWORD"}
    assert all(rest.startswith(":?") for _, rest in secret)
    assert not re.search("KEY|PASSWORD", " ".join(ENVIRONMENT))
    for service in SERVICES.values():
        values = service.get("environment", {}).items()
        assert all("${" in value for name, value in values if re.search("KEY|PASSWORD|URL", name))


def test_the_service_waits_for_its_database_which_nobody_else_reaches() -> None:
    service, database = SERVICES["countersign"], SERVICES["database"]
    assert service["depends_on"] == {"database": {"condition": "service_healthy"}}
    assert database["healthcheck"]["test"][1] == "pg_isready"
    assert "ports" not in database
    assert set(database["networks"]) & set(service["networks"]) == {"storage"}
    assert COMPOSE["networks"]["storage"]["internal"] is True


def test_compose_sets_known_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"COUNTERSIGN_ADMIN_KEY": "a" * 64, "COUNTERSIGN_MASTER_KEY": "b" * 64, "POSTGRES_PASSWORD": "c" * 48}
    for name, value in SERVICES["countersign"]["environment"].items():
        assert name.removeprefix("COUNTERSIGN_").lower() in Settings.model_fields
        monkeypatch.setenv(name, _interpolated(value, given))
    settings = build_settings(host="0.0.0.0")
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == f"postgresql://countersign:{'c' * 48}@database/countersign"
    assert settings.drain_seconds + GRACE < int(SERVICES["countersign"]["stop_grace_period"].removesuffix("s"))


def _interpolated(text: str, given: dict[str, str]) -> str:
    return re.sub(r"\$\{(\w+)(?::-([^}]*)|:\?[^}]*)?\}", lambda found: given.get(found[1], found[2]), text)


def test_volumes_and_targets_exist() -> None:
    mounted = {volume.split(":")[0] for service in SERVICES.values() for volume in service["volumes"]}
    named = {source for source in mounted if not source.startswith(".")}
    assert named == set(COMPOSE["volumes"])
    assert all((ROOT / source).is_dir() for source in mounted - named)
    assert _interpolated(SERVICES["countersign"]["build"]["target"], {}) in {target.name for target in TARGETS}


def test_prometheus_is_a_profile_that_scrapes_the_service_with_a_key() -> None:
    service = SERVICES["prometheus"]
    assert service["profiles"] == ["monitoring"]
    assert all("profiles" not in other for name, other in SERVICES.items() if name != "prometheus")
    folder = ROOT / "deploy" / "prometheus"
    configuration = yaml.safe_load((folder / "prometheus.yml").read_text())
    (job,) = configuration["scrape_configs"]
    assert job["authorization"] == {"type": "Bearer", "credentials_file": "/etc/prometheus/metrics.key"}
    assert job["static_configs"] == [{"targets": ["countersign:8000"]}]
    assert all((folder / name).is_file() for name in configuration["rule_files"])


def test_alerts_are_about_metrics_that_exist() -> None:
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())["groups"][0]["rules"]
    exposition = Metrics(FakeEngine()).exposition().decode()  # before anything happened: increase() does not see a counter begin at 1
    exposed = set(re.findall(r"^(countersign_\w+)", exposition, re.MULTILINE))
    asked = {name for rule in rules for name in re.findall(r"countersign_\w+", rule["expr"])}
    assert asked and asked <= exposed
    codes = {code for rule in rules for codes in re.findall(r'code=~?"([^"]+)"', rule["expr"]) for code in codes.split("|")}
    assert codes and codes <= set(re.findall(r'code="([^"]+)"', exposition))


def test_docker_itself_reads_the_compose_file() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True).returncode:
        pytest.skip("there is no `docker compose` here; what it would read was checked above")
    command = [docker, "compose", "--profile", "*", "--env-file", "/dev/null", "config", "--format", "json"]
    given = {"COUNTERSIGN_ADMIN_KEY": "a" * 64, "COUNTERSIGN_MASTER_KEY": "b" * 64, "POSTGRES_PASSWORD": "c" * 48}
    environment = {"PATH": str(Path(docker).parent), "HOME": "/nonexistent"}
    read = subprocess.run(command, cwd=ROOT, env={**environment, **given}, capture_output=True, text=True)
    assert read.returncode == 0, read.stderr
    assert set(json.loads(read.stdout)["services"]) == set(SERVICES)
    for name in given:
        others = {other: value for other, value in given.items() if other != name}
        refused = subprocess.run(command, cwd=ROOT, env={**environment, **others}, capture_output=True, text=True)
        assert refused.returncode != 0 and name in refused.stderr
