"""Which Secrets a task may name, and which images may hold a model's credential: the admin's two lists, glob by glob."""

from typing import Any

import pytest
from tests.fakes.seen import spec

from agenttask.api.reasons import Reason
from agenttask.controller.acceptance import PluginNames, refusal
from agenttask.controller.installation import Images, Installation
from agenttask.domain.device import DeviceClass

NAMES = PluginNames(
    step_kinds=frozenset({"read", "exec", "fetch", "git"}),
    threading=frozenset({"async"}),
    llm_clients=frozenset(),
    model_factories=frozenset(),
    device_strategies=frozenset({"auto"}),
)


def naming(*secrets: str) -> list[dict[str, Any]]:
    env = [{"name": f"V{index}", "secretKeyRef": {"name": name, "key": "k"}} for index, name in enumerate(secrets)]
    return [{"name": "see", "read": {"paths": ["a"]}}, {"name": "run", "exec": {"command": ["a"], "env": env}}]


@pytest.mark.parametrize(
    ("globs", "secret"),
    [((), "key"), (("agents-*",), "key"), (("agents-*",), "my-agents-1"), (("agent?",), "agents-1"), (("a[bc]",), "ad"), (("KEY",), "key")],
)
def test_a_secret_outside_the_globs_is_refused_with_its_place(globs: tuple[str, ...], secret: str) -> None:
    refused = refusal(spec(steps=naming(secret)), Installation(secret_globs=globs), NAMES)

    assert refused is not None
    assert (refused.reason, refused.accepted) == (Reason.INVALID_TASK, False)
    assert refused.message == (
        f"spec.steps[1].exec.env[0].secretKeyRef: tasks may not name the Secret {secret!r}; "
        f"the installation allows: {', '.join(globs) or 'none'} (secretGlobs)"
    )


@pytest.mark.parametrize(
    ("globs", "secret"), [(("*",), "key"), (("x", "agents-*"), "agents-1"), (("agent?",), "agents"), (("key",), "key")]
)
def test_a_secret_within_a_glob_is_allowed(globs: tuple[str, ...], secret: str) -> None:
    assert refusal(spec(steps=naming(secret)), Installation(secret_globs=globs), NAMES) is None


@pytest.mark.parametrize("glob", ["*", "gateway"])
def test_a_reserved_secret_is_in_no_glob(glob: str) -> None:
    installation = Installation(secret_globs=(glob,), reserved_secrets=("gateway",))
    assert refusal(spec(steps=naming("gateway")), installation, NAMES) is not None


def test_one_secret_of_many_is_enough_for_a_refusal() -> None:
    refused = refusal(spec(steps=naming("agents-1", "key")), Installation(secret_globs=("agents-*",)), NAMES)

    assert refused is not None
    assert refused.message.startswith("spec.steps[1].exec.env[1].secretKeyRef: ")


@pytest.mark.parametrize(
    ("step", "field"),
    [
        pytest.param(
            {"fetch": {"url": "https://a.example", "headers": [{"name": "X-Key", "secretKeyRef": {"name": "key", "key": "k"}}]}},
            "fetch.headers[0].secretKeyRef",
            id="header",
        ),
        pytest.param(
            {"git": {"clone": {"url": "https://a.example", "path": "a", "credentials": {"name": "key", "key": "k"}}}},
            "git.clone.credentials",
            id="clone",
        ),
    ],
)
def test_the_globs_hold_for_every_step_that_may_name_a_secret(step: dict[str, Any], field: str) -> None:
    wanted = spec(steps=[{"name": "get", **step}])
    refused = refusal(wanted, Installation(secret_globs=("agents-*",), allowed_hosts=("a.example",)), NAMES)

    assert refused is not None
    assert refused.message.startswith(f"spec.steps[0].{field}: tasks may not name the Secret 'key'")
    assert refusal(wanted, Installation(secret_globs=("key",), allowed_hosts=("a.example",)), NAMES) is None


@pytest.mark.parametrize(
    ("image", "listed", "may"),
    [
        ("r:1", (), True),
        ("t:1", (), True),
        ("g:1", (), True),
        ("r:1-evil", (), False),
        ("evil.example/r:1", (), False),
        ("house/agents:7", ("house/*",), True),
        ("evil/house/agents:7", ("house/*",), False),
        ("HOUSE/agents:7", ("house/*",), False),
        ("r:1", ("house/*",), False),
    ],
)
def test_a_credential_goes_only_into_images_of_the_list(image: str, listed: tuple[str, ...], may: bool) -> None:
    installation = Installation(
        images=Images(runner="r:1", runner_torch="t:1"),
        device_classes=(DeviceClass(name="cpu"), DeviceClass(name="gpu", image="g:1")),
        credential_images=listed,
    )

    assert installation.may_hold_credentials(image) is may


def test_a_device_class_is_found_by_its_name() -> None:
    installation = Installation(device_classes=(DeviceClass(name="cpu"),))

    assert installation.device_class("cpu") == DeviceClass(name="cpu")
    assert installation.device_class("gpu") is None
