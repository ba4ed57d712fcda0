"""The KubeRay manifest, held to the schemas of Kubernetes and of Ray Serve, and to what the service's settings and replicas are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

pytest.importorskip("ray", reason="the extra countersign[ray]")

from ray.serve.schema import HTTPOptionsSchema, ServeApplicationSchema, ServeDeploySchema

from service.cluster.application import Replicas, build
from service.server import GRACE
from service.settings import Settings, build_settings
from watermark.errors import InvalidInput

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "deploy" / "kuberay" / "countersign.yaml").read_text()
SERVICE, *OTHERS = yaml.safe_load_all(TEXT)
CLUSTER = SERVICE["spec"]["rayClusterConfig"]
SERVE = yaml.safe_load(SERVICE["spec"]["serveConfigV2"])
KUBERNETES = kubernetes_validate.latest_version()

# The fields of KubeRay's own resource that are used, with their types, as in version 1.5 of its RayService: no package carries that schema.
# What stands in `template` is Kubernetes' own, and checked as such.
RAY_SERVICE = {"serveConfigV2": str, "excludeHeadPodFromServeSvc": bool, "rayClusterConfig": dict}
RAY_CLUSTER = {
    "rayVersion": str,
    "authOptions": dict,
    "enableInTreeAutoscaling": bool,
    "autoscalerOptions": dict,
    "headGroupSpec": dict,
    "workerGroupSpecs": list,
}
HEAD = {"rayStartParams": dict, "template": dict}
WORKERS = {**HEAD, "groupName": str, "replicas": int, "minReplicas": int, "maxReplicas": int}


def templates() -> list[dict[str, Any]]:
    return [group["template"] for group in (CLUSTER["headGroupSpec"], *CLUSTER["workerGroupSpecs"])]


def containers() -> list[dict[str, Any]]:
    specs = [template["spec"] for template in templates()]
    return [container for spec in specs for container in [*spec.get("initContainers", []), *spec["containers"]]]


def has_types(given: dict[str, Any], wanted: dict[str, type]) -> bool:
    return {name: type(value) for name, value in given.items()} == wanted


def check_pod(template: dict[str, Any]) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, **template}
    kubernetes_validate.validate(pod, KUBERNETES, strict=True)


def test_the_resources_have_the_fields_of_their_kind() -> None:
    assert (SERVICE["apiVersion"], SERVICE["kind"]) == ("ray.io/v1", "RayService")
    assert has_types(SERVICE["spec"], RAY_SERVICE)
    assert has_types(CLUSTER, RAY_CLUSTER)
    assert has_types(CLUSTER["headGroupSpec"], HEAD)
    assert all(has_types(group, WORKERS) for group in CLUSTER["workerGroupSpecs"])
    assert CLUSTER["authOptions"] == {"mode": "token"}
    for group in (CLUSTER["headGroupSpec"], *CLUSTER["workerGroupSpecs"]):  # numbers must be quoted
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
    for template in templates():
        check_pod(template)
    for resource in OTHERS:
        kubernetes_validate.validate(resource, KUBERNETES, strict=True)


def test_the_schema_of_kubernetes_would_see_a_mistake() -> None:
    with pytest.raises(kubernetes_validate.ValidationError, match="containrs"):
        check_pod({"spec": {**templates()[0]["spec"], "containrs": []}})


def test_ray_serve_reads_its_configuration() -> None:
    schema = ServeDeploySchema.model_validate(SERVE)
    (application,) = SERVE["applications"]
    for given, fields in ((SERVE, ServeDeploySchema), (SERVE["http_options"], HTTPOptionsSchema), (application, ServeApplicationSchema)):
        assert set(given) <= set(fields.model_fields)  # it ignores what it does not know
    assert schema.applications[0].import_path == f"{build.__module__}:{build.__name__}"


def test_the_application_can_be_built_from_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    (application,) = SERVE["applications"]
    monkeypatch.setenv("COUNTERSIGN_THREADS", "2")
    built = build(application["args"])
    assert built._bound_deployment.name == "ingress"
    with pytest.raises(InvalidInput, match="generations"):
        build({**application["args"], "generations": 2})


def test_ray_is_the_version_that_is_tested() -> None:
    assert f'"ray[data,serve]=={CLUSTER["rayVersion"]}"' in (ROOT / "pyproject.toml").read_text()


def test_the_pods_have_room_for_the_replicas() -> None:
    """Of each the least in the least number of pods, and the most in the most."""
    replicas = Replicas.model_validate(SERVE["applications"][0]["args"])
    (group,) = CLUSTER["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    limits = container["resources"]["limits"]
    threads = int(environment(container)["COUNTERSIGN_THREADS"])
    in_a_pod = int(limits["cpu"]) // threads
    assert limits == container["resources"]["requests"]  # Ray counts processors by the limits, Kubernetes by the requests
    assert replicas.generation + replicas.verification <= in_a_pod * group["minReplicas"]
    assert replicas.max_generation + replicas.max_verification <= in_a_pod * group["maxReplicas"]
    assert CLUSTER["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def environment(container: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container["env"]}


def test_it_sets_known_settings_and_holds_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for container in containers():
        ours = {name: value for name, value in environment(container).items() if name.startswith("COUNTERSIGN_")}
        assert ours and {name.removeprefix("COUNTERSIGN_").lower() for name in ours} <= set(Settings.model_fields)
        for name, value in ours.items():
            monkeypatch.setenv(name, value)
        settings = build_settings()
        assert settings.authenticated
        assert not re.search("KEY|PASSWORD|URL", " ".join(ours))
    served = [container for container in containers() if container["name"].startswith("ray-")]
    assert len(served) == 2 and all(each["envFrom"] == [{"secretRef": {"name": "countersign"}}] for each in served)
    (group,) = CLUSTER["workerGroupSpecs"]
    assert group["template"]["spec"]["terminationGracePeriodSeconds"] > settings.drain_seconds + GRACE


def test_every_container_is_confined_and_has_its_folders() -> None:
    for template in templates():
        security = template["spec"]["securityContext"]
        assert security["runAsNonRoot"] is True and security["runAsUser"] >= 10_000
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        named = {volume["name"] for volume in template["spec"]["volumes"]}
        for container in [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]:
            confined = container["securityContext"]
            assert confined["readOnlyRootFilesystem"] is True and confined["allowPrivilegeEscalation"] is False
            assert confined["capabilities"] == {"drop": ["ALL"]}
            assert {mount["name"] for mount in container["volumeMounts"]} == named
            assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/tmp", "/cache", "/data"}
            assert container["image"] == containers()[0]["image"]


def test_others_reach_the_api_only() -> None:
    (policy,) = [each for each in OTHERS if each["kind"] == "NetworkPolicy"]
    open_to_all = [rule for rule in policy["spec"]["ingress"] if "from" not in rule]
    assert open_to_all == [{"ports": [{"protocol": "TCP", "port": SERVE["http_options"]["port"]}]}]


def test_the_probes_are_programs_that_work() -> None:
    for container in containers():
        for name in ("livenessProbe", "readinessProbe"):
            if probe := container.get(name):
                program, flag, code, *urls = probe["exec"]["command"]
                assert (program, flag) == ("python", "-c") and urls
                compile(code, "probe", "exec")
                assert probe["timeoutSeconds"] > 4 * len(urls)
