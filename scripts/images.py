"""Builds the images that demo and tests run, and puts them where the cluster finds them.

    python3 -m scripts.images            build what is not there yet, hand it to the cluster, print the sizes
    python3 -m scripts.images --only controller,runner
    python3 -m scripts.images --env      only the names, as IMAGE_CONTROLLER=... lines

By CLUSTER (scripts/cluster): `local` builds with tests/cluster/localkube, `kind` and `current` with docker, podman or
buildah, whichever works (IMAGE_TOOL says which). With REGISTRY=HOST/PATH images get that prefix, are built by one of
these and pushed. BASE is the base image. The tag is a hash of all that goes into the images: one that exists is never
built again, and a changed file never runs under an old name. With TAG=NAME it is that name instead, for an installation:
always built, and without the demo's models. Only the standard library is used: this runs without a virtual environment.
"""

import argparse
import fcntl
import hashlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from scripts import stores
from scripts.progress import CommandFailed, run_showing_life

ROOT = Path(__file__).resolve().parents[1]
DEMO = "examples/images/demo-models"
NAMES = ("controller", "runner", "runner-torch", "runner-demo")
SOURCES = ("Dockerfile", ".dockerignore", "pyproject.toml", "requirements", "operator", "plugins", "crds", DEMO)
RECENT_TAGS = 3
"""Tags that stay in the local store; each change of our code makes a new one, which shares all large layers."""


def sources(root: Path) -> Iterator[Path]:
    """The files that go into the images, in a fixed order."""
    for name in SOURCES:
        top = root / name
        found = [top] if top.is_file() else top.rglob("*")
        yield from sorted(each for each in found if each.is_file() and "__pycache__" not in each.parts and each.suffix != ".pyc")


def content_tag(root: Path) -> str:
    """A tag that changes when, and only when, something that goes into the images does."""
    digest = hashlib.sha256()
    for path in sources(root):
        digest.update(f"{path.relative_to(root)}\0{path.stat().st_mode & 0o111}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


def image_names(prefix: str, tag: str) -> dict[str, str]:
    """The full name of each image."""
    return {name: f"{prefix}agenttask/{name}:{tag}" for name in NAMES}


def environment_lines(images: Mapping[str, str]) -> list[str]:
    """For eval, and for tests/conftest.py."""
    return [f"IMAGE_{name.upper().replace('-', '_')}={image}" for name, image in images.items()]


def build(store: stores.Store, name: str, images: Mapping[str, str], logs: Path) -> None:
    """Build one image."""
    if name == "runner-demo":
        context, options = ROOT / DEMO, ["--build-arg", f"RUNNER={images['runner-torch']}"]
    else:
        context, options = ROOT, ["--target", name]
    seconds = run_showing_life(name, store.build_command(images[name], context, options), logs / f"image-{name}.log")
    print(f"    {name}: built in {seconds:.0f} s", file=sys.stderr)


def print_sizes(store: stores.Store, images: Mapping[str, str]) -> None:
    """One line an image: with the base image, and what we add to it."""
    for image in images.values():
        total, own = store.sizes(image)
        print(f"    {image:<58} {total / 1e6:7.0f} MB, {own / 1e6:7.0f} MB without its base", file=sys.stderr)


def forget_old(store: stores.LocalStore, tag: str, cache: Path) -> None:
    """Remove the images of tags that were not asked for lately."""
    remembered = cache / "image-tags"
    earlier = remembered.read_text().split() if remembered.exists() else []
    tags = [tag, *(each for each in earlier if each != tag)]
    remembered.write_text("\n".join(tags[:RECENT_TAGS]) + "\n")
    store.forget([image for old in tags[RECENT_TAGS:] for image in image_names(store.prefix, old).values()])


def make(store: stores.Store, images: Mapping[str, str], cache: Path, *, again: bool = False) -> None:
    """Build what is missing of `images` (or all, `again`) and hand all to the cluster, one checkout at a time."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "images.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("==> another checkout builds images; waiting", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        missing = [name for name in images if again or not store.has(images[name])]
        if missing:
            print(f"==> images: {', '.join(missing)}", file=sys.stderr)
        for name in missing:
            build(store, name, images, cache / "log")
        for image in images.values():
            store.hand_over(image)
        if isinstance(store, stores.LocalStore) and missing:
            forget_old(store, images[missing[0]].rpartition(":")[2], cache)
    print_sizes(store, images)


def main() -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(description="Builds the images that demo and tests run.")
    tag = os.environ.get("TAG", "")
    usual = [name for name in NAMES if not (tag and name == "runner-demo")]
    parser.add_argument("--only", default=",".join(usual), help=f"comma-separated, of {', '.join(NAMES)}")
    parser.add_argument("--env", action="store_true", help="only print the names")
    arguments = parser.parse_args()
    wanted = arguments.only.split(",")
    if unknown := sorted(set(wanted) - set(NAMES)):
        parser.error(f"no image is called {', '.join(unknown)}; there are {', '.join(NAMES)}")
    try:
        store = stores.choose(os.environ)
        images = image_names(store.prefix, tag or content_tag(ROOT))
        if arguments.env:
            print("\n".join(environment_lines(images)))
        else:
            chosen = {name: images[name] for name in NAMES if name in wanted}
            make(
                store,
                chosen if "runner-demo" not in chosen else images,
                Path(os.environ.get("AGENTTASK_CACHE") or Path.home() / ".cache/agenttask"),
                again=bool(tag),
            )
    except (stores.Failed, CommandFailed) as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
