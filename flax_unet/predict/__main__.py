"""Detects forged faces in pictures and videos and marks the manipulated pixels."""

import argparse
import contextlib
import io
import itertools
import json
import sys
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from tqdm import tqdm

from flax_unet.checkpoint.provenance import file_sha256, made_by
from flax_unet.media.discover import LeftOut, items
from flax_unet.media.faces import FaceFinder, OpenCV
from flax_unet.predict.cluster import described, judged_on_cluster
from flax_unet.predict.findings import Findings
from flax_unet.predict.journal import journal
from flax_unet.predict.options import check, named_paths, parser, sampling_of
from flax_unet.predict.pipeline import Inspected, InspectedFrame, Options, inspect
from flax_unet.predict.plan import WHOLE, Plan, fingerprint, left, plan
from flax_unet.predict.predictions import (
    ARCHIVE,
    JSON,
    LINES,
    SUMMARY,
    TABLE,
    WEIGHTS,
    are_results,
    head_of,
    may_be_replaced,
    options_of,
    write_predictions,
    write_summary,
)
from flax_unet.predict.report import REPORT, write_report
from flax_unet.predict.results import FileResult, Json
from flax_unet.predict.summary import Summary, outcome
from flax_unet.predict.work import Network, Setup
from flax_unet.predict.workers import Search, judged_in_processes
from flax_unet.predict.writer import file_results
from flax_unet.utils.cache import keep_compiled
from flax_unet.utils.cluster import connected
from flax_unet.utils.errors import InputError, command
from flax_unet.utils.filenames import shown
from flax_unet.utils.processes import processors

if TYPE_CHECKING:
    from flax_unet.detector import Detector

_PICTURES_EACH = 32  # are worth a process's start, as one video is


def _with_bar(inspected: Iterable[Inspected]) -> Generator[Inspected]:
    """Passes everything on and counts the frames by a progress bar."""
    number = None
    with tqdm(unit="frame", disable=None) as bar:
        for one in inspected:
            if one.number != number:
                number = one.number
                expected = one.expected if isinstance(one, InspectedFrame) else None
                bar.total = None if expected is None else bar.n + expected
                bar.set_postfix_str(shown(one.item.path.name)[-30:], refresh=False)
            bar.update(isinstance(one, InspectedFrame))
            yield one


def _workers_for(plan: Plan) -> int:
    """How many processes are worth their start; of few files, none.

    Of more, one is worth it even if there is one processor: a file that kills it fails alone.
    """
    videos = sum(lot[0].item.kind == "video" for lot in plan)
    pictures = sum(map(len, plan)) - videos
    worth = videos + pictures // _PICTURES_EACH
    return min(worth, processors()) if worth > 1 else 0


def _network(args: argparse.Namespace) -> Network:
    return Network(
        args.checkpoint, args.dtype, args.threshold, args.mask_threshold, args.save_logits
    )


def _asked(args: argparse.Namespace, detector: "Detector", archive: Json) -> Json:
    """What results depend on besides `options_of` and versions."""
    from flax_unet.checkpoint import store

    return {
        WEIGHTS: store.fingerprint(args.checkpoint)[WEIGHTS],
        "face_model": None if args.face_model is None else file_sha256(args.face_model),
        "max_megapixels": args.max_megapixels,
        "batch_size": detector.batch_size,
        "overlays": not args.no_overlays,
        ARCHIVE: archive,
    }


def _run(
    args: argparse.Namespace, detector: "Detector", options: Options, asked: Json
) -> dict[str, Any]:
    """What may not change while a run is unfinished."""
    made = made_by()
    return {
        **options_of(detector, options),
        "shard": str(args.shard),
        "code_sha256": made["code_sha256"],
        "versions": made["versions"],
        **asked,
        ARCHIVE: None if args.shard == WHOLE else asked[ARCHIVE],  # files may be added to the whole
    }


def _results(
    args: argparse.Namespace,
    files: Plan,
    detector: "Detector",
    options: Options,
    search: Search | None,
    directory: Path | None,
) -> Generator[FileResult]:
    """The results of files, with a progress bar."""
    overlays = not args.no_overlays
    workers = _workers_for(files) if args.workers is None else args.workers
    if args.ray is not None or (workers and files):
        setup = Setup(
            size=detector.size,
            batch_size=detector.batch_size,
            threshold=detector.threshold,
            calibration=detector.calibration,
            mode=args.faces,
            face_model=args.face_model,
            sampling=options.sampling,
            picture_pixels=options.picture_pixels,
            more_pixels=options.more_pixels,
            threads=options.threads,
            directory=directory,
            overlays=overlays,
        )
        if args.ray is not None:
            found = judged_on_cluster(files, setup, _network(args), args.workers)
        else:
            found = judged_in_processes(detector, files, setup, min(workers, len(files)), search)
        with contextlib.closing(found):
            total = sum(map(len, files))
            yield from tqdm(found, total=total, unit="file", disable=None)
        return
    given = ([file.item for file in lot] for lot in files)
    inspected = _with_bar(inspect(detector, given, options))
    with contextlib.closing(inspected):
        stems = (file.stem for lot in files for file in lot)
        yield from file_results(inspected, directory, overlays=overlays, stems=stems)


def _print_summary(summary: Summary, left_out: LeftOut, file: TextIO | None) -> None:
    """Prints what became of the files, unless there is one only."""
    if summary.files + summary.left_out > 1:
        print(summary, file=file)
    if summary.left_out:
        print(f"left out: {left_out}", file=file)


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    args = parser(__doc__).parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # it may lack letters of a file's name
        sys.stdout.reconfigure(errors="backslashreplace")
    check(args)
    from flax_unet.face_network import network_for  # needs JAX, which takes seconds to import

    keep_compiled()
    with contextlib.ExitStack() as stack:
        if args.ray is None:
            detector = _network(args).load(args.devices, args.batch_size)
        else:
            stack.enter_context(connected(args.ray, args.workers))
            detector = described(_network(args), args.batch_size)
        finder = search = None
        if args.faces != "none":
            network = network_for(detector.devices[0], args.face_model)
            finder = FaceFinder(network)
            search = None if isinstance(network, OpenCV) else network.all_of
        paths, left_out = named_paths(args.path), LeftOut()
        found = list(items(paths, left_out, are_results))
        sampling = sampling_of(args, found)
        pixels = args.max_megapixels * 10**6
        # What FFmpeg puts in the place of damage depends on its threads: these must not depend on
        # the number of workers.
        threads = 1 if len(found) > 1 else 0
        more = "raise --max-megapixels"
        options = Options(args.faces, finder, sampling, pixels, more, threads=threads)
        files = plan(found, detector.batch_size, args.shard)
        outcomes: Counter[str] = Counter()
        kept, asked, total = None, {}, sum(map(len, files))
        if args.out is not None:
            asked = _asked(args, detector, fingerprint(found))
            run = _run(args, detector, options, asked)
            kept = stack.enter_context(journal(args.out, run, may_be_replaced))
            files, outcomes = left(files, kept.names), kept.outcomes.copy()
            if kept.names:
                print(f"{len(kept.names):,} of {total:,} files are done already", file=sys.stderr)
        directory = None if kept is None else kept.directory
        results = _results(args, files, detector, options, search, directory)
        stack.enter_context(contextlib.closing(results))
        # Of a lot that is done in part, all is judged again.
        again = sum(map(len, files)) - (total - outcomes.total())
        for result in itertools.islice(results, again, None):
            entry = result.to_json()
            if kept is not None:
                kept.add(entry)
            outcomes[outcome(entry)] += 1
            with tqdm.external_write_mode():
                print(json.dumps(entry) if args.json else result, flush=True)
        summary = Summary.of(outcomes, left_out)
        _print_summary(summary, left_out, sys.stderr if args.json else None)
        if not files and not total:
            print(f"note: part {args.shard} of the work has no file", file=sys.stderr)
        elif outcomes["failed"] == outcomes.total() and args.shard == WHOLE:
            if kept is not None:
                kept.discard()
            raise InputError("every file failed; the reasons are above")
        if kept is not None:
            head = head_of(args.checkpoint, detector, options, args.shard, asked)
            others = left_out.to_json()
            write_predictions(kept.directory, kept.entries(), head, summary.to_json(), others)
            of_all = Findings.of(kept.entries(), detector.threshold)
            write_report(kept.directory, of_all, head=head, summary=summary, left_out=others)
            write_summary(kept.directory, of_all, summary)
    if args.out is not None and not args.json:
        kinds = ["masks", *["overlays"] * (not args.no_overlays), *["logits"] * args.save_logits]
        tables = (JSON, LINES, TABLE, SUMMARY, REPORT)
        print(f"{shown(str(args.out))}: {', '.join([*tables, *kinds])}")
    print(f"note: {detector.worth.sentence}", file=sys.stderr)
    if outcomes["failed"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
