"""DeepfakeBench: JSON files that list the frames of videos, which are aligned crops of one face."""

import dataclasses
import os
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from flax_unet.utils.errors import InputError, counted
from flax_unet.utils.filenames import shown
from train.data.layouts.tree import SPLITS
from train.prepare.layouts.pictures import Pictures, in_order
from train.prepare.layouts.record import Fault, Layout, ListOptions, Video, read_json

_NAME, _EMPTY = r'\s*"[^"]*"\s*:\s*\{', r"\s*\}\s*,"
_START = re.compile(  # a data set, a class that is not empty, a split
    rf'\s*\{{{_NAME}({_NAME}{_EMPTY})*{_NAME}\s*"({"|".join(SPLITS)})"\s*:\s*\{{'
)
_START_LENGTH = 4096  # characters
_REAL = re.compile(  # a word: DFDC_Real, FF-real, CelebReal, but neither Unreal nor FakeReal
    r"(?P<data_set>.*?)[-_ ]?((?<![^-_ ])(?i:real)|(?<=[a-z\d])(?<!(?i:fake))(Real|REAL))"
)
_FAKE = re.compile(  # parts of the names of classes
    r".*(fake|synthesis).*|FF-.+|Face2Face|FaceSwap|FaceShifter|NeuralTextures", re.IGNORECASE
)
_COMPRESSION = re.compile(r"raw|c\d+")
_NO_METHOD = re.compile(r"(.*[-_ ])?fake", re.IGNORECASE)
_FACEFORENSICS = "FaceForensics++"
_DATA_SETS = {"FF-": _FACEFORENSICS, "DFD_": "DeepFakeDetection"}  # of classes, in whatever file
# How the names of fakes of a data set, or of any, contain those of their originals.
_ORIGINALS = (
    (_FACEFORENSICS, re.compile(r"(\d+)_(\d+)"), (r"\1", r"\2")),
    (None, re.compile(r"(\d+)_\d+__(.+)__\w+"), (r"\1__\2",)),  # DeepFakeDetection
    (None, re.compile(r"(id\d+)_id\d+(_\d+)"), (r"\1\2",)),  # Celeb-DF
    (None, re.compile(r"(.+)_fake"), (r"\1",)),  # UADFV
)
_ORDER = ("test", "validation", "train")  # of a video in several splits, the first one is taken
_PLACES = ("*.json", "*/*.json", "preprocessing/dataset_json/*.json")  # of the files in a source
# Where frames are searched besides the source and the folder of the JSON file:
_ABOVE, _CHILDREN = 2, 100  # folders above the latter, and in both


class _Listed(NamedTuple):
    """A video of a JSON file."""

    file: Path
    data_set: str
    class_name: str
    is_real: bool
    method: str | None
    split: str
    compression: str | None
    video: str
    entry: Any

    @property
    def name(self) -> str:
        """The name of the video in its data set."""
        return "/".join(filter(None, (self.class_name, self.compression, self.video)))


@dataclasses.dataclass
class _Found:
    """The frames of a video on disk, as one JSON file lists them, or several."""

    first: _Listed
    folder: Path
    names: set[str]
    masks: Path | None
    notes: list[str]
    splits: set[str]

    @property
    def split(self) -> str:
        """The split; of several the one that is kept apart most strictly."""
        return min(self.splits, key=_ORDER.index)


def _files(source: Path) -> list[Path]:
    """The JSON files of this kind: `source`, or those in it and in its folders."""
    found = {source}
    if source.is_dir():
        found = {path for place in _PLACES for path in source.glob(place)}
    return sorted(path for path in found if path.suffix.lower() == ".json" and _is_listing(path))


def _is_listing(path: Path) -> bool:
    """Whether a file begins as a JSON of data sets, classes and splits."""
    try:
        if not path.is_file():
            return False
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            return _START.match(file.read(_START_LENGTH)) is not None
    except OSError:
        return False


def _videos(source: Path, options: ListOptions) -> Iterator[Video | Fault]:
    listed = [one for file in _files(source) for one in _listed(file)]
    known = {
        "compression": {one.compression for one in listed if one.compression},
        "method": {one.method for one in listed if one.method},
    }
    options.check(source, known)
    places = _Places(source)
    found: dict[Path, _Found] = {}
    faults: list[Fault] = []
    for one in listed:
        if not options.takes(one.compression, one.method):
            continue
        try:
            frames = _find(one, places)
            same = found.setdefault(frames.folder, frames)
            if (same.first.data_set, same.first.name) != (one.data_set, one.name):
                raise InputError(f"its frames are found where those of {same.first.name} are")
            same.names |= frames.names
            same.splits |= frames.splits
            same.masks = same.masks or frames.masks
        except InputError as error:
            faults.append(Fault(shown(f"{one.file}: {one.name}"), str(error)))
    if faults and not found:
        raise InputError(
            f"{source}: no frames were found. They must lie beside the JSON file, or in SOURCE, in "
            f"folders as it names them. {faults[0].file}: {faults[0].reason}"
        )
    yield from faults
    yield from _named([*found.values()])


def _listed(file: Path) -> Iterator[_Listed]:
    """The videos of a JSON file.

    Raises:
        InputError: it is not as expected, or the meaning of a class is not known.
    """
    for data_set, classes in _items(read_json(file), f"{file}", "an object by data set"):
        for name, splits in _items(classes, f"{file}: {data_set}", "an object by class"):
            prefixes = [real["data_set"] for one in classes if (real := _REAL.fullmatch(one))]
            is_real, method = _meaning(file, name, [*prefixes, data_set])
            known = (of for prefix, of in _DATA_SETS.items() if name.upper().startswith(prefix))
            of = next(known, data_set)
            where = f"{file}: {name}"
            for split, entries in _items(splits, where, "an object by split"):
                if split not in SPLITS:
                    text = f"has the split {shown(split):.80}; expected train, val or test"
                    raise InputError(f"{where} {text}")
                where = f"{file}: {name}, {split}"
                for video, entry in _items(entries, where, "an object by video"):
                    kind = (file, of, name, is_real, method, SPLITS[split])
                    if _is_compression(video, entry):
                        yield from (_Listed(*kind, video, *one) for one in entry.items())
                    else:
                        yield _Listed(*kind, None, video, entry)


def _is_compression(name: str, entry: Any) -> bool:
    """Whether an entry holds videos, and is not one."""
    if entry == {}:
        return _COMPRESSION.fullmatch(name) is not None
    return isinstance(entry, dict) and "frames" not in entry and "label" not in entry


def _items(content: Any, where: str, expected: str) -> Iterable[tuple[str, Any]]:
    if not isinstance(content, dict):
        raise InputError(f"{where} is not {expected}")
    return content.items()


def _meaning(file: Path, name: str, prefixes: list[str]) -> tuple[bool, str | None]:
    """Whether a class is REAL, and the method of a fake one, without the data set's name.

    Raises:
        InputError: the name has neither meaning.
    """
    if _REAL.fullmatch(name):
        return True, None
    if not _FAKE.fullmatch(name):
        raise InputError(
            f"{file}: the class {shown(name):.80} means neither REAL nor FAKE; rename it. REAL "
            "ones end in the word real, as DFDC_Real; FAKE ones begin with FF- or contain fake"
        )
    if _NO_METHOD.fullmatch(name):
        return False, None
    known = (re.escape(prefix) for prefix in (*prefixes, "FF") if prefix)
    match = re.fullmatch(rf"(?:{'|'.join(known)})[-_ ](.+)", name)
    return False, match[1] if match else name


class _Places:
    """Folders that JSON files name, on this machine: found by the ends of their paths."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self._roots: dict[Path, list[Path]] = {}  # by the folder of the JSON file
        self._known: dict[tuple[Path, tuple[str, ...]], list[Path]] = {}

    def find(self, file: Path, folder: tuple[str, ...]) -> Path | None:
        """The folder with the longest end of a path that a file names, which has other roots."""
        key = file.parent, folder[:-1]
        if key not in self._known:
            self._known[key] = [*dict.fromkeys(self._search(*key))]
        paths = (parent / folder[-1] for parent in self._known[key])
        return next((path for path in paths if _is_folder(path)), None)

    def _search(self, beside: Path, parts: tuple[str, ...]) -> Iterator[Path]:
        if not parts:
            yield from self._roots_of(beside)
        for cut in range(len(parts)):
            for root in self._roots_of(beside):  # an absolute path stays as it is
                if _is_folder(path := root.joinpath(*parts[cut:])):
                    yield path

    def _roots_of(self, beside: Path) -> list[Path]:
        if beside not in self._roots:
            roots = [beside, *([self._source] if self._source.is_dir() else [])]
            below = [path for root in roots for path in sorted(root.glob("[!.]*/"))[:_CHILDREN]]
            above = beside.resolve().parents[:_ABOVE]
            self._roots[beside] = [*dict.fromkeys([*roots, *above, *below])]
        return self._roots[beside]


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 (pathlib's raises on odd names)


def _find(one: _Listed, places: _Places) -> _Found:
    """The frames and masks of a video.

    Raises:
        InputError: its entry is not as expected, or its frames are missing.
    """
    entry = one.entry if isinstance(one.entry, dict) else {}
    label = entry.get("label", one.class_name)
    if isinstance(label, str) and bool(_REAL.fullmatch(label)) != one.is_real:
        raise InputError(f"its label is {label!r:.80}, its class {one.class_name}")
    parts, names = _split(entry.get("frames"))
    folder = places.find(one.file, parts)
    if folder is None:
        raise InputError(f"its frames are missing: {shown('/'.join(parts)):.200}")
    there, notes = {*Pictures.of(folder).names}, []
    if missing := in_order(names - there):
        notes.append(
            f"{counted(len(missing), 'frame')} of {len(names)} missing, such as {shown(missing[0])}"
        )
        if len(missing) == len(names):
            raise InputError(notes[0])
    masks = None
    if not one.is_real and entry.get("masks"):
        masks = places.find(one.file, _split(entry["masks"])[0])
        if masks is None:
            notes.append("its masks are missing")
    return _Found(one, folder, {*map(sys.intern, names & there)}, masks, notes, {one.split})


def _split(paths: Any) -> tuple[tuple[str, ...], set[str]]:
    """The folder of pictures, in parts, and their names."""
    if not isinstance(paths, list) or not all(isinstance(path, str) and path for path in paths):
        raise InputError("its entry is not an object with a list of frames")
    if not paths:
        raise InputError("it has no frames")
    # What stands before `../` is a root of another machine.
    ends = (path.replace("\\", "/").rpartition("../")[2] for path in paths)
    split = [PurePosixPath(end).parts for end in ends]
    folders = {parts[:-1] for parts in split}
    folder = folders.pop()
    if folders or not folder:
        raise InputError("its frames do not lie in one folder")
    return folder, {parts[-1] for parts in split}


def _named(found: list[_Found]) -> Iterator[Video]:
    """The videos; those of one name in several folders have their split in it."""
    folders = Counter((one.first.data_set, one.first.name) for one in found)
    names: dict[Path, str] = {}
    reals: dict[tuple[str, str | None, str], list[_Found]] = defaultdict(list)
    classes: dict[str, str] = {}  # a real one of each data set
    for one in found:
        data_set, name, video = one.first.data_set, one.first.name, one.first.video
        if folders[data_set, name] > 1:
            name = f"{name.removesuffix(video)}{one.split}/{video}"
        names[one.folder] = name
        if one.first.is_real:
            reals[data_set, one.first.compression, video].append(one)
            classes.setdefault(data_set, one.first.class_name)

    def original(of: _Found, video: str) -> str:
        first = of.first
        known = reals[first.data_set, first.compression, video]
        if known:
            return names[min(known, key=lambda one: one.split != of.split).folder]
        class_name = classes.get(first.data_set, "real")
        return first._replace(class_name=class_name, video=video).name

    for one in found:
        first, notes = one.first, list(one.notes)
        sources = [] if first.is_real else _originals(first)
        people = sources or [first.video] if first.compression else []  # other copies show the same
        if len(one.splits) > 1:
            splits = " and ".join(sorted(one.splits))
            notes.append(f"it is listed for {splits}, and was taken for {one.split}")
        yield Video(
            one.folder,
            names[one.folder],
            first.is_real,
            first.data_set,
            tuple(original(one, name) for name in sources),
            first.method,
            first.compression,
            one.split,
            tuple(f"video {name}" for name in people),
            mask_video=one.masks,
            frames=tuple(in_order(one.names)),
            is_crop=True,
            notes=tuple(notes),
        )


def _originals(fake: _Listed) -> list[str]:
    """The videos that a fake was made from, by its name; the first is its target."""
    for data_set, pattern, templates in _ORIGINALS:
        match = pattern.fullmatch(fake.video)
        if match and data_set in (None, fake.data_set):
            return [match.expand(template) for template in templates]
    return []


LAYOUT = Layout(
    "a JSON file of data sets, classes, splits and videos with their frames, or a folder with such "
    "files; the frames beside them, in folders as these name them",
    lambda source: bool(_files(source)),
    _videos,
)
