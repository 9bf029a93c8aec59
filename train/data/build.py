"""Prepares a TFDS builder without its chatter; this project's own bar shows the progress."""

import contextlib
import io

import tensorflow_datasets as tfds


def prepare(builder: tfds.core.GeneratorBasedBuilder) -> None:
    """Generates the data set into the builder's directory."""
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare()
