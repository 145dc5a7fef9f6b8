"""An image is started as a pod would be, and its findings are told; here with fake container tools."""

import json
import re
import subprocess
from collections.abc import Sequence
from typing import Any

import pytest

from agenttask.cli.image_check import CannotCheck, check_image, choose_tool, local_command, pod

GOOD = "ok   Python: 3.13.1\nok   user: uid 10001, gid 10001\n"


class Tool:
    """Answers commands by their words, and remembers them."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.said: list[tuple[str, ...]] = []
        self.stdin: list[str] = []

    def __call__(self, argv: Sequence[str], *, stdin: str = "") -> subprocess.CompletedProcess[str]:
        self.said.append(tuple(argv))
        self.stdin.append(stdin)
        answer = self.answers.get(argv[1], "")
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        code, out, err = answer if isinstance(answer, tuple) else (0, answer, "")
        return subprocess.CompletedProcess(list(argv), code, out, err)


def state(phase: str, **container: Any) -> str:
    return json.dumps({"status": {"phase": phase, "containerStatuses": [{"state": container}] if container else []}})


def look(tool: Tool, which: str = "docker", timeout: float = 3) -> bool:
    return check_image("img", which, timeout=timeout, name="p", run=tool, sleep=lambda _: None)


def test_the_flags_are_those_of_a_task_pod() -> None:
    command = " ".join(local_command("img", "podman"))
    for flag in ("--read-only", "--user 10001:10001", "--cap-drop ALL", "no-new-privileges", "--network none", "img --check"):
        assert flag in command
    (container,) = pod("img", "p")["spec"]["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize(("code", "good"), [(0, True), (2, False)])
def test_what_the_runner_finds_is_told(code: int, good: bool, capsys: pytest.CaptureFixture[str]) -> None:
    assert look(Tool(run=(code, GOOD, ""))) is good
    assert capsys.readouterr().out == GOOD


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        pytest.param((127, "", "not found"), "has no agenttask-runner in its PATH", id="no runner"),
        pytest.param((2, "", "unknown option --check"), "no runner that can check itself (exit code 2): unknown option", id="old runner"),
        pytest.param((125, "", ""), "it said nothing", id="silence"),
        pytest.param(
            (125, "", "docker: Cannot connect to the daemon.\n\nRun 'docker run --help' for more information\n"),
            "docker cannot start img: docker: Cannot connect to the daemon.; --with chooses another tool",
            id="no daemon",
        ),
    ],
)
def test_an_image_without_a_runner_is_told(answer: Any, problem: str) -> None:
    with pytest.raises(CannotCheck, match=re.escape(problem)):
        look(Tool(run=answer))


def test_a_pod_is_watched_to_its_end_and_deleted(capsys: pytest.CaptureFixture[str]) -> None:
    ended = state("Succeeded", terminated={"exitCode": 0})
    waiting = state("Pending", waiting={"reason": "ContainerCreating"})
    tool = Tool(config="here\n", get=[state("Pending"), waiting, ended], logs=f"{GOOD}2026 step write: started\n")
    assert look(tool, "kubectl") is True
    said = capsys.readouterr()
    assert (said.out, said.err) == (GOOD, "checking in the cluster of kubectl context 'here', as pod p\n")
    assert tool.said[-1] == ("kubectl", "delete", "pod", "p", "--wait=false")
    assert json.loads(tool.stdin[1])["spec"]["containers"][0]["image"] == "img"


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        pytest.param({"create": (1, "", "forbidden")}, "the pod cannot be made: forbidden", id="refused"),
        pytest.param({"get": state("Pending", waiting={"reason": "InvalidImageName", "message": "x"})}, "InvalidImageName: x", id="name"),
        pytest.param(
            {"get": state("Pending", waiting={"reason": "ErrImagePull", "message": "no"})}, "within 3 s .*: ErrImagePull", id="pull"
        ),
        pytest.param({"get": (1, "", "gone")}, "it was not scheduled", id="gone"),
    ],
)
def test_a_pod_that_does_not_run_is_told_with_the_kubelets_words(answers: dict[str, Any], problem: str) -> None:
    tool = Tool(**answers)
    with pytest.raises(CannotCheck, match=problem):
        look(tool, "kubectl")
    assert (tool.said[-1][1] == "delete") == ("create" not in answers)


def test_the_first_tool_that_is_there_is_taken_unless_one_is_wished() -> None:
    assert choose_tool(None, lambda name: name if name in ("kubectl", "podman") else None) == "podman"
    assert choose_tool("kubectl", lambda name: name) == "kubectl"
    with pytest.raises(CannotCheck, match="podman is not in PATH; install one of docker, podman, nerdctl, kubectl"):
        choose_tool("podman", lambda name: None)


def test_the_command_line_tells_how_it_went(agenttask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    said = agenttask("image", "check", "img", "--with", "podman")
    assert (said.code, said.err) == (
        2,
        "podman is not in PATH; install one of docker, podman, nerdctl, kubectl, or choose it with --with\n",
    )
