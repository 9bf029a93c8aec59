"""Processes: as many as there are processors to use."""

import os
from pathlib import Path

import pytest

from flax_unet.utils import processes


def test_processors_that_a_container_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Less time than all processors have, by a limit of the group or of one that it is in."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {*range(8)}, raising=False)
    monkeypatch.setattr(processes, "_GROUP", tmp_path / "mine")
    monkeypatch.setattr(processes, "_GROUPS", tmp_path / "groups")
    assert processes.processors() == 8  # neither file is there
    (tmp_path / "groups/pod/container").mkdir(parents=True)
    (tmp_path / "mine").write_text("9:cpu:/other\n0::/pod/container\n")
    assert processes.processors() == 8
    for of_container, of_pod, expected in (
        ("max 100000", "max 100000", 8),
        ("200000 100000", "max 100000", 2),
        ("400000 100000", "150000 50000", 3),
        ("max 100000", "150000 100000", 2),
        ("5000 100000", "max 100000", 1),
        ("0 100000", "max 100000", 1),
        ("1600000 100000", "max 100000", 8),
        ("100000", "", 8),
    ):
        (tmp_path / "groups/pod/container/cpu.max").write_text(of_container)
        (tmp_path / "groups/pod/cpu.max").write_text(of_pod)
        assert processes.processors() == expected
