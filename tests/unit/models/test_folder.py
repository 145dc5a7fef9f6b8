"""Where weights are found, and how many numbers they are: from names and headers, nothing imported, nothing loaded."""

import json
import sys

import pytest

from agenttask.api.errors import ModelRejected, ModelUnavailable
from agenttask.api.model import ClaimSource, HubSource, LocalModel
from agenttask_models.folder import ModelFolder, find


def safetensors(path, *shapes) -> None:
    """A file with the header of these tensors, and no numbers."""
    tensors = {f"t{number}": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]} for number, shape in enumerate(shapes)}
    header = json.dumps({"__metadata__": {"format": "pt"}, **tensors}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)


def model_in(folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    safetensors(folder / "model.safetensors", [2, 3])
    return folder


def at(path) -> LocalModel:
    return LocalModel(path=str(path))


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that must not be imported: it would raise."""
    folder = tmp_path / "site" / "some_model"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path / "site")
    return folder


def test_a_path_with_weights_is_the_model(tmp_path):
    assert find(at(model_in(tmp_path))) == ModelFolder(path=tmp_path)


def test_weights_may_be_some_folders_below_and_the_nearest_count(tmp_path):
    model_in(tmp_path / "b" / "c")
    assert find(at(tmp_path)).path == tmp_path / "b" / "c"
    model_in(tmp_path / "z")
    assert find(at(tmp_path)).path == tmp_path / "z"


def test_weights_too_far_below_are_not_looked_for(tmp_path):
    model_in(tmp_path / "a" / "b" / "c" / "d")
    with pytest.raises(ModelRejected, match="holds no weights"):
        find(at(tmp_path))


def test_safetensors_come_before_gguf_and_a_gguf_file_may_be_named(tmp_path):
    gguf = tmp_path / "a" / "model.gguf"
    gguf.parent.mkdir()
    gguf.write_bytes(b"GGUF")
    assert find(at(tmp_path)) == ModelFolder(path=gguf.parent, gguf="model.gguf")
    assert find(at(gguf)) == ModelFolder(path=gguf.parent, gguf="model.gguf")
    model_in(tmp_path / "b")
    assert find(at(tmp_path)) == ModelFolder(path=tmp_path / "b")


def test_a_package_is_found_and_not_imported(package):
    model_in(package / "model")
    assert find(LocalModel(package="some-model")).path == package / "model"
    assert "some_model" not in sys.modules


@pytest.mark.parametrize(
    ("local", "problem"),
    [
        (LocalModel(path="/nowhere/at-all"), "'/nowhere/at-all' is no folder"),
        (LocalModel(package="no-such-model"), "'no-such-model' is not installed.*'no_such_model'"),
        (LocalModel(package="this"), "'this' is not installed"),
    ],
    ids=["no path", "no package", "a module alone"],
)
def test_what_is_not_there_is_unavailable_and_named(local, problem):
    with pytest.raises(ModelUnavailable, match=problem):
        find(local)


@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.safetensors", "config.json"])
def test_other_formats_or_halves_of_a_model_are_refused(tmp_path, file):
    (tmp_path / file).write_bytes(b"{}")
    with pytest.raises(ModelRejected, match="holds no weights"):
        find(at(tmp_path))


@pytest.mark.parametrize("text", ["[]", "{", "\ud800"], ids=["list", "cut", "no utf-8"])
def test_a_config_that_is_no_object_is_refused(tmp_path, text):
    (tmp_path / "config.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ModelRejected, match="is no JSON"):
        _ = ModelFolder(path=tmp_path).config


def test_a_claim_is_mounted_in_a_pod_only():
    with pytest.raises(ModelUnavailable, match=r"persistentVolumeClaim 'w' is mounted in a pod only; use local\.path"):
        find(LocalModel(persistent_volume_claim=ClaimSource(claim_name="w")))


def test_a_snapshot_of_the_hub_is_looked_at_where_it_is(tmp_path):
    assert find(LocalModel(hub=HubSource(repository="a/b")), model_in(tmp_path / "snapshot")).path == tmp_path / "snapshot"
    with pytest.raises(ModelRejected, match=r"local\.hub 'a/b' holds no weights"):
        find(LocalModel(hub=HubSource(repository="a/b")), tmp_path / "nothing")


@pytest.mark.parametrize(
    ("config", "quantisation"),
    [("{}", "none"), ('{"quantization_config": {"quant_method": "gptq"}}', "gptq"), ('{"quantization_config": {}}', "unknown")],
)
def test_quantisation_is_read_from_the_checkpoint(tmp_path, config, quantisation):
    (tmp_path / "config.json").write_text(config)
    assert ModelFolder(path=tmp_path).quantisation == quantisation
    assert ModelFolder(path=tmp_path, gguf="smol.Q4_1.gguf").quantisation == "gguf Q4_1"


def test_files_that_may_not_be_read_are_told(tmp_path):
    (tmp_path / "config.json").mkdir()
    with pytest.raises(ModelRejected, match=r"config\.json cannot be read: .*check the file's mode"):
        _ = ModelFolder(path=tmp_path).config
