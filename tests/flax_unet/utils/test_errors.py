"""How commands end: by signals, wherever they arrive, and by messages."""

import signal
import threading
import weakref

import pytest

from flax_unet.utils.errors import InputError, command, ending_signals


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_signal_in_a_callback(name: str, status: int) -> None:
    """Python drops what a callback raises, such as JAX's at each garbage collection."""

    class Object:
        pass

    @command
    def main() -> None:
        thing = Object()
        kept = weakref.ref(thing, lambda _: signal.raise_signal(signal.Signals[name]))
        del thing
        assert kept() is None
        threading.Event().wait(60)

    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup may have the tests ignore it
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, *ending_signals())}
    handlers[signal.SIGHUP] = before
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(SystemExit) as stopped:
            main()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert stopped.value.code == status


def test_names_in_messages_do_not_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    @command
    def main() -> None:
        raise InputError("\x1b[2Ja\r.pth is missing. These are there:\n  b.pth\n  \x9b31mü.pth")

    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    expected = "error: \\x1b[2Ja\\r.pth is missing. These are there:\n  b.pth\n  \\x9b31mü.pth\n"
    assert capsys.readouterr().err == expected
