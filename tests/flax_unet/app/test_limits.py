"""What a visitor may send in an hour."""

import pytest

from flax_unet.app.limits import Allowance, Refused


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_files_an_hour() -> None:
    clock = Clock()
    allowance = Allowance(2, 100, clock)
    for clock.now in (0.0, 600.0):
        allowance.begin("anna")
    clock.now = 1200.0
    with pytest.raises(Refused, match=r"2 files an hour .* in 40 minutes"):
        allowance.begin("anna")
    allowance.begin("berta")
    clock.now = 3601.0  # the first is an hour old
    allowance.begin("anna")
    with pytest.raises(Refused, match=r"in 10 minutes"):
        allowance.begin("anna")


def test_bytes_an_hour() -> None:
    """Those of an upload that was broken off count, too."""
    clock = Clock()
    allowance = Allowance(10, 100, clock)
    allowance.add("anna", allowance.begin("anna"), 60)
    second = allowance.begin("anna")
    allowance.add("anna", second, 40)
    with pytest.raises(Refused, match="an hour from each visitor"):
        allowance.add("anna", second, 1)
    allowance.add("berta", allowance.begin("berta"), 100)
    clock.now = 3601.0
    allowance.add("anna", allowance.begin("anna"), 100)


def test_visitors_are_forgotten() -> None:
    clock = Clock()
    allowance = Allowance(1, 1, clock)
    for number in range(100):
        allowance.begin(str(number))
    clock.now = 3601.0
    allowance.begin("anna")
    assert list(allowance._sent) == ["anna"]
