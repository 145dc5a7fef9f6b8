"""Weights of a model hub: from the cache where they are there, downloaded where the installation allows it.

The download runs in a process of its own: in the runner's the hub's library is switched to offline before it is imported,
and stays so. Fetched are safetensors, configuration and tokenizer, never code and never pickles. The library locks each
file of the cache, so that processes that share one volume download it once.
"""

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agenttask.api.errors import ModelRejected, ModelUnavailable
from agenttask.api.model import HubSource

PATTERNS = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "*.txt", "*.model")
_FORBIDDEN = ("*.py", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.onnx")
_PASSED_ON = (
    *("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH", "HF_ENDPOINT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)
_OFFLINE = (
    "is not in the cache, and downloading is switched off; bake it into the image, mount it (`path`, `persistentVolumeClaim`), "
    "or let the installation allow the hub"
)


async def hub_folder(source: HubSource, cache: Path, environ: Mapping[str, str], *, allowed: bool) -> Path:
    """The folder of one revision.

    Raises:
        ModelUnavailable: it is not in the cache and may not, or cannot now, be downloaded.
        ModelRejected: the hub has no such repository or revision, or does not give it to us.
    """
    options = {"repository": source.repository, "revision": source.revision, "cache": str(cache / "hub"), "download": allowed}
    environment = {name: environ[name] for name in _PASSED_ON if name in environ}
    environment |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_OFFLINE": "0" if allowed else "1"}
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "agenttask_models.hub",
        json.dumps(options),
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, errors = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    return _answer(source, out, errors, child.returncode)


def _answer(source: HubSource, out: bytes, errors: bytes, code: int | None) -> Path:
    what = f"local.hub {source.repository!r} at revision {source.revision!r}"
    try:
        answer: dict[str, Any] = json.loads(out.splitlines()[-1])
    except (ValueError, IndexError):
        last = errors.decode("utf-8", "replace").strip().splitlines()[-1:] or ["no message"]
        raise ModelUnavailable(f"{what} cannot be fetched: the download ended with {code}: {last[0][:300]}") from None
    match answer:
        case {"path": str(path)}:
            return Path(path)
        case {"rejected": str(why)}:
            raise ModelRejected(f"{what} is refused by the hub: {why}; check `repository` and `revision`, or mount the weights")
        case {"offline": _}:
            raise ModelUnavailable(f"{what} {_OFFLINE}")
        case _:
            raise ModelUnavailable(f"{what} cannot be fetched: {answer.get('unavailable', 'no answer')}")


def fetch(repository: str, revision: str, cache: str, *, download: bool) -> dict[str, str]:
    """Find or download a snapshot, blocking; what `hub_folder` reads."""
    import huggingface_hub
    from huggingface_hub import errors

    try:
        path = huggingface_hub.snapshot_download(
            repository,
            revision=revision,
            cache_dir=cache,
            allow_patterns=list(PATTERNS),
            ignore_patterns=list(_FORBIDDEN),
            local_files_only=not download,
            token=False,
            max_workers=4,
        )
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as error:
        return {"rejected": _first_line(error)}
    except errors.LocalEntryNotFoundError as error:
        return {"unavailable": _first_line(error)} if download else {"offline": _first_line(error)}
    except Exception as error:  # noqa: BLE001 - whatever the network does; told to the parent, which types it
        return {"unavailable": f"{type(error).__name__}: {_first_line(error)}"}
    return {"path": path}


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def main(argv: Sequence[str] | None = None) -> int:
    """The child's program."""
    asked = json.loads((sys.argv[1:] if argv is None else argv)[0])
    answer = fetch(asked["repository"], asked["revision"], asked["cache"], download=asked["download"])
    sys.stdout.write(f"{json.dumps(answer)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
