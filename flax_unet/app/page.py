"""Builds and serves the page with Gradio."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

# Set before Gradio is imported: it and its imports would call home, and use a proxy for localhost.
os.environ.update(
    GRADIO_ANALYTICS_ENABLED="False",
    GRADIO_RUN_HISTORY="False",
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_OFFLINE="1",
    no_proxy="*",
)

import gradio as gr
from gradio.themes import Default
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from flax_unet.app import html
from flax_unet.app.judge import FEW_FRAMES, Judge, Report
from flax_unet.checkpoint.worth import Worth
from flax_unet.media.faces import Mode
from flax_unet.media.videos import Sampling
from flax_unet.utils.errors import InputError

_EXAMPLES, _CSS = Path(__file__).parent / "examples", Path(__file__).parent / "page.css"
_FACES: list[tuple[str, Mode]] = [
    ("find them; the whole picture if one fills it", "auto"),
    ("always cut them out", "crop"),
    ("none: the whole picture is one face", "none"),
]
_FRAMES = [("N frames, evenly spaced", "frames"), ("every N-th frame", "every")]
_SLIDE = "value => document.documentElement.style.setProperty('--heat', value / 100)"
_KEPT, _LOOKED = 6 * 60 * 60, 10 * 60  # seconds: age of uploads that are deleted, and between looks
_LOOPBACK = ["127.0.0.1", "localhost"]
_WAITING = 20  # files at most in the queue
_FONT, _MONO = ("system-ui", "sans-serif"), ("ui-monospace", "monospace")
# Gradio's own fonts are fetched from Google; these are installed.
_THEME = Default(primary_hue="blue", font=_FONT, font_mono=_MONO)


class Place(NamedTuple):
    """Where the page is."""

    host: str
    port: int
    root_path: str | None = None  # behind a proxy: a path, or a whole address
    allowed_hosts: Sequence[str] = ()  # that requests may name, besides this machine's own

    @property
    def guards(self) -> list[Middleware]:
        """What refuses requests by another name, unless the page is open to the network.

        Another site may point its own domain at this machine (DNS rebinding).
        """
        if self.host not in _LOOPBACK and not self.allowed_hosts:
            return []
        hosts = [*_LOOPBACK, self.host, *self.allowed_hosts]
        return [Middleware(TrustedHostMiddleware, allowed_hosts=hosts)]


@contextlib.contextmanager
def serve(judge: Judge, folder: Path, place: Place, max_upload: int) -> Iterator[str]:
    """Serves the page until the block ends; files have `max_upload` bytes at most.

    `folder` is an empty directory for results, and Gradio's for temporary files.

    Yields:
        The page's address on this machine.

    Raises:
        InputError: listening on the address fails.
    """
    page = build(judge, folder)
    try:
        try:
            page.launch(
                server_name=place.host,
                server_port=place.port,
                root_path=place.root_path,
                max_file_size=max_upload,
                share=False,
                prevent_thread_lock=True,
                quiet=True,
                ssr_mode=False,
                app_kwargs={"middleware": place.guards},
                footer_links=[],
                theme=_THEME,
                css=_CSS.read_text(),
            )
        except (OSError, OverflowError) as error:
            raise InputError(
                f"cannot listen on {place.host}:{place.port}; name another --host or --port"
            ) from error
        yield str(page.local_url)
    finally:
        page.close(verbose=False)


def build(judge: Judge, folder: Path) -> gr.Blocks:
    """The page; its results are kept below `folder`."""
    working: set[str | None] = set()  # sessions that wait for a result

    def run(
        request: gr.Request,
        upload: str | None,
        mode: Mode,
        way: str,
        count: int | None,
        before: Path | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple[Any, ...]:
        if upload is None or not count:
            raise gr.Error("Drop a file first, and set N.", print_exception=False)

        def check_wanted() -> None:
            if request.session_hash not in working:
                raise gr.Error("The page was closed.", print_exception=False)

        def show_progress(done: int, total: int | None) -> None:
            progress((done, total), desc="Judging", unit="frames")

        directory = Path(tempfile.mkdtemp(dir=folder))
        working.add(request.session_hash)
        try:
            sampling = Sampling(**{way: count})
            report = judge(Path(upload), directory, mode, sampling, show_progress, check_wanted)
        except BaseException as error:
            _delete(directory)
            if isinstance(error, InputError):
                raise gr.Error(str(error), print_exception=False) from error
            raise
        finally:
            working.discard(request.session_hash)
        _delete(before)
        return directory, *_shown(report)

    def left(request: gr.Request) -> None:
        working.discard(request.session_hash)

    examples = sorted(str(path) for path in _EXAMPLES.glob("*.*"))
    with gr.Blocks(title="U-YNet: real or forged?", delete_cache=(_LOOKED, _KEPT)) as page:
        kept = gr.State(None, delete_callback=_delete)
        gr.HTML(
            "<h1>Real or forged?</h1><p>U-YNet judges faces in pictures and videos, and marks the "
            f"manipulated pixels. Checkpoint: <b>{escape(judge.checkpoint.name)}</b></p>"
            f"{html.worth(Worth.of_checkpoint(judge.checkpoint).sentence)}",
            elem_classes="head",
        )
        with gr.Row():
            with gr.Column(scale=2, min_width=280):
                file = gr.File(label="Picture or video", height=160)  # others are refused
                offered = gr.Dataset(
                    label="Examples",
                    components=[gr.Image(visible=False)],
                    samples=[[path] for path in examples],
                    type="index",
                    visible=bool(examples),
                )
                with gr.Accordion("Options", open=False):
                    mode = gr.Radio(_FACES, value="auto", label="Faces")
                    way = gr.Radio(_FRAMES, value="frames", label="Of a video, judge")
                    count = gr.Number(FEW_FRAMES.frames, label="N", precision=0, minimum=1)
                    again = gr.Button("Judge again")
                archive = gr.DownloadButton(
                    "Download all results", elem_id="archive", visible=False
                )
            with gr.Column(scale=5):
                verdict = gr.HTML(html.WELCOME, elem_id="verdict")
                with gr.Row(visible=False) as found:
                    with gr.Column(scale=5, min_width=320):
                        picture = gr.HTML(elem_id="picture")
                        opacity = gr.Slider(0, 100, 50, step=1, label="Heat map: % opaque")
                        video = gr.Video(show_label=False, elem_id="video", interactive=False)
                        timeline = gr.HTML(elem_id="timeline")
                    with gr.Column(scale=3, min_width=200):
                        faces = gr.HTML(elem_id="faces")
        cleared = [verdict, found, archive]
        private: dict[str, Any] = {"api_visibility": "private"}
        at_once = private | {"queue": False, "show_progress": "hidden"}
        job = private | {"fn": run, "concurrency_limit": 1, "concurrency_id": "network"}
        job["inputs"] = [file, mode, way, count, kept]
        job["outputs"] = [kept, *cleared, picture, opacity, faces, video, timeline]
        job["show_progress_on"] = verdict
        for event in (file.upload, again.click):
            event(_announce, file, cleared, **at_once).then(**job)
        opacity.input(None, opacity, None, js=_SLIDE)  # in the browser only
        chosen = offered.click(lambda index: examples[index], offered, file, **at_once)
        chosen.then(_announce, file, cleared, **at_once).then(**job)
        page.unload(left)
    return page.queue(max_size=_WAITING, api_open=False)


def _announce(upload: str | None) -> tuple[Any, ...]:
    """Clears the page of the file before."""
    name = "" if upload is None else Path(upload).name
    return html.waiting(name), gr.Column(visible=False), gr.DownloadButton(visible=False)


def _shown(report: Report) -> tuple[Any, ...]:
    """Values of the page's parts, those first that `_announce` cleared."""
    any_frame = report.frame is not None
    film = report.files.get("overlay") if report.result.kind == "video" else None
    return (
        html.verdict(report),
        gr.Column(visible=any_frame),
        gr.DownloadButton(value=report.files["archive"], visible=any_frame),
        html.picture(report),
        gr.Slider(visible=html.has_heat(report)),
        html.faces(report),
        gr.Video(film, visible=film is not None),
        html.timeline(report),
    )


def _delete(directory: Path | None) -> None:
    """Deletes the results of a file."""
    if directory is not None:
        shutil.rmtree(directory, ignore_errors=True)
