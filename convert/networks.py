"""The sets of weights in a checkpoint: networks, and further copies of one's weights.

A network is found by the names of its tensors. An average of its weights may have other names, or
none: it is found by comparison with the network, so that none is chosen where another may be meant.
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeGuard

from convert.mapping import BLOCK
from convert.pickles import Inert
from convert.tensors import Tensor

BARE = "."  # names the network that has no prefix, where others stand beside it
MOST_ENTRIES = 4096  # of a list that is looked into
DEPTH = 6  # of containers within containers
_MOST_COPIED = 16  # networks whose copies are looked for, and copies

_WRAPPERS = (
    *("_orig_mod", "module", "_module", "_checkpoint_wrapped_module"),
    "_fsdp_wrapped_module",
)
_WRAPPED = rf"(?:(?:{'|'.join(_WRAPPERS)})\.)*"
IS_WRAPPER = re.compile(rf"(?<![^.])(?:{'|'.join(_WRAPPERS)})\.")
"""A name that wrappers put into keys."""
_NETWORK = re.compile(
    rf"((?:.*\.)?)inc\.{_WRAPPED}(?:double_conv|conv\.{_WRAPPED}conv)\.", re.DOTALL
)
_IN_BLOCK = re.compile(rf"(?<![^.]){BLOCK}")
_BUFFER = re.compile(r"(running_(mean|var)|num_batches_tracked|_mask|total_(ops|params))$")


class Network(NamedTuple):
    """A set of weights."""

    name: str  # how `--key` chooses it
    entries: Mapping[str, Any]  # by the file's keys
    container: str  # path of keys to it; "" when the file is one
    prefix: str  # what stands before the network's keys
    keys: frozenset[str] = frozenset()  # its own in the mapping that it shares with others
    shared: Mapping[str, Any] | None = None  # that mapping
    note: str = ""  # what to know before it is chosen; a sentence
    obstacle: str = ""  # why it cannot be chosen; a predicate


def networks(content: Any) -> list[Network]:
    """All sets of weights, those with the names of a network first; none where no network is."""
    places = list(containers(content))
    found = [network for steps, mapping in places for network in _named(steps, mapping)]
    models = [_Model.of(network) for network in found[:_MOST_COPIED]]
    copies = (
        copy
        for steps, mapping in places
        for find in (_listed, _without_dots)
        for copy in find(steps, mapping, models)
    )
    if not found:
        return []
    return [*found, *itertools.islice(copies, _MOST_COPIED), *_pickled(places, models)]


def containers(content: Any) -> Iterator[tuple[tuple[str, ...], Mapping[Any, Any]]]:
    """Nested mappings and lists, each once, with the keys that lead there."""
    seen: set[int] = set()

    def below(content: Any, steps: tuple[str, ...]) -> Iterator[Any]:
        is_list = isinstance(content, list | tuple)
        # A small file can refer to one container very often.
        if len(steps) > DEPTH or id(content) in seen or not (is_list or isinstance(content, dict)):
            return
        seen.add(id(content))
        mapping = dict(enumerate(content[:MOST_ENTRIES])) if is_list else content
        yield steps, mapping
        for key, value in mapping.items():
            yield from below(value, (*steps, str(key)))
        if isinstance(content, Inert) and isinstance(content.state, Mapping):
            yield from below(content.state, steps)

    return below(content, ())


def is_module(value: Any) -> TypeGuard[Inert]:
    """Whether a stand-in is of a PyTorch module, which keeps its parts in these attributes."""
    state = value.state if isinstance(value, Inert) else None
    return isinstance(state, Mapping) and {"_modules", "_parameters"} <= state.keys()


def whole_model(module: Inert) -> str:
    """A predicate on a pickled module."""
    return (
        f"is a whole pickled model ({module.name}), which runs code when it is loaded; nothing was "
        "run. Where that code is at hand and trusted, save the weights alone: "
        "torch.save(model.state_dict(), OUT)"
    )


def _named(steps: tuple[str, ...], mapping: Mapping[Any, Any]) -> Iterator[Network]:
    tensors = [k for k, of in mapping.items() if isinstance(of, Tensor) and isinstance(k, str)]
    keys: dict[str, list[str]] = {match[1]: [] for key in tensors if (match := _NETWORK.match(key))}
    for key in tensors if keys else ():
        for block in itertools.islice(_IN_BLOCK.finditer(key), DEPTH):
            if (prefix := key[: block.start()]) in keys:
                keys[prefix].append(key)
    container = ".".join(steps)
    for prefix, own in keys.items():
        name = ".".join(filter(None, (container, prefix.rstrip(".")))) or BARE
        yield Network(name, mapping, container, prefix, frozenset(own), shared=mapping)


class _Model(NamedTuple):
    """A network that others may be copies of."""

    network: Network
    tensors: dict[str, Tensor]  # in its blocks, by key, in order
    storages: set[int]
    orders: tuple[list[str], list[str]]  # keys of all tensors, and of the parameters alone
    kernels: Counter[tuple[int, ...]]  # by shape
    spelt: dict[str, str]  # name without dots -> key

    @classmethod
    def of(cls, network: Network) -> "_Model":
        tensors = {k: of for k, of in network.entries.items() if k in network.keys}
        bare = len(network.prefix)
        return cls(
            network,
            tensors,
            {id(of.storage) for of in tensors.values()},
            (list(tensors), [key for key in tensors if not _BUFFER.search(key)]),
            Counter(of.shape for of in tensors.values() if len(of.shape) > 1),
            {name.replace(".", ""): key for key in tensors for name in (key, key[bare:])},
        )

    def copy(self, name: str, tensors: Mapping[str, Tensor], note: str = "") -> Network:
        """This network with other tensors."""
        network = self.network
        if any(key not in tensors for key in self.tensors):
            note += f"What {name} lacks, such as statistics, is taken from {network.name}. "
        entries = {**self.tensors, **tensors}
        return Network(name, entries, name, network.prefix, note=note)


def _listed(
    steps: tuple[str, ...], mapping: Mapping[Any, Any], models: list[_Model]
) -> Iterator[Network]:
    """Lists of tensors, such as torch_ema's: parameters in the order of a module."""
    if not all(type(key) is int and isinstance(of, Tensor) for key, of in mapping.items()):
        return
    tensors, name = list(mapping.values()), ".".join(steps)
    shapes = [of.shape for of in tensors]
    for model in models:
        if all(id(of.storage) in model.storages for of in tensors):
            return  # the network's own, as a pickled optimizer refers to them
        for keys in model.orders:
            if len(keys) == len(shapes) and shapes == [model.tensors[key].shape for key in keys]:
                note = f"{name} has no names; it is read in the order of {model.network.name}. "
                yield model.copy(name, dict(zip(keys, tensors, strict=True)), note)
                return
        most = model.kernels.total() / 2
        if len(shapes) > most and (model.kernels & Counter(shapes)).total() > most:
            obstacle = f"is a list of {len(tensors)} tensors without names, in an unknown order"
            yield Network(name, {}, name, "", obstacle=obstacle)
            return


def _without_dots(
    steps: tuple[str, ...], mapping: Mapping[Any, Any], models: list[_Model]
) -> Iterator[Network]:
    """Copies whose names lack the dots, such as LitEma's `model_ema.incdouble_conv0weight`."""
    keys = [k for k, of in mapping.items() if isinstance(k, str) and isinstance(of, Tensor)]
    for model in models if keys else ():
        groups: dict[str, dict[str, str]] = {}  # what stands before -> network's key -> key
        for key in keys:
            stem, _, last = key.rpartition(".")
            if last in model.spelt:
                groups.setdefault(stem, {})[model.spelt[last]] = key
        for stem, group in groups.items():
            name = ".".join(filter(None, (*steps, stem)))
            copy = model.copy(name, {of: mapping[key] for of, key in group.items()})
            yield copy._replace(keys=frozenset(group.values()), shared=mapping)


def _pickled(
    places: list[tuple[tuple[str, ...], Mapping[Any, Any]]], models: list[_Model]
) -> Iterator[Network]:
    """Pickled modules whose kernels are not those of a network beside them."""
    stored = {storage for model in models for storage in model.storages}
    inside: set[int] = set()
    for steps, mapping in places:
        if is_module(mapping) and id(mapping) not in inside:
            tensors = list(_tensors(mapping, inside))
            if any(len(of.shape) > 1 and id(of.storage) not in stored for of in tensors):
                name = ".".join(steps)
                yield Network(name, {}, name, "", obstacle=whole_model(mapping))


def _tensors(module: Inert, inside: set[int]) -> Iterator[Tensor]:
    """The tensors of a pickled module; the modules in it are added to `inside`."""
    rest: list[Any] = [module]
    while rest:
        part = rest.pop()
        if not is_module(part) or id(part) in inside:
            continue
        inside.add(id(part))
        state: Any = part.state
        for kind in ("_parameters", "_buffers", "_modules"):
            values = state.get(kind)
            for value in values.values() if isinstance(values, Mapping) else ():
                if isinstance(value, Tensor):
                    yield value
                else:
                    rest.append(value)
