"""The Ray Serve application: an ingress with the API, and replicas that generate or verify, each deployment scaling on its own.

On a cluster: `serve run service.cluster.application:build generation=2 verification=4`, or the same import path in a Serve config
(docs/scale/serving.md). Each process reads its settings from its own environment (COUNTERSIGN_…), so that no secret travels with the
application.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ray import serve
from ray.serve.handle import DeploymentHandle
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from models.registry import checkpoint_folder
from service.app import create_app
from service.cluster.engine import ClusterEngine
from service.cluster.proxied import Proxied
from service.cluster.replica import Replica
from service.engine.engine import BatchingEngine
from service.engine.loading import LoadModel
from service.engine.protocol import Engine, Role
from service.first_start import first_issuers, require_api_keys
from service.observability.logs import configure_logging
from service.runtime import Runtime
from service.server import GRACE, trusted_proxies
from service.settings import Settings, build_settings
from service.storage.open import Storage
from watermark.errors import InvalidInput

NAME = "countersign"
INGRESS_REQUESTS = 1000
"""Of one ingress at a time, those that wait and stream included. What is too much is refused by the engines' queues, with Retry-After."""
SMALL_TALK = 64
"""Calls to a replica beside the work in its queue: prompts to encode, reports."""
START_SECONDS = 60.0
"""An ingress waits so long for the model before it takes requests, which it then refuses with the reason."""
VERIFYING_AT_ONCE = 8
"""Requests in a verifying replica beyond which another is started."""


class Replicas(BaseModel):
    """How many of each, at least and at most; between the two Ray Serve follows the load."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ingress: int = Field(default=1, ge=1)
    generation: int = Field(default=1, ge=1)
    verification: int = Field(default=1, ge=1)
    max_ingress: int = Field(default=0, ge=0, description="0: as many as at least.")
    max_generation: int = Field(default=0, ge=0)
    max_verification: int = Field(default=0, ge=0)
    release: str = Field(default="", description="Any text; another one replaces all replicas, one after the other.")

    @model_validator(mode="after")
    def _ordered(self) -> Replicas:
        for name in ("ingress", "generation", "verification"):
            most = getattr(self, f"max_{name}")
            if most and most < getattr(self, name):
                raise ValueError(f"max_{name} is less than {name}")
        return self

    def scaling(self, name: str, at_once: int) -> dict[str, Any]:
        least = getattr(self, name)
        return {"min_replicas": least, "max_replicas": getattr(self, f"max_{name}") or least, "target_ongoing_requests": at_once}


class Ingress:
    """The API, in as many processes as it needs; their state is in the database and, where it is set, Redis."""

    def __init__(
        self, make_app: Callable[[Engine], Any], generation: DeploymentHandle[Any], verification: DeploymentHandle[Any], _release: str
    ) -> None:
        """As of a replica, another release is another ingress for Ray, which then replaces this."""
        self._make = partial(make_app, ClusterEngine(generation, verification))

    def __serve_build_asgi_app__(self) -> Any:
        app = self._make()
        runtime: Runtime = app.state.runtime
        proxies = trusted_proxies(runtime.settings)
        proxied: Any = ProxyHeadersMiddleware(app, trusted_hosts=proxies) if proxies else app
        return Proxied(proxied, partial(runtime.loaded, START_SECONDS))


def build(arguments: dict[str, Any]) -> serve.Application:
    """What `serve run` calls, with its arguments (see Replicas). Raises InvalidInput.

    Where Ray's proxies listen is Ray's business, so requests need an API key unless the settings say that they do not.
    """
    try:
        replicas = Replicas.model_validate(arguments)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'arguments'}: {each['msg']}" for each in error.errors())
        raise InvalidInput(f"{wrong}. The arguments are {', '.join(Replicas.model_fields)}.") from None
    settings = build_settings()
    authentication = settings.authentication if settings.authentication is not None else True
    return application(settings, replicas, make_app=partial(app_of, authentication=authentication))


def application(
    settings: Settings,
    replicas: Replicas,
    *,
    make_engine: Callable[[Sequence[Role]], Engine] | None = None,
    make_app: Callable[[Engine], Any] | None = None,
) -> serve.Application:
    """`settings` only say what the deployments need of Ray; the processes read their own. The other two are for tests."""
    make = make_engine or engine_of
    places = settings.queue_size + settings.batch_size + SMALL_TALK
    compute: dict[str, Any] = {"num_cpus": settings.threads or 1, "num_gpus": 1 if settings.device != "cpu" else 0}
    common: dict[str, Any] = {
        "max_ongoing_requests": places,
        "max_queued_requests": places,
        "ray_actor_options": compute,
        "graceful_shutdown_timeout_s": settings.drain_seconds + GRACE,
        "graceful_shutdown_wait_loop_s": 0.5,
        "health_check_period_s": 5,
        "logging_config": {"enable_access_log": False},  # of calls between the parts, several a second; the API logs its requests itself
        "max_surge_percent": 25,  # in a rolling restart a new one is there before an old one goes
    }
    deployment: Any = serve.deployment
    generation = deployment(
        Replica, name="generation", autoscaling_config=replicas.scaling("generation", settings.batch_size), **common
    ).bind(partial(make, ("encoding", "generation")), replicas.release)
    verification = deployment(
        Replica, name="verification", autoscaling_config=replicas.scaling("verification", VERIFYING_AT_ONCE), **common
    ).bind(partial(make, ("verification",)), replicas.release)
    ingress = deployment(
        serve.ingress()(Ingress),
        name="ingress",
        autoscaling_config=replicas.scaling("ingress", INGRESS_REQUESTS // 4),
        **{**common, "max_ongoing_requests": INGRESS_REQUESTS, "ray_actor_options": {"num_cpus": 0}, "max_queued_requests": -1},
    )
    return ingress.bind(make_app or app_of, generation, verification, replicas.release)


def engine_of(roles: Sequence[Role]) -> Engine:
    settings = build_settings()
    configure_logging(settings.log_level, settings.log_format)
    return BatchingEngine(settings, LoadModel.of(settings), roles=roles)


def app_of(engine: Engine, *, authentication: bool | None = None) -> Any:
    settings = build_settings(authentication=authentication)
    configure_logging(settings.log_level, settings.log_format)
    return create_app(settings, engine=engine, prepare=partial(_prepare, settings))


def _prepare(settings: Settings, storage: Storage) -> None:
    """Raises InvalidInput and CheckpointError."""
    require_api_keys(settings, storage)
    first_issuers(storage, checkpoint_folder(settings.base_model, settings.checkpoint))
