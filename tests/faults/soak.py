"""Short or long: `make test` runs each fault once and small, `make soak` often and at the size of an installation."""

import os
import secrets
from typing import Final

SOAK: Final = bool(os.environ.get("AGENTTASK_SOAK"))
MANY: Final = 1000 if SOAK else 40
"""Tasks that come while nobody looks."""
FLOOD: Final = 10_000 if SOAK else 150
"""Tasks of one namespace beside one of another."""
ROUNDS: Final = int(os.environ.get("AGENTTASK_SOAK_ROUNDS", "20"))
"""Seeds that `make soak` tries."""
MINUTES: Final = float(os.environ.get("AGENTTASK_SOAK_MINUTES", "0"))
"""After so long no further test begins; 0: all of them run."""
SEED_VARIABLE: Final = "AGENTTASK_FAULTS_SEED"
REPLAYED: Final = SEED_VARIABLE in os.environ
SEED: Final = int(os.environ[SEED_VARIABLE]) if REPLAYED else secrets.randbelow(10**9)
"""Decides every chance of this run; a round of random faults has this one and its number."""
