"""What kube-router leaves in the node's packet filter, and how it is taken away.

Its own `--cleanup-config` does nothing to these (v2.1.0 goes over maps that were never filled) and empties the node's IPVS table, so
the chains go by one transaction of iptables and the sets one by one; rules of others are not touched.
"""

import re
import subprocess

_OWN = re.compile(r"KUBE-(ROUTER-(INPUT|FORWARD|OUTPUT)|POD-FW-\w+|NWPLCY-\w+)")
_OWN_SETS = re.compile(r"KUBE-(SRC|DST)-\w+")


def saved() -> str:
    """The filter table as `iptables-save` prints it."""
    return _run("iptables-save", "--table", "filter")


def chains(table: str) -> list[str]:
    """All chains of a saved table."""
    return re.findall(r"^:(\S+)", table, re.MULTILINE)


def own_chains(table: str) -> list[str]:
    """Those of kube-router."""
    return [each for each in chains(table) if _OWN.fullmatch(each)]


def own_sets() -> list[str]:
    """kube-router's sets of addresses."""
    return [each for each in _run("ipset", "list", "-name").split() if _OWN_SETS.fullmatch(each)]


def without_own(table: str) -> str:
    """What `iptables-restore --noflush` takes to free a saved table of kube-router's chains, and of the jumps to them."""
    own = own_chains(table)
    lines = ["*filter"]
    for line in table.splitlines():
        rule = re.fullmatch(r"-A (\S+) .*-[jg] (\S+)", line)
        if rule and rule[1] not in own and rule[2] in own:
            lines.append(f"-D{line.removeprefix('-A')}")
    return "\n".join([*lines, *(f"-F {each}" for each in own), *(f"-X {each}" for each in own), "COMMIT", ""])


def take_away() -> None:
    """All of it; harmless where there is none."""
    table = saved()
    if own_chains(table):
        _run("iptables-restore", "--noflush", "--wait", stdin=without_own(table))
    for name in own_sets():
        _run("ipset", "destroy", name)


def _run(*command: str, stdin: str | None = None) -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} exited {done.returncode}: {done.stderr.strip()}")
    return done.stdout
