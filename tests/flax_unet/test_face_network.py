"""YuNet in JAX finds what it finds through OpenCV."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import onnx
import pytest
from onnx import external_data_helper, numpy_helper
from PIL import Image

from flax_unet.checkpoint.yunet import load
from flax_unet.face_network import OnDevice
from flax_unet.media.faces import CONFIDENCE, OpenCV, installed_model
from flax_unet.utils.errors import InputError
from tests.flax_unet.samples import CLIP_FRAMES, SHARED, group, needs_shared, noise, photo
from train.data.synthetic.scene import ProceduralPortraits

FACE = photo().crop((163, 90, 373, 350))
PIXELS, SCORE = 0.05, 1e-4  # they differ by less


@pytest.fixture(scope="module")
def network() -> OnDevice:
    return OnDevice(jax.local_devices()[0])


@pytest.fixture(scope="module")
def opencv() -> OpenCV:
    return OpenCV()


def assert_same(picture: Image.Image, network: OnDevice, opencv: OpenCV) -> int:
    """The number of faces, which both find."""
    pixels = np.asarray(picture)
    found, expected = network(pixels), opencv(pixels)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found[:, :-1], expected[:, :-1], rtol=0, atol=PIXELS)
    np.testing.assert_allclose(found[:, -1], expected[:, -1], rtol=0, atol=SCORE)
    return len(found)


@pytest.mark.parametrize(
    ("size", "faces"), [((320, 192), 1), ((301, 320), 1), ((100, 128), 1), ((500, 570), 1)]
)
def test_photo(size: tuple[int, int], faces: int, network: OnDevice, opencv: OpenCV) -> None:
    """Sizes that are filled up with black too, in which this sees an edge as OpenCV does."""
    assert assert_same(photo().resize(size), network, opencv) == faces


def test_face_at_an_edge(network: OnDevice, opencv: OpenCV) -> None:
    assert assert_same(photo().crop((200, 100, 456, 356)), network, opencv) == 1


def test_many_faces(network: OnDevice, opencv: OpenCV) -> None:
    places = [(left, top, 90) for left in range(20, 1500, 160) for top in range(10, 880, 170)]
    crowd = group(*places).resize((1024, 640))
    assert assert_same(crowd, network, opencv) == len(places)


def test_faces_that_overlap(network: OnDevice, opencv: OpenCV) -> None:
    """Of faces so small that whole pixels count, both leave out the same."""
    rng = np.random.default_rng(0)
    for _ in range(60):
        canvas = Image.new("RGB", (320, 192), (90, 120, 90))
        for _ in range(25):
            width = int(rng.integers(14, 40))
            face = FACE.resize((width, round(1.24 * width)))
            canvas.paste(face, (int(rng.integers(0, 300)), int(rng.integers(0, 170))))
        assert_same(canvas, network, opencv)


@pytest.mark.parametrize("number", range(3))
def test_drawn_face(number: int, network: OnDevice, opencv: OpenCV) -> None:
    portrait = ProceduralPortraits(3, 0)[number][1]
    assert assert_same(portrait.convert("RGB").resize((192, 192)), network, opencv) == 1


@needs_shared
@pytest.mark.parametrize("number", CLIP_FRAMES)
def test_clip(number: int, network: OnDevice, opencv: OpenCV) -> None:
    with Image.open(SHARED / f"face_swap_frame_{number:03d}.png") as image:
        assert assert_same(image.convert("RGB"), network, opencv) == 1


def test_no_face(network: OnDevice, opencv: OpenCV) -> None:
    assert assert_same(noise(300, 200), network, opencv) == 0


def test_several_pictures_at_once(network: OnDevice) -> None:
    given = photo().resize((320, 192)), noise(50, 40), photo().resize((180, 192))
    pictures = [np.asarray(picture) for picture in given]
    for found, picture in zip(network.all_of(pictures), pictures, strict=True):
        np.testing.assert_array_equal(found, network(picture))


def test_weights_that_are_not_quantised(tmp_path: Path) -> None:
    """As in the file that OpenCV's zoo calls 2023mar: the same network in plain float32."""
    model = onnx.load(installed_model())
    values: dict[str, Any] = {
        tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer
    }
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        given: list[Any] = [values.get(name) for name in node.input]
        if node.op_type == "DequantizeLinear":
            levels, scale, zero = given
            rows = levels.reshape(len(scale), -1).astype(np.float32) - zero.reshape(-1, 1)
            values[node.output[0]] = (rows * scale.reshape(-1, 1)).reshape(levels.shape)
        elif node.op_type == "Reshape" and given[0] is not None:
            values[node.output[0]] = given[0].reshape(given[1])
        else:
            model.graph.node.append(node)
            continue
        tensor = numpy_helper.from_array(values[node.output[0]].astype(np.float32), node.output[0])
        model.graph.initializer.append(tensor)
    onnx.save(model, tmp_path / "plain.onnx")
    same = jax.tree.map(np.array_equal, load(tmp_path / "plain.onnx"), load(installed_model()))
    assert all(jax.tree.leaves(same))


def test_weights_elsewhere_are_refused(tmp_path: Path) -> None:
    """A file from the internet may not name other files to read."""
    model = onnx.load(installed_model())
    tensor = max(model.graph.initializer, key=lambda one: len(one.raw_data))
    external_data_helper.set_external_data(tensor, "/etc/passwd")
    tensor.ClearField("raw_data")
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"model\.onnx is not a YuNet model"):
        OnDevice(jax.local_devices()[0], tmp_path / "model.onnx")


def test_files_that_ask_for_much_memory_are_refused(tmp_path: Path) -> None:
    """Scales that do not fit the weights, of which each would be repeated for all the others."""
    model = onnx.load(installed_model())
    scales = next(node for node in model.graph.node if node.op_type == "DequantizeLinear").input[1]
    tensor = next(one for one in model.graph.initializer if one.name == scales)
    tensor.CopyFrom(numpy_helper.from_array(np.ones((2**20, 1), np.float32), scales))
    (tmp_path / "model.json").write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"model\.json is not a YuNet model"):
        OnDevice(jax.local_devices()[0], tmp_path / "model.json")
    (tmp_path / "large").write_bytes(bytes(2**26 + 1))
    with pytest.raises(InputError, match=r"large is not a YuNet model"):
        OnDevice(jax.local_devices()[0], tmp_path / "large")


def test_scores(network: OnDevice) -> None:
    found = network(np.asarray(photo().resize((320, 192))))
    assert (found[:, -1] >= CONFIDENCE).all()
    assert (found[:, -1] <= 1).all()
