"""Which Secrets a task names: every place, in order, with the variable that each fills."""

from tests.fakes.seen import spec

from agenttask.domain.secret_uses import secret_uses

REF = {"name": "key", "key": "k"}


def test_every_secret_is_named_with_its_step_place_and_variable() -> None:
    steps = [
        {"name": "see", "read": {"paths": ["a"]}},
        {
            "name": "run",
            "exec": {
                "command": ["a"],
                "env": [
                    {"name": "A", "secretKeyRef": REF},
                    {"name": "PLAIN", "value": "x"},
                    {"name": "B", "secretKeyRef": {"name": "other", "key": "k"}},
                ],
            },
        },
        {
            "name": "get",
            "fetch": {"url": "u", "headers": [{"name": "Accept", "value": "x"}, {"name": "X-Key", "secretKeyRef": REF}]},
        },
        {"name": "code", "git": {"clone": {"url": "u", "path": "p", "credentials": REF}}},
        {"name": "open", "git": {"clone": {"url": "u", "path": "p"}}},
        {"name": "diff", "git": {"diff": {"path": "p"}}},
    ]

    found = [(use.step, use.name, use.field, use.ref.name) for use in secret_uses(spec(steps=steps).steps)]

    assert found == [
        ("run", "A", "spec.steps[1].exec.env[0].secretKeyRef", "key"),
        ("run", "B", "spec.steps[1].exec.env[2].secretKeyRef", "other"),
        ("get", "X-Key", "spec.steps[2].fetch.headers[1].secretKeyRef", "key"),
        ("code", "credentials", "spec.steps[3].git.clone.credentials", "key"),
    ]
