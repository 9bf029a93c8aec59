"""A model on disk: what is refused, and why."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp
import pytest

from convert.from_torch import convert
from flax_unet import InputError, UNetConfig, load
from flax_unet.checkpoint import metadata, store
from tests.flax_unet.samples import small_checkpoint


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture
def converted(model: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(model, tmp_path / "model"))


def edit(path: Path, change: Callable[[dict], None]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def change_a_byte(directory: Path) -> None:
    path = next(directory.rglob("d/*"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(directory: Path) -> None:
    path = next(directory.rglob("d/*"))
    path.write_bytes(path.read_bytes()[:-100])


def test_classifiers_of_the_format_before(small_file: Path, tmp_path: Path) -> None:
    """They read the whole of the deepest map; what that changes is not changed in silence."""
    convert(small_file, tmp_path / "out", verify=False)  # at the published size

    def as_before(**source: object) -> None:
        edit(tmp_path / "out" / "config.json", lambda c: c.update(format_version=1))
        (tmp_path / "out" / "source.json").write_text(json.dumps(source))

    as_before(trained={"data": "x"})
    assert metadata.load_config(tmp_path / "out").input_size == (224, 224)
    edit(tmp_path / "out" / "config.json", lambda c: c["model"].update(image_size=256))
    with pytest.raises(InputError, match=r"trained by an earlier version.*at 256x256 pixels"):
        metadata.load_config(tmp_path / "out")
    as_before(file="ckpt.pth")  # converted: the original reads a part
    assert metadata.load_config(tmp_path / "out").reads_part_of_map


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no weights": (lambda p: shutil.rmtree(p / "weights"), "is not a checkpoint: it lacks"),
    "no config": (lambda p: (p / "config.json").unlink(), "is not a checkpoint: it lacks"),
    "config is not JSON": (
        lambda p: (p / "config.json").write_text("{"),
        r"config\.json is not JSON",
    ),
    "config is a list": (lambda p: (p / "config.json").write_text("[]"), "holds a list"),
    "another version": (
        lambda p: edit(p / "config.json", lambda c: c.update(format_version=99)),
        "format_version is 99; this version reads 2",
    ),
    "an unknown field": (
        lambda p: edit(p / "config.json", lambda c: c["model"].update(depth=3)),
        r"unknown fields \['depth'\]",
    ),
    "a bad value": (
        lambda p: edit(p / "config.json", lambda c: c["model"].update(levels="4")),
        "levels is '4'",
    ),
    "another network": (
        lambda p: edit(p / "config.json", lambda c: c["model"].update(base_width=8)),
        r"inc/conv1/kernel: expected \(3, 3, 3, 8\) float32, found \(3, 3, 3, 4\) float32",
    ),
    "a network of exabytes": (
        lambda p: edit(p / "config.json", lambda c: c["model"].update(base_width=2**40)),
        "base_width is 1099511627776",
    ),
    "truncated weights": (lambda p: truncate(p / "weights"), "is damaged"),
    "a changed byte": (lambda p: change_a_byte(p / "weights"), "is damaged"),
    "no metadata": (lambda p: (p / "weights" / "_METADATA").unlink(), "_METADATA is missing"),
    "no metadata, nor a manifest": (
        lambda p: [(p / "weights" / "_METADATA").unlink(), (p / "manifest.json").unlink()],
        "weights is damaged",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_checkpoint(damage: str, converted: Path) -> None:
    change, message = DAMAGE[damage]
    change(converted)
    with pytest.raises(InputError, match=message):
        load(converted)


def test_what_is_no_checkpoint(small_file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load(tmp_path / "none")
    with pytest.raises(InputError, match=r"python -m convert\.from_torch"):
        load(small_file)


def test_weights_that_claim_more_than_they_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zeros compress without bound: gigabytes of them fit into kilobytes of file."""
    config = UNetConfig(base_width=32, levels=3, decoder_levels=3, image_size=32)
    zeros = store.jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, np.float32), store.abstract_weights(config)
    )
    bomb = tmp_path / "bomb"
    bomb.mkdir()
    compressing = lambda: ocp.Checkpointer(ocp.PyTreeCheckpointHandler())  # noqa: E731
    monkeypatch.setattr(store, "_checkpointer", compressing)
    store.write(bomb, config, {metadata.WEIGHTS: zeros})
    with pytest.raises(InputError, match=r"claims .* bytes of weights in"):
        load(bomb)


def test_package_works_without_torch(converted: Path, tmp_path: Path) -> None:
    """Only what converts needs PyTorch; without it the converter says what to install."""
    picture = tmp_path / "face.png"
    predict_one = (
        "import sys; sys.modules['torch'] = sys.modules['safetensors'] = None\n"
        "import numpy as np, flax_unet, flax_unet.summary\n"
        "from PIL import Image\n"
        "from flax_unet.predict import __main__ as predict\n"
        f"Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save({str(picture)!r})\n"
        f"predict.main([{str(converted)!r}, {str(picture)!r}])\n"
        "import convert.from_torch\n"
        f"convert.from_torch.main([{str(picture)!r}, '--dry-run'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", predict_one], capture_output=True, text=True, check=False
    )
    assert "face.png" in done.stdout
    assert done.returncode == 2
    assert "pip install -e '.[convert]'" in done.stderr
    assert "Traceback" not in done.stderr
