"""Reads pickles without running them: what they would build becomes inert stand-ins.

The reader imports nothing and calls nothing that a pickle names. It makes numbers, text, lists,
dictionaries and sets; the few functions in `PLAIN`, and those that the caller gives, are its own.
Any other object is an `Inert`, which only keeps what the pickle says of it. So names matter for one
thing alone: a pickle that would call a function, or names a module that runs code, is refused.
"""

import pickletools
import re
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Builders = Mapping[str, Callable[..., Any]]
"""What to make instead of what a pickle calls, by the full name of that."""

_MOST_BYTES = 2**26  # of one pickle; the published files have under 20 kB
_MOST_STEPS = 4_000_000  # instructions of one pickle, a few seconds
_LONGEST_NAME = 1000  # characters
_ENTRY_BYTES = 32  # of a list, set or dictionary, about


class RefusedError(Exception):
    """The pickle would run code. The message is the name of what it would call."""


class DamagedError(ValueError):
    """The pickle is not valid, or too long. The message is the reason, or empty."""


class Global(NamedTuple):
    """A class, function or value that the pickle refers to by name."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Inert(dict[Any, Any]):
    """The stand-in of an object: its class, its arguments, its state; its items, if it has any."""

    def __init__(self, name: str, args: Any) -> None:
        super().__init__()
        self.name, self.args, self.state = name, args, None

    def __hash__(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


class Ordered(dict[Any, Any]):
    """The stand-in of an OrderedDict, which may have attributes: `_metadata` of a state dict."""

    state: Any = None


def type_name(value: Any) -> str:
    """The class of what a pickle held, as text."""
    if isinstance(value, Ordered):
        return "dict"
    return value.name if isinstance(value, Inert) else type(value).__name__


def _ordered(items: Any = ()) -> Ordered:
    pairs = items.items() if isinstance(items, dict) else items
    return Ordered((_key(key), value) for key, value in pairs)


PLAIN: Builders = {
    "collections.OrderedDict": _ordered,
    "_codecs.encode": lambda text, *_: text.encode("latin-1"),  # how protocol 2 writes bytes
    "builtins.set": lambda items=(): {_key(item) for item in items},
    "builtins.bytearray": lambda *_: b"",
    "torch.Size": lambda sizes=(): tuple(sizes) if isinstance(sizes, list | tuple) else (),
}
# Modules whose functions or classes run code, start processes, or reach files and the network;
# packages with all that is below them.
_RUNS_CODE = re.compile(
    r"os|posix|nt|sys|subprocess|_posixsubprocess|imp|runpy|pkgutil|zipimport|code|codeop|pty"
    r"|shutil|commands|popen2|_?socket|_ctypes|_?thread|threading|signal|marshal|_?pickle|cPickle"
    r"|types|_?operator|inspect|gc|_?io|tempfile|urllib2|httplib|ftplib|smtplib|telnetlib|builtins"
    r"|webbrowser|antigravity|bdb|pdb|timeit|trace|c?[Pp]rofile|pydoc|doctest|linecache|sqlite3"
    r"|(importlib|ctypes|multiprocessing|asyncio|concurrent|dill|cloudpickle|urllib|http|requests"
    r"|pip|ensurepip|venv|sysconfig|distutils|setuptools|IPython)(\..*)?"
)
_HARMLESS = {"types.SimpleNamespace", "_io.BytesIO", "_io.StringIO"}  # what else these have
_CLASS = re.compile(r"_*[A-Z]")  # by the convention of Python's style guide
# Functions, and classes in lower case, by which libraries pickle plain data.
_BUILTINS = (
    r"builtins\.(set|frozenset|list|dict|tuple|bytes|bytearray|complex|slice|range|object|int|float"
    r"|str|bool)"
)
_RECONSTRUCTS = re.compile(
    _BUILTINS + r"|collections\.(deque|defaultdict)|datetime\.\w+|functools\.partial"
    r"|copyreg\._\w+|re\._compile|logging\.getLogger|zoneinfo\.ZoneInfo\._unpickle"
    r"|numpy\.(dtype|ndarray|bool_?|u?int\d*|float\d+|complex\d+)"
    r"|numpy\.(\w+\.)*(scalar|_\w+|__\w+_ctor)"
    r"|torch\.(device|dtype|layout|Size|_utils\._\w+|storage\._\w+|_tensor\._\w+)"
    r"|torch\.serialization\._get_layout|(\w+\.)+(_unpickle|_reconstruct|__pyx_unpickle|_new_)\w*"
)


def _global(module: Any, name: Any) -> Global:
    if type(module) is not str or type(name) is not str or not (module + name).isprintable():
        raise DamagedError("a name that is not text")
    if len(module) + len(name) > _LONGEST_NAME:  # each object of a class has a copy
        raise DamagedError("a name that is too long")
    # Protocols up to 2 have the names of Python 2.
    found = Global(*NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name)))
    # A name may have steps of its own: `collections`, `abc.sys.exit`.
    runs_code = any(map(_RUNS_CODE.fullmatch, (found.module, *found.name.split(".")[:-1])))
    is_plain = re.fullmatch(_BUILTINS + r"|builtins\.(type|[A-Z]\w+)", str(found))
    if runs_code and not is_plain and str(found) not in _HARMLESS:
        raise RefusedError(f"{module}.{name}")
    return found


def _made(what: Any, args: Any, builders: Builders, *, called: bool) -> Any:
    """The stand-in for an object of a class, or for what a call would give."""
    if not isinstance(what, Global):
        raise RefusedError(f"a call of a {type_name(what)} that it makes itself")
    name = str(what)
    if (build := builders.get(name)) is not None:
        return build(*args)
    is_class = not called or _CLASS.match(what.name.rpartition(".")[2])
    if not is_class and not _RECONSTRUCTS.fullmatch(name):
        raise RefusedError(name)
    return Inert(name, args)


def _copied(args: Any) -> int:
    """How many bytes a function can copy of its arguments, about."""
    return sum(
        len(of) * (1 if isinstance(of, str | bytes) else _ENTRY_BYTES)
        for of in (args, *args)
        if isinstance(of, str | bytes | list | tuple | dict | set | frozenset)
    )


def _key(key: Any) -> Any:
    """A key of a dictionary or set, or a token where its hash could take for ever."""
    if key is None or type(key) in (str, bytes, bool, float):
        return key
    if type(key) is int and key.bit_length() < 64:
        return key
    return object()


_LITERALS = frozenset(  # instructions whose argument is a value
    opcode.name
    for opcode in pickletools.opcodes
    if opcode.arg and not opcode.stack_before
    if opcode.stack_after and pickletools.anyobject not in opcode.stack_after
)
_FRESH: dict[str, Callable[[], Any]] = {
    **dict.fromkeys(("EMPTY_LIST", "LIST"), list),
    **dict.fromkeys(("EMPTY_DICT", "DICT"), dict),
    **{"EMPTY_SET": set, "EMPTY_TUPLE": tuple, "NONE": lambda: None},
    **{"NEWTRUE": lambda: True, "NEWFALSE": lambda: False},
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def load(stream: Any, builders: Builders, persistent: Callable[[Any], Any] | None = None) -> Any:
    """The content of the pickle at the position of `stream`, which is left behind it.

    Args:
        stream: a binary file.
        builders: what to make instead of what the pickle calls, besides `PLAIN`.
        persistent: what a persistent id stands for.

    Raises:
        RefusedError: it would run code; nothing was run.
        DamagedError: it is not valid, or too long.
    """
    try:
        return _run(stream, {**PLAIN, **builders}, persistent)
    except (RefusedError, DamagedError):
        raise
    except Exception as error:  # whatever the damage leads to
        raise DamagedError from error


def _run(stream: Any, builders: Builders, persistent: Callable[[Any], Any] | None) -> Any:
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    copied = 0
    pop = stack.pop

    def since_mark() -> list[Any]:
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    def call(what: Any, args: Any, *, called: bool = True) -> None:
        """Pushes the stand-in for an object; a short pickle can pass one long text very often."""
        nonlocal copied
        copied += _copied(args)
        if copied > _MOST_BYTES:
            raise DamagedError("its pickle makes more than that of any state dict")
        stack.append(_made(what, args, builders, called=called))

    def put(items: list[Any]) -> None:
        target = stack[-1]
        if isinstance(target, dict):
            for key, value in zip(items[::2], items[1::2], strict=True):
                target[_key(key)] = value

    start = stream.tell()
    argument: Any
    for step, (opcode, argument, position) in enumerate(pickletools.genops(stream)):
        if step > _MOST_STEPS or (position or 0) - start > _MOST_BYTES:
            raise DamagedError("its pickle is longer than that of any state dict")
        name = opcode.name
        if name in _LITERALS:
            stack.append(argument)
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            memo[int(argument)] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(memo[int(argument)])
        elif name == "MARK":
            marks.append(len(stack))
        elif name == "TUPLE":
            stack.append(tuple(since_mark()))
        elif name in _TUPLES:
            count = _TUPLES[name]
            stack[-count:] = [tuple(stack[-count:])]
        elif name in _FRESH:
            items = since_mark() if name in ("LIST", "DICT") else []
            stack.append(items if name == "LIST" else _FRESH[name]())
            if name == "DICT":
                put(items)
        elif name in ("APPEND", "APPENDS"):
            items = [pop()] if name == "APPEND" else since_mark()
            if isinstance(stack[-1], list):
                stack[-1].extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            put([pop(-2), pop()] if name == "SETITEM" else since_mark())
        elif name in ("ADDITEMS", "FROZENSET"):
            items = {_key(item) for item in since_mark()}
            if name == "FROZENSET":
                stack.append(frozenset(items))
            elif isinstance(stack[-1], set):
                stack[-1].update(items)
        elif name == "GLOBAL":
            stack.append(_global(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            stack.append(_global(pop(-2), pop()))
        elif name == "REDUCE":
            args = pop()
            call(pop(), args)
        elif name == "NEWOBJ":
            args = pop()
            call(pop(), args, called=False)
        elif name == "NEWOBJ_EX":
            named, args = pop(), pop()
            stack.append(_made(pop(), (args, named), {}, called=False))
        elif name == "INST":
            args = since_mark()
            call(_global(*argument.split(" ", 1)), args)
        elif name == "OBJ":
            what, *args = since_mark()
            call(what, args)
        elif name == "BUILD":
            state = pop()
            if isinstance(stack[-1], Inert | Ordered):
                stack[-1].state = state
        elif name in ("BINPERSID", "PERSID"):
            if persistent is None:
                raise DamagedError("a reference to something outside of the pickle")
            stack.append(persistent(pop() if name == "BINPERSID" else argument))
        elif name == "DUP":
            stack.append(stack[-1])
        elif name == "POP":
            marks.pop() if marks and marks[-1] == len(stack) else pop()
        elif name == "POP_MARK":
            since_mark()
        elif name == "STOP":
            return pop()
        elif name not in ("PROTO", "FRAME", "READONLY_BUFFER"):
            raise DamagedError(f"{name}, which no checkpoint has")
    raise DamagedError
