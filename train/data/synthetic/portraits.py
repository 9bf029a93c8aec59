"""Opens portraits: generated ones, a folder's, or the fetched avatars."""

import difflib
import warnings
from pathlib import Path

from PIL import Image

from flax_unet.utils.cache import cache_root
from flax_unet.utils.errors import InputError
from flax_unet.utils.filenames import utf8
from train.data.layouts import image_files
from train.data.layouts.faults import BadFileError
from train.data.synthetic import avatars
from train.data.synthetic.scene import ProceduralPortraits

SOURCES = ("procedural", "avatars")  # by name; anything else is a folder
COUNT = 1500  # generated portraits by default
MIN_COUNT = 10  # so that each of three splits has one
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


class FolderPortraits:
    """The pictures in a folder and the folders below it, sorted by name.

    Raises:
        InputError: there are fewer than MIN_COUNT, or two differ by their suffix alone.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise InputError(f"{folder} is not a folder of portraits")
        self._folder = folder
        found = {
            path.relative_to(folder).as_posix(): image_files.look(path)
            for path in folder.rglob("*")
            if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
        }
        self._files = sorted(found.items())
        if len(self._files) < MIN_COUNT:
            raise InputError(
                f"{folder} holds {len(self._files)} pictures ({', '.join(SUFFIXES)}); at least "
                f"{MIN_COUNT} are needed"
            )
        seen: dict[str, str] = {}
        for file, _ in self._files:
            other = seen.setdefault(_name(file), file)
            if other != file:
                raise InputError(
                    f"{folder / other} and {folder / file} have one name; rename one of them"
                )

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[str, Image.Image]:
        """The name and the picture, RGB, of any size.

        Raises:
            InputError: it cannot be used; the message is the reason alone.
            OSError: it cannot be read; another attempt may succeed.
        """
        file, found = self._files[index]
        if self.file(index) != file:
            raise BadFileError("its name is not UTF-8")
        if found.fault:
            raise BadFileError(*found.fault)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # sizes are checked
            picture = image_files.decode((self._folder / file).read_bytes())
        return _name(file), picture.convert("RGB")

    def file(self, index: int) -> str:
        """The picture's path in the folder."""
        return utf8(self._files[index][0])

    def describe(self) -> list[str]:
        """Name, size and modification time of every picture."""
        return [repr(file) for file in self._files]


def _name(file: str) -> str:
    return Path(file).with_suffix("").as_posix()


Portraits = ProceduralPortraits | FolderPortraits


def portraits(source: str, *, count: int | None, seed: int, cache: Path | None) -> Portraits:
    """Opens the portraits of one of SOURCES, or of a folder.

    `count` (None for COUNT) and `seed` are of generated portraits; fetched pictures are kept below
    `cache`, None for `cache_root()`.

    Raises:
        InputError: the source does not exist or cannot be fetched, its count cannot be chosen, or
            the count is below MIN_COUNT.
    """
    if count is not None and source != "procedural":
        raise InputError(f"{count} portraits of {source}: only generated portraits have a count")
    if source == "procedural":
        count = COUNT if count is None else count
        if count < MIN_COUNT:
            raise InputError(f"{count} portraits are too few: at least {MIN_COUNT} are needed")
        return ProceduralPortraits(count, seed)
    if source == "avatars":
        return FolderPortraits(avatars.fetch(cache or cache_root()))
    if not Path(source).exists():
        near = difflib.get_close_matches(source, SOURCES, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise InputError(
            f"{source} is neither a folder nor a source of portraits ({', '.join(SOURCES)}){hint}"
        )
    return FolderPortraits(Path(source))
