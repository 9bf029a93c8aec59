"""A run that ends early is gone on with: nothing is lost, and nothing is there twice."""

import contextlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flax_unet import predict_files
from flax_unet.media.discover import items
from flax_unet.predict import __main__ as predict
from flax_unet.predict import join
from flax_unet.predict.journal import Journal
from flax_unet.predict.plan import fingerprint
from flax_unet.utils.errors import InputError
from tests.flax_unet.samples import contents, noise, numbered, small_checkpoint, write_video

Fails = Callable[..., str]
FILES = 14
TABLES = {"predictions.jsonl", "predictions.csv", "summary.csv", "report.html"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures, more than a batch in a row, and videos; one file is broken, two share a name."""
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(FILES):
        path = folder / f"{number:02}.png"
        if number in (3, 12):
            write_video(path.with_suffix(".avi"), numbered(6))
        else:
            noise(40, 50, seed=number).save(path)
    noise(seed=100).save(folder / "05.webp", lossless=True)
    (folder / "13.png").write_bytes(b"not a picture")
    return folder


def words(model: Path, folder: Path, out: Path, *more: object) -> list[str]:
    options = ("--faces", "none", "--every", 1, "--out", out)
    return [str(word) for word in (model, folder, *options, *more)]


def run(*arguments: Any) -> int:
    with pytest.raises(SystemExit) as ended:
        predict.main(words(*arguments))
    return int(ended.value.code or 0)


def stop_after(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends the next run as a signal does, before its result number `count` is printed."""
    results = predict._results

    def few(*arguments: Any) -> Iterator[Any]:
        for number, result in enumerate(results(*arguments)):
            if number == count:
                raise KeyboardInterrupt
            yield result

    monkeypatch.setattr(predict, "_results", few)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_same_command_goes_on(
    workers: int,
    model: Path,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert run(model, folder, whole) == 1  # one file is broken
    printed = capfd.readouterr().out.splitlines()[: FILES + 1]
    for count in (2, 5, 0):  # within a batch, at another place, and at once
        with monkeypatch.context() as patched:
            stop_after(count, patched)
            assert run(model, folder, out, "--workers", workers) == 130
        assert not out.exists()
        error = capfd.readouterr().err
        assert ("out.unfinished keeps the results of" in error) == (count > 0)
    assert run(model, folder, out, "--workers", 2 - workers) == 1
    ended = capfd.readouterr()
    assert "of 15 files are done already" in ended.err
    assert ended.out.splitlines()[0] in printed
    assert contents(out) == contents(whole)
    assert not (tmp_path / "out.unfinished").exists()
    assert not multiprocessing.active_children()


def test_results_in_the_folder_itself_are_not_judged(
    model: Path,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Neither on continuing, nor by another run, whatever subfolders come before and after."""
    (folder / "zoo").mkdir()
    for name in ("a.png", "b.png"):
        noise(seed=7).save(folder / "zoo" / name)
    whole, out, next_one = tmp_path / "whole", folder / "out", folder / "later"
    assert run(model, folder, whole) == 1
    for count in (2, FILES + 2):  # of which the last are in the subfolder
        with monkeypatch.context() as patched:
            stop_after(count, patched)
            assert run(model, folder, out) == 130
        capsys.readouterr()
    assert run(model, folder, out) == 1
    assert "left out: 1 folder (results of a prediction)" in capsys.readouterr().out
    files = contents(whole)["predictions.json"]["files"]
    for other in (out, next_one):
        assert contents(other)["predictions.json"]["files"] == files
        if other == out:
            assert run(model, folder, next_one) == 1
    assert len(list(predict_files([folder], model, faces="none"))) == len(files)
    predict.main(words(model, out, tmp_path / "named"))  # they are if they are asked for
    named = contents(tmp_path / "named")["predictions.json"]["files"]
    assert str(out / "00.mask.png") in [one["file"] for one in named]


def test_a_disk_that_was_full_at_the_start(model: Path, folder: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert run(model, folder, whole) == 1
    for left in (b"", b'{"program": "flax_'):
        unfinished = tmp_path / "out.unfinished"
        unfinished.mkdir()
        (unfinished / "run.json").write_bytes(left)
        assert run(model, folder, out) == 1
        assert contents(out) == contents(whole)
        shutil.rmtree(out)


def test_killed_at_any_moment(model: Path, folder: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert run(model, folder, whole) == 1
    command = [sys.executable, "-m", "flax_unet.predict", *words(model, folder, out)]
    rng, kills, starts = random.Random(0), 0, 0
    lines = tmp_path / "out.unfinished" / "predictions.jsonl"
    while not out.exists():
        starts += 1
        assert starts <= 5
        size = lines.stat().st_size if lines.exists() else 0
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
            assert child.stdout is not None
            for _ in range(rng.randint(1, 3)):
                child.stdout.readline()
            if kills < 4:
                child.send_signal(signal.SIGKILL)
                kills += 1
            else:
                child.stdout.read()
        assert out.exists() or lines.stat().st_size >= size
    assert contents(out) == contents(whole)


def test_a_line_that_is_not_whole_is_done_again(
    model: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert run(model, folder, whole) == 1
    with monkeypatch.context() as patched:
        stop_after(4, patched)
        assert run(model, folder, out) == 130
    lines = tmp_path / "out.unfinished" / "predictions.jsonl"
    content = lines.read_bytes()
    lines.write_bytes(content[:-20])
    assert run(model, folder, out) == 1
    assert contents(out) == contents(whole)


def test_other_peoples_files_are_never_deleted(
    model: Path, folder: Path, tmp_path: Path, fails: Fails, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "out.unfinished"
    mine.mkdir()
    (mine / "run.json").write_text('{"mine": true}')
    message = fails(predict.main, *words(model, folder, tmp_path / "out"))
    assert "holds something else (run.json)" in message
    assert contents_of(mine) == {"run.json": b'{"mine": true}'}
    (mine / "run.json").rename(mine / "predictions.csv")  # a name of ours, but no run of ours
    message = fails(predict.main, *words(model, folder, tmp_path / "out"))
    assert "holds something else (predictions.csv)" in message
    assert contents_of(mine) == {"predictions.csv": b'{"mine": true}'}
    (mine / "predictions.csv").unlink()
    stop_after(0, monkeypatch)
    judged = predict._results

    def meddled(*arguments: Any) -> Iterator[Any]:
        (mine / "thesis.txt").write_text("mine")
        yield from judged(*arguments)

    monkeypatch.setattr(predict, "_results", meddled)
    assert run(model, folder, tmp_path / "out") == 130
    assert contents_of(mine) == {"thesis.txt": b"mine"}


def test_results_that_appear_meanwhile_are_kept(
    model: Path, folder: Path, tmp_path: Path, fails: Fails, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, judged = tmp_path / "out", predict._results

    def meddled(*arguments: Any) -> Iterator[Any]:
        out.mkdir()
        (out / "thesis.txt").write_text("mine")
        yield from judged(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(predict, "_results", meddled)
        message = fails(predict.main, *words(model, folder, out))
    assert f"{out} exists already" in message
    assert "keeps the results of 15 files" in message
    assert contents_of(out) == {"thesis.txt": b"mine"}
    (out / "thesis.txt").unlink()
    out.rmdir()
    assert run(model, folder, out) == 1
    assert len(contents(out)["predictions.json"]["files"]) == FILES + 1


def test_what_a_killed_run_left_of_no_file_is_removed(
    model: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert run(model, folder, whole) == 1
    with monkeypatch.context() as patched:
        stop_after(1, patched)
        assert run(model, folder, out) == 130
    kept = tmp_path / "out.unfinished"
    (kept / "predictions.jsonl").write_bytes(b"")
    (kept / "other.mask.png").write_bytes(b"of another command")
    assert run(model, folder, out) == 1
    assert contents(out) == contents(whole)


@pytest.fixture
def unfinished(model: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where results go that are not complete: four files are done."""
    with monkeypatch.context() as patched:
        stop_after(4, patched)
        assert run(model, folder, tmp_path / "out") == 130
    return tmp_path / "out.unfinished"


def test_other_commands_do_not_go_on(
    model: Path, folder: Path, unfinished: Path, tmp_path: Path, fails: Fails
) -> None:
    before = contents_of(unfinished)
    command = words(model, folder, tmp_path / "out")
    message = fails(predict.main, *command, "--threshold", 0.3)
    assert (
        f"{unfinished} holds the unfinished results of another command, whose threshold" in message
    )
    assert "was 0.5, not 0.3" in message
    assert contents_of(unfinished) == before
    (folder / "00.png").rename(folder / "000.png")
    message = fails(predict.main, *command)
    assert "they have" in message
    assert "goes on" not in message
    assert contents_of(unfinished) == before


def contents_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_damaged_lines(
    model: Path, folder: Path, unfinished: Path, tmp_path: Path, fails: Fails
) -> None:
    lines = unfinished / "predictions.jsonl"
    lines.write_bytes(b"{}\n" + lines.read_bytes())
    message = fails(predict.main, *words(model, folder, tmp_path / "out"))
    assert f"{lines}, line 1, is damaged" in message


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such locks")
def test_two_runs_in_one_directory(
    model: Path, folder: Path, unfinished: Path, tmp_path: Path, fails: Fails
) -> None:
    """Of one machine or of several: NFS passes on the lock of a file that is open for writing."""
    import fcntl

    before = contents_of(unfinished)
    with (unfinished / "run.json").open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        message = fails(predict.main, *words(model, folder, tmp_path / "out"))
    assert f"{unfinished} is being written by another process" in message
    assert contents_of(unfinished) == before


def test_a_directory_of_others_is_left_alone(
    model: Path, folder: Path, tmp_path: Path, fails: Fails
) -> None:
    mine = tmp_path / "out.unfinished"
    mine.mkdir()
    (mine / "thesis.txt").write_text("mine")
    message = fails(predict.main, *words(model, folder, tmp_path / "out"))
    assert f"{mine} is where unfinished results go, and holds something else (thesis" in message
    assert contents_of(mine) == {"thesis.txt": b"mine"}
    (mine / "thesis.txt").rename(mine / "thesis.mask.png")
    message = fails(predict.main, *words(model, folder, tmp_path / "out"))
    assert "holds something else (thesis.mask.png)" in message
    assert contents_of(mine) == {"thesis.mask.png": b"mine"}


def test_parts_are_of_the_same_files(tmp_path: Path) -> None:
    """Whatever the files are named: in FaceForensics++ all methods have the same names."""

    def archive(folder: str, *names: str) -> Path:
        for name in names:
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16)).save(tmp_path / folder / name)
        return tmp_path / folder

    names = ("0.png", "1.png", "2.png")
    one = archive("one", *names)
    expected = fingerprint([*items([one])])
    assert expected["files"] == 3
    assert fingerprint([*items([one])]) == expected
    others = archive("two", *names), archive("one", "sub/3.png"), tmp_path / "one/0.png"
    for other in others:
        assert fingerprint([*items([other])]) != expected
    # A part does not go on with other files.
    run = {"archive": expected, "code_sha256": "a"}
    (mine := tmp_path / "mine").mkdir()
    Journal(mine, run).add({"file": "0.png", "status": "failed"})
    with pytest.raises(InputError, match=r"mine holds .* of a part of other files\. Put the files"):
        Journal(mine, {**run, "archive": fingerprint([])})


def test_nothing_stays_where_every_file_fails(model: Path, tmp_path: Path, fails: Fails) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    message = fails(predict.main, model, tmp_path / "a.png", "--out", tmp_path / "out")
    assert "every file failed" in message
    assert {path.name for path in tmp_path.iterdir()} <= {"a.png", "cache"}


def test_shards_have_the_results_of_the_whole(
    model: Path,
    folder: Path,
    tmp_path: Path,
    fails: Fails,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = tmp_path / "whole"
    assert run(model, folder, whole) == 1
    expected, found = contents(whole), {}
    entries: list[Any] = []
    for part in (1, 2, 3):
        out = tmp_path / str(part)
        with contextlib.suppress(SystemExit):  # of the shard with the broken file
            predict.main(words(model, folder, out, "--shard", f"{part}/3"))
        of_shard = contents(out)
        entries += of_shard.pop("predictions.json")["files"]
        assert not found.keys() & of_shard.keys() - TABLES
        found |= of_shard
    by_name = {entry["file"]: entry for entry in entries}
    assert len(by_name) == len(entries) == FILES + 1
    assert [by_name[entry["file"]] for entry in expected["predictions.json"]["files"]] == (
        expected["predictions.json"]["files"]
    )
    assert found.keys() == expected.keys() - {"predictions.json"}
    pictures = [name for name in found if name.endswith((".png", ".mp4"))]
    assert all(found[name] == expected[name] for name in pictures)
    joined, parts = tmp_path / "joined", [tmp_path / str(part) for part in (1, 2, 3)]
    join.main([*map(str, parts), "--out", str(joined)])
    together = contents(joined)
    assert together["predictions.json"] == {**expected["predictions.json"], "files": entries}
    assert together["predictions.json"]["shard"] == "1/1"
    for name in ("predictions.jsonl", "predictions.csv"):
        assert sorted(together[name].splitlines()) == sorted(expected[name].splitlines())
    assert {name: together[name] for name in pictures} == {name: found[name] for name in pictures}
    assert together.keys() == expected.keys()
    assert together["summary.csv"] == expected["summary.csv"]
    assert f"<h1>{FILES + 1} files: " in together["report.html"].decode()
    # Parts that do not belong together.
    capsys.readouterr()
    out = tmp_path / "out"

    def refused(*given: Path, out: Path = out) -> str:
        return fails(join.main, *given, "--out", out)

    copied = shutil.copytree(parts[1], tmp_path / "copy")
    assert f"{copied} and {parts[1]} are both part 2/3; name each part once" in refused(
        *parts, copied
    )
    assert "parts are missing: 2/3, 3/3; name" in refused(parts[0])
    assert "lies in" in refused(*parts, out=parts[0] / "all")
    text = (copied / "predictions.json").read_text()
    for changed, message in (
        (text.replace('"threshold": 0.5,', '"threshold": 0.6,'), "has another options than"),
        (text.replace('"paths_sha256": "', '"paths_sha256": "0'), "has another archive than"),
        (text.replace('"weights_sha256": "', '"weights_sha256": "0'), "another weights_sha256 t"),
        (text.replace('"shard": "2/3"', '"shard": "2/4"'), "name the parts of one archive"),
        (text.replace('"shard": "2/3"', '"shard": 2'), "predictions.json is damaged"),
        (text.replace('"options"', '"others"'), "predictions.json is damaged"),
        ("{}", "was written by another version"),
        (text.replace('"meaning": {', '"meaning": '), "predictions.json is damaged"),
    ):
        assert changed != text
        (copied / "predictions.json").write_text(changed)
        assert message in refused(parts[0], copied, parts[2])
    (copied / "predictions.json").write_text(text)
    lines = (copied / "predictions.jsonl").read_text().splitlines(keepends=True)
    for damaged, message in (
        (lines[:-1], f"has {len(lines) - 1} lines for {len(lines)} files; judge this part again"),
        (["null\n", *lines[1:]], "a line of predictions.jsonl of"),
        (["{\n", *lines[1:]], "predictions.jsonl, line 1, is damaged"),
        # Its picture would be copied into the report of whoever joins.
        *(
            ([json.dumps({**json.loads(lines[0]), "mask": other}) + "\n", *lines[1:]], "is damaged")
            for other in (str(tmp_path / "a.mask.png"), "../a.mask.png", "private.png")
        ),
    ):
        (copied / "predictions.jsonl").write_text("".join(damaged))
        assert message in refused(parts[0], copied, parts[2])
    late = tmp_path / "late.unfinished"
    copied.rename(late)
    (late / "predictions.csv").unlink()
    assert "its run is not finished" in refused(late)
    assert "its run is not finished" in refused(tmp_path / "late")
    assert "does not hold complete results; name directories" in refused(folder)
    assert f"{joined} exists already" in refused(*parts, out=joined)
    assert not out.exists()


def test_a_shard_in_which_every_file_fails(model: Path, tmp_path: Path) -> None:
    """Its results are written, or the parts could not be joined."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").write_bytes(b"no picture")
    outs = [tmp_path / "1", tmp_path / "2"]
    for out in outs:
        # Lots of one, so that each part has a file.
        words = [model, tmp_path / "a.png", tmp_path / "b.png", "--batch-size", 1, "--out", out]
        with pytest.raises(SystemExit) as ended:
            predict.main([*map(str, words), "--shard", f"{out.name}/2"])
        assert ended.value.code == 1
    join.main([*map(str, reversed(outs)), "--out", str(tmp_path / "all")])
    files = contents(tmp_path / "all")["predictions.json"]["files"]
    assert [Path(entry["file"]).name for entry in files] == ["a.png", "b.png"]


def test_results_of_the_working_directory_are_replaced(
    model: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert run(model, folder, whole) == run(model, folder, out) == 1
    monkeypatch.chdir(out)
    assert run(model, folder, ".", "--overwrite") == 1
    assert contents(out) == contents(whole)


def test_a_shard_without_files(model: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict.main(words(model, folder, out, "--shard", "99/99"))
    assert contents(out)["predictions.json"]["files"] == []


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "1/0", "a/b", "-1/2", "1/2/3"])
def test_bad_shards(text: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        predict.main([str(model), "a", f"--shard={text}"])
    assert ended.value.code == 2
    assert f"{text!r} is not a part of the work, such as 2/8" in capsys.readouterr().err
