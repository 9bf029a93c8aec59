"""The embedded data set as it lies on disk, read back as the pipeline reads it."""

import ast
import hashlib
import io
import multiprocessing
import os
import signal
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from flax_unet.utils.errors import InputError
from tests.conftest import listing
from tests.train.faults import refuse_reading
from train.data.dataset import open_dataset, open_splits
from train.data.synthetic import dataset
from train.data.synthetic.dataset import prepare
from train.data.synthetic.scene import ProceduralPortraits

COUNT = 40
Examples = dict[str, list[dict[str, Any]]]


def read(directory: Path) -> Examples:
    (info,) = directory.rglob("dataset_info.json")
    builder = tfds.builder_from_directory(info.parent)
    decoders = {"image": tfds.decode.SkipDecoding()}
    found: Examples = {}
    for split in builder.info.splits:
        source = builder.as_data_source(
            split=split,  # pyright: ignore[reportCallIssue] (the decorator hides it)
            decoders=decoders,
        )
        found[split] = [source[i] for i in range(len(source))]
    return found


def pixels(encoded: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(encoded))
    assert image.format == "PNG"
    return np.asarray(image)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def directory(cache: Path) -> Path:
    return prepare(count=COUNT, seed=4, cache=cache)


@pytest.fixture(scope="module")
def examples(directory: Path) -> Examples:
    return read(directory)


def test_splits_are_by_portrait(examples: Examples) -> None:
    assert {split: len(found) for split, found in examples.items()} == {
        "train": 64,
        "validation": 8,
        "test": 8,
    }
    portraits = {
        split: {Path(example["file"].decode()).name for example in found}
        for split, found in examples.items()
    }
    assert len(set.union(*portraits.values())) == sum(map(len, portraits.values())) == COUNT
    for split, found in examples.items():
        assert sum(example["label"] for example in found) == len(portraits[split])


def test_examples_keep_the_contract(examples: Examples) -> None:
    portraits = ProceduralPortraits(COUNT, seed=4)
    every = {e["file"].decode(): e for found in examples.values() for e in found}
    assert len(every) == 2 * COUNT
    for index in range(COUNT):
        name, portrait = portraits[index]
        real, fake = every[f"real/{name}.png"], every[f"fake/{name}.png"]
        assert (real["label"], fake["label"]) == (1, 0)
        assert (real["video"], real["original"]) == (f"{name}_real".encode(), b"")
        assert (fake["video"], fake["original"]) == (f"{name}_fake".encode(), real["video"])
        np.testing.assert_array_equal(pixels(real["image"]), np.asarray(portrait))
        mask = pixels(fake["mask"])
        assert pixels(real["mask"]).shape == mask.shape == (256, 256)
        assert not pixels(real["mask"]).any()
        assert set(np.unique(mask)) == {0, 1}
        change = np.abs(pixels(fake["image"]).astype(int) - np.asarray(portrait)).max(-1)
        assert change[mask == 1].mean() > 3 * change[mask == 0].mean()


def shards(directory: Path) -> list[str]:
    return [
        hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*.array_record-*"))
    ]


def test_number_of_processes_does_not_matter(directory: Path, tmp_path: Path) -> None:
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        dataset.write_splits(tmp_path, ProceduralPortraits(COUNT, seed=4), 4, mapping=pool.map)
    assert shards(tmp_path) == shards(directory)
    assert len(shards(directory)) == 3


def test_a_killed_process_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "processors", lambda: 2)
    with (
        pytest.raises(InputError, match="was killed, perhaps for lack of memory"),
        dataset._mapping(2) as mapping,
    ):
        list(mapping(os._exit, [1]))
    assert not multiprocessing.active_children()


def test_a_script_without_a_main_guard_makes_one(tmp_path: Path) -> None:
    """Its processes do not run it again, and then wait for it."""
    script = tmp_path / "script.py"
    script.write_text(
        "from train.data.synthetic import dataset\n"
        "dataset.processors = lambda: 2\n"
        "print(dataset.prepare(count=128).name)\n"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(Path.cwd())}
    made = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, timeout=300
    )
    assert made.returncode == 0, made.stderr
    assert len(made.stdout.split()) == 1


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="it has no such signal")
def test_processes_end_with_their_parent() -> None:
    program = (
        "import time; from train.data.synthetic import dataset\n"
        "dataset.processors = lambda: 2\n"
        "with dataset._mapping(2) as mapping:\n"
        "    print(*mapping(abs, [7]), flush=True)\n"
        "    list(mapping(time.sleep, [600, 600]))\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"7\n"
        workers = psutil.Process(parent.pid).children()
        parent.kill()
    _, alive = psutil.wait_procs(workers, timeout=60)
    for process in alive:
        process.kill()
    assert workers
    assert not alive


def test_it_is_kept_until_something_changes(
    directory: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("generated again")

    monkeypatch.setattr(dataset, "_generate", refuse)
    assert prepare(count=COUNT, seed=4, cache=cache) == directory
    for changed in ({"seed": 5}, {"count": COUNT + 1}):
        with pytest.raises(AssertionError, match="generated again"):
            prepare(**{"count": COUNT, "seed": 4, "cache": cache, **changed})
    monkeypatch.setattr(dataset, "file_sha256", lambda path: "edited")
    with pytest.raises(AssertionError, match="generated again"):
        prepare(count=COUNT, seed=4, cache=cache)


def test_a_fingerprint_of_a_missing_file_is_an_error(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "_FILES", (*dataset._FILES, "train/data/renamed.py"))
    with pytest.raises(FileNotFoundError, match=r"train/data/renamed\.py"):
        prepare(count=COUNT, seed=4, cache=cache)


# Imported where records are made, but no byte of them depends on these.
NOT_HASHED = {
    *("flax_unet/nn/config.py", "flax_unet/utils/errors.py", "flax_unet/utils/files.py"),
    *("flax_unet/utils/cache.py", "flax_unet/checkpoint/provenance.py"),
    *("flax_unet/media/videos.py", "train/data/dataset.py"),
    *("flax_unet/utils/processes.py", "train/data/storage/cache.py"),
}


def test_every_module_that_records_depend_on_is_hashed() -> None:
    root = Path(dataset.__file__).parents[3]
    own = {path.relative_to(root).as_posix() for path in Path(dataset.__file__).parent.glob("*.py")}
    hashed = own | set(dataset._FILES)
    imported: set[str] = set()
    for file in hashed:
        for node in ast.walk(ast.parse((root / file).read_text())):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                names = (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
                imported |= {f"{name.replace('.', '/')}.py" for name in names}
    found = {file for file in imported if (root / file).is_file()}
    assert found - hashed == NOT_HASHED
    assert set(dataset._FILES) <= found


def test_an_interrupted_build_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: ProceduralPortraits, index: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ProceduralPortraits, "__getitem__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(count=10, cache=tmp_path)
    assert set(listing(tmp_path).values()) == {None}  # no file


def test_users_cache_and_no_tensorflow(tmp_path: Path) -> None:
    program = (
        "import sys; from train.data.synthetic.dataset import prepare; print(prepare(count=10));"
        "import tensorflow_datasets as tfds; "
        "found = next(prepare(count=10).rglob('features.json'));"
        "b = tfds.builder_from_directory(found.parent); b.as_data_source(split='test')[0];"
        "assert not {'tensorflow', 'torch'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert Path(line).is_relative_to(tmp_path / "flax-unet" / "data")


def face_folder(folder: Path, count: int) -> None:
    folder.mkdir()
    generated = ProceduralPortraits(count, seed=9)
    for i in range(count):
        generated[i][1].resize((300, 200)).save(folder / f"{i:02}.png")


def test_own_pictures(tmp_path: Path) -> None:
    face_folder(tmp_path / "faces", 10)
    found = read(prepare(str(tmp_path / "faces"), cache=tmp_path / "cache"))
    assert {split: len(examples) for split, examples in found.items()} == {
        "train": 16,
        "validation": 2,
        "test": 2,
    }
    assert all(pixels(e["image"]).shape == (256, 256, 3) for e in found["train"])


def test_every_bad_picture_is_named_or_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    face_folder(tmp_path / "faces", 13)
    (tmp_path / "faces" / "03.png").write_bytes(b"")
    (tmp_path / "faces" / "07.png").write_bytes((tmp_path / "faces" / "01.png").read_bytes()[:999])
    (tmp_path / "faces" / "08.png").unlink()
    (tmp_path / "faces" / "08.png").symlink_to("nowhere.png")
    name = f"forged_portraits:{tmp_path / 'faces'}"
    with monkeypatch.context() as patched:
        patched.setattr(dataset, "write_splits", None)  # none is made before all are checked
        with pytest.raises(InputError) as raised:
            open_dataset(name, "train")
    header, *lines = str(raised.value).splitlines()
    assert "3 files that cannot be used" in header
    assert "--skip-bad" in header
    named = [line.split(":")[0].strip() for line in lines]
    assert named == [f"1 file, {name}.png" for name in ("03", "07", "08")]
    data = open_dataset(name, "train", skip_bad=True)
    assert set(data.faults) == {"03.png", "07.png", "08.png"}
    assert sum(len(found) for found in open_splits(name)[0].values()) == 2 * 10
    with pytest.raises(InputError, match="3 files"):  # also when it is there already
        open_dataset(name, "train")


def test_a_picture_that_cannot_be_read_just_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    face_folder(tmp_path / "faces", 10)
    refuse_reading("04.png", monkeypatch)
    with pytest.raises(
        InputError, match=r"1 files that could not be read[^\n]*\n  1 file, 04\.png: "
    ):
        prepare(str(tmp_path / "faces"), cache=tmp_path / "cache", skip_bad=True)
    monkeypatch.undo()
    prepare(str(tmp_path / "faces"), cache=tmp_path / "cache")


def test_nothing_but_bad_pictures(tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    for i in range(10):
        (tmp_path / "faces" / f"{i}.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="known format"):
        prepare(str(tmp_path / "faces"), cache=tmp_path / "cache")
    with pytest.raises(InputError, match="0 portraits that can be used; at least 10"):
        prepare(str(tmp_path / "faces"), cache=tmp_path / "cache", skip_bad=True)
