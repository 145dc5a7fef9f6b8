"""A process of its own that keeps kube-router until its standard input closes, then stops it and takes its rules away.

A process, since rules that stay would hold for whatever pod gets the address next: tests that are killed close the input too.
Arguments: the program, a kubeconfig, the node's name, a file for the log. Prints a line when the program has been started.
"""

import fcntl
import os
import select
import subprocess
import sys
from pathlib import Path

from tests.policies import rules

_LOCK = Path("/run/lock/agenttask-kube-router")
_STOP_SECONDS = 20.0


def _command(program: str, kubeconfig: str, node: str) -> list[str]:
    off = [f"--{each}=false" for each in ("run-router", "run-service-proxy", "run-loadbalancer", "enable-cni", "enable-ipv6")]
    return [program, "--run-firewall=true", *off, "--health-port=0", "--kubeconfig", kubeconfig, "--hostname-override", node, "-v=1"]


def _keep(process: subprocess.Popen[bytes]) -> bool:
    """Wait; whether it was told to end, and the program still ran by then."""
    ended = os.pidfd_open(process.pid)
    try:
        ready, _, _ = select.select([sys.stdin, ended], [], [])
    finally:
        os.close(ended)
    return ended not in ready


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main(program: str, kubeconfig: str, node: str, log: str) -> int:
    """One at a time on a node; 1 where the program ended by itself."""
    with _LOCK.open("w") as lock, Path(log).open("wb") as written:
        fcntl.flock(lock, fcntl.LOCK_EX)
        rules.take_away()
        try:
            process = subprocess.Popen(_command(program, kubeconfig, node), stdin=subprocess.DEVNULL, stdout=written, stderr=written)
            try:
                sys.stdout.write("started\n")
                sys.stdout.flush()
                kept = _keep(process)
            finally:
                _stop(process)
        finally:
            rules.take_away()
    return 0 if kept else 1


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
