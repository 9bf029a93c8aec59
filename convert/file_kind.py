"""What a file or folder is that cannot be converted, and the one command that helps.

It is decided by the first bytes, the members of an archive, or the files of a folder.
"""

import bz2
import gzip
import json
import lzma
import mimetypes
import re
import shlex
import zlib
from pathlib import Path

from flax_unet.checkpoint import metadata
from flax_unet.utils.errors import counted

_SUFFIXES = frozenset({".pth", ".pt", ".ckpt", ".bin", ".safetensors", ".pkl", ".pickle"})
_OURS = frozenset({metadata.CONFIG, metadata.SOURCE, metadata.MANIFEST})
_MOST_LISTED = 5  # members or files that a message names
_PLAIN = re.compile(r"(\./)?\w[\w./ +=,-]*")  # a member's name that no program takes for more
_OPTION_OR_HOST = re.compile(r"[-@]|[^/]*:")  # what programs may take a relative path for

# First bytes -> name, how to unpack, and how to look inside.
_PACKED = {
    b"\x1f\x8b": ("gzip", "gunzip -c", gzip.open),
    b"\xfd7zXZ\x00": ("xz", "xz -dc", lzma.open),
    b"BZh": ("bzip2", "bzip2 -dc", bz2.open),
    b"\x28\xb5\x2f\xfd": ("zstd", "zstd -dc", None),
    b"\x04\x22\x4d\x18": ("lz4", "lz4 -dc", None),
}
_PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\x00", b"MM\x00*", b"\0\0\0\x0cjP")
_VIDEOS = (b"\x1aE\xdf\xa3", b"FLV", b"OggS", b"\x00\x00\x01\xba")
_STILL = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1", b"WEBP")  # brands of pictures
_ONLY_PYTORCH = "Only PyTorch's checkpoints are converted"
_OTHERS = {  # first bytes -> what it is, and what to do
    b"version https://git-lfs": (
        "a Git LFS pointer, not the file itself",
        "Fetch it: git lfs pull --include {file}",
    ),
    b"\x89HDF": ("an HDF5 file, as Keras and TensorFlow write", _ONLY_PYTORCH),
    b"GGUF": ("a GGUF file", _ONLY_PYTORCH),
    b"\x93NUMPY": ("a NumPy array", "Save a dictionary: torch.save(model.state_dict(), OUT)"),
    b"%PDF": ("a PDF document", "Name the checkpoint"),
    b"7z\xbc\xaf": ("a 7-Zip archive", "Unpack it: 7z x {file}"),
    b"Rar!": ("a RAR archive", "Unpack it: unrar x {file}"),
}
_WEB_PAGE = (b"<!doctype html", b"<html", b"<head")


def command(module: str, *arguments: object) -> str:
    """A command line of this project, to be shown."""
    return f"python -m {module} {' '.join(quoted(argument) for argument in arguments)}"


def quoted(argument: object) -> str:
    """An argument as a shell takes it; a path is one that no program takes for an option."""
    text = str(argument)
    if isinstance(argument, Path) and not argument.is_absolute() and _OPTION_OR_HOST.match(text):
        text = f"./{text}"
    return shlex.quote(text)


def _saving(weights: str, path: Path) -> str:
    """A command that saves the weights of a program: `weights` is code, `{}` in it the file."""
    file, out = (
        json.dumps(str(of), ensure_ascii=False) for of in (path, f"{path.stem}.weights.pth")
    )
    code = f"import torch; torch.save({weights.format(file)}, {out})"
    return f"python -c {shlex.quote(code)}"


def _unpacking(program: str, path: Path, names: list[str]) -> str:
    """A command that unpacks the first checkpoint of an archive, or all of it."""
    inside = [name for name in names if Path(name).suffix in _SUFFIXES and _PLAIN.fullmatch(name)]
    return " ".join((program, *map(quoted, (path, *inside[:1]))))


def of_file(path: Path, head: bytes) -> str:
    """A predicate on a file that is not a checkpoint, such as `is empty. Download it again`.

    `head` is its first kilobyte.
    """
    file = quoted(path)
    if not head.strip(b"\0"):
        return "holds zeros alone: the download or the copy did not finish. Download it again"
    for magic, (name, unpack, opened) in _PACKED.items():
        if head.startswith(magic):
            return _of_packed(path, name, unpack, opened)
    if (media := _media(head)) is not None:
        return (
            f"is {media}, not a checkpoint; are the arguments in the wrong order? "
            f"{command('convert.from_torch', 'CHECKPOINT')} converts, "
            f"{command('flax_unet.predict', 'CONVERTED', path)} judges it"
        )
    for magic, (what, remedy) in _OTHERS.items():
        if head.startswith(magic):
            return f"is {what}. {remedy.format(file=file)}"
    if head[4:8] == b"TFL3":
        return f"is a TensorFlow Lite model. {_ONLY_PYTORCH}"
    if path.suffix == ".onnx" or _is_onnx(head):
        return (
            "is an ONNX model, which holds a program and not PyTorch's tensors. Convert the .pth "
            "file that it was exported from"
        )
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(_WEB_PAGE) or (text.startswith(b"<?xml") and b"<html" in text):
        return (
            f"is a web page: it begins with {head[:16]!r}. The address leads to a page about the "
            "file; download the file itself"
        )
    if text.startswith((b"{", b"[")):
        return "is a JSON file without tensors. Name the checkpoint beside it"
    begins = f"it begins with {head[:16]!r}"
    if head.isascii() and b"\0" not in head:
        return f"is not a PyTorch or safetensors checkpoint but a text file: {begins}"
    return (
        f"is not a PyTorch or safetensors checkpoint: {begins}. Name a file of "
        "torch.save(model.state_dict(), FILE)"
    )


def _media(head: bytes) -> str | None:
    """What a file is that begins as pictures and videos do, or None."""
    if head.startswith(_PICTURES):
        return "a picture"
    if head[4:8] == b"ftyp" or head[:4] == b"RIFF":
        return "a picture" if head[8:12] in _STILL else "a video"
    is_stream = any(head[at : at + 377 : 188] == b"GGG" for at in (0, 4))  # MPEG-TS
    return "a video" if is_stream or head.startswith(_VIDEOS) else None


def _is_onnx(head: bytes) -> bool:
    """Whether a protocol buffer begins with ONNX's two first fields: its version, the producer."""
    return re.match(rb"\x08[\x01-\x14][\x12\x3a\x1a]", head) is not None


def _of_packed(path: Path, name: str, unpack: str, opened: object) -> str:
    inside = b""
    if callable(opened):
        try:
            with opened(path, "rb") as stream:  # pyright: ignore[reportGeneralTypeIssues]
                inside = stream.read(512)
        except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error):
            pass  # damaged: unpacking it says so
    if inside[257:262] == b"ustar" or path.suffix == ".tgz" or ".tar" in path.suffixes[-2:-1]:
        return (
            f"is a tar archive, packed by {name}. Unpack it: tar -xf {quoted(path)}, and convert "
            "the checkpoint in it"
        )
    bare = path.with_suffix("")
    out = bare if bare != path and not bare.exists() else path.with_name(f"{path.name}.unpacked")
    return f"is packed by {name}. Unpack it first: {unpack} {quoted(path)} > {quoted(out)}"


def of_tar(path: Path, names: list[str]) -> str:
    """A predicate on a tar archive that holds these files."""
    unpacking = _unpacking("tar -xf", path, names)
    return f"is a tar archive that holds {_listed(names)}. Unpack it: {unpacking}"


def of_zip(path: Path, names: list[str], pickled: bool) -> str | None:
    """A predicate on a zip archive, or None for a checkpoint; `pickled`: it has a `data.pkl`."""
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner:
        return "is a TorchScript program. Save its weights instead: " + _saving(
            "torch.jit.load({}).state_dict()", path
        )
    if pickled:
        return None
    if any(n.endswith(("serialized_exported_program.json", "models/model.json")) for n in names):
        return "is a program of torch.export. Save its weights instead: " + _saving(
            "torch.export.load({}).state_dict", path
        )
    if ".data/extern_modules" in inner:
        return (
            "is a package of torch.package, which holds code. Save the weights alone: "
            "torch.save(model.state_dict(), OUT)"
        )
    if "model.weights.h5" in names:
        return f"is a Keras model. {_ONLY_PYTORCH}"
    if inside := [name for name in names if name.endswith("/data.pkl")]:
        return (
            f"is a zip archive that holds an unpacked checkpoint ({inside[0]}). Unpack it: unzip "
            f"{quoted(path)}, and convert the folder of data.pkl: the message shows how to pack it"
        )
    what = f"is a zip archive but not a PyTorch checkpoint; it holds {_listed(names)}"
    if any(Path(name).suffix in _SUFFIXES for name in names):
        return f"{what}. Unpack it: {_unpacking('unzip', path, names)}"
    if names and all(name.endswith(".npy") for name in names):
        return f"{what}: it is a file of NumPy arrays. Save one with torch.save(state_dict, OUT)"
    return what


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:_MOST_LISTED]) or "nothing"
    more = len(names) - _MOST_LISTED
    return shown + (f" and {more:,} more" if more > 0 else "")


def is_inside(path: Path) -> bool:
    """Whether a file is a part of a checkpoint that is a folder."""
    return (
        path.name == ".metadata"
        or path.suffix == ".distcp"
        or _is_unpacked(path.parent, path.name)
        or (path.name in _OURS and metadata.is_checkpoint(path.parent))
    )


def _is_unpacked(folder: Path, name: str = "data.pkl") -> bool:
    return name == "data.pkl" and (folder / name).is_file() and (folder / "data").is_dir()


def of_folder(path: Path) -> str:
    """A predicate on a folder."""
    if metadata.is_checkpoint(path):
        return _converted(path, path)
    for name in ("best", "last"):  # of a directory that `train.fit` works in
        if metadata.is_checkpoint(path / name):
            return _converted(path, path / name)
    names = sorted(entry.name for entry in path.iterdir())
    if ".metadata" in names or any(name.endswith(".distcp") for name in names):
        return (
            "is a distributed checkpoint of PyTorch. Make it one file: python -m "
            f"torch.distributed.checkpoint.format_utils dcp_to_torch {quoted(path)} "
            f"{quoted(Path(f'{path.name}.pth'))}"
        )
    for folder in (path, *(path / name for name in names)):
        if _is_unpacked(folder):
            top, name = folder.resolve().parent, folder.resolve().name
            return (
                "is an unpacked checkpoint; PyTorch's .pth files are zip archives. Pack it again: "
                f"(cd {quoted(top)} && zip -0 -r {quoted(Path(f'{name}.pth'))} "
                f"{quoted(Path(name))})"
            )
    if {"_CHECKPOINT_METADATA", "_METADATA", "manifest.ocdbt"} & set(names):
        return f"is an Orbax checkpoint of another program. {_ONLY_PYTORCH}"
    if "saved_model.pb" in names:
        return f"is a TensorFlow model. {_ONLY_PYTORCH}"
    if media := [n for n in names if str(mimetypes.guess_type(n)[0])[:6] in ("image/", "video/")]:
        return (
            f"is a folder of pictures or videos ({_listed(media)}), not a checkpoint; are the "
            f"arguments in the wrong order? {command('flax_unet.predict', 'CONVERTED', path)} "
            "judges them"
        )
    if weights := [name for name in names if Path(name).suffix in _SUFFIXES]:
        return (
            f"is not a file but a folder with {counted(len(weights), 'checkpoint')} "
            f"({_listed(weights)}). Name one: {command('convert.from_torch', path / weights[0])}"
        )
    return (
        f"is not a file; name a .pth, .pt or .safetensors file. The folder holds {_listed(names)}"
    )


def _converted(path: Path, checkpoint: Path) -> str:
    inside = "" if checkpoint == path else f" holds {checkpoint.name}/, which"
    return (
        f"{inside} is converted already. "
        f"{command('flax_unet.predict', checkpoint, 'photos/')} judges pictures; "
        f"{command('convert.to_torch', checkpoint, 'back.pth')} gives PyTorch's file back"
    ).strip()
