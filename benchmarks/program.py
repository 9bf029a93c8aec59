"""What the compiled programs do besides computing: kernels, bytes they move, copies of layouts.

Compiles inference and a step of training of ynet-224 at full size, for this machine's first device
or, with --h100, for an NVIDIA H100 80GB, by its description: that takes an extra, `cuda12` or
`cuda13`, but no GPU, and runs nothing. XLA chooses among algorithms by trying them where the
device is at hand and by rule where it is not, so that single kernels may differ there.

Bytes are counted as if each kernel read its operands and wrote its results once, whole, and caches
kept nothing between kernels. A loop counts as one kernel; the workspace of a library's does not.
"""

import math
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tqdm import tqdm

from benchmarks.machine import benchmark, markdown
from benchmarks.subject import LAYOUT, faces, network, training
from flax_unet import UNet, UNetConfig
from flax_unet.nn import inference
from flax_unet.nn.config import DTYPES
from flax_unet.utils.errors import InputError
from train import distributed

_H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32
  shared_memory_per_block: 49152 shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: 84929347584
  cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
runtime_version { major: 12 minor: 9 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
_ARRAY = re.compile(r"\b(?:pred|[a-z]+(\d+)\w*)\[([\d,]*)\]")  # its type's bits, its sides
_WORKSPACE = re.compile(r", [su]8\[\d+\][^,]*\)$")  # last of what a library's kernel gives
_INSTRUCTION = re.compile(r"^  (?:ROOT )?%?([\w.\-]+) = (.*?) ([\w\-]+)\((.*)", re.MULTILINE)
_FREE = {"parameter", "constant", "bitcast", "tuple", "get-tuple-element"}  # no kernel


class Kernel(NamedTuple):
    """One instruction of a compiled program."""

    name: str  # XLA names fused ones by what they do
    operation: str
    bytes: int  # of operands and results

    @property
    def is_convolution(self) -> bool:
        """Whether it is a call of a library, like cuDNN, that convolves."""
        return "conv" in self.name and self.operation in ("custom-call", "convolution")

    @property
    def is_copy(self) -> bool:
        """Whether it has values lie in another order, if only on the way to a sum."""
        return bool({"copy", "transpose"} & set(re.split(r"[._\-]", self.name)))


def kernels(program: str) -> list[Kernel]:
    """The kernels of a compiled program, by its text."""
    found, sizes = [], {}
    for name, result, operation, rest in _INSTRUCTION.findall(program, program.index("\nENTRY")):
        sizes[name] = _bytes(_WORKSPACE.sub(")", result) if operation == "custom-call" else result)
        if operation not in _FREE:
            operands = set(re.findall(r"%([\w.\-]+)", rest.partition(")")[0]))
            moved = sizes[name] + sum(sizes.get(operand, 0) for operand in operands)
            found.append(Kernel(name, operation, moved))
    return found


def _bytes(shapes: str) -> int:
    """Of all arrays that a type names."""
    return sum(
        int(bits or 8) * math.prod(int(side) for side in sides.split(",") if side) // 8
        for bits, sides in _ARRAY.findall(shapes)
    )


def programs(config: UNetConfig, device: Any, batch: int) -> Iterator[tuple[str, Any]]:
    """The compiled programs by name, for a device, real or described.

    Inference takes float32 pictures in [0, 1], training uint8 ones.
    """
    axis = distributed.AXIS
    mesh = Mesh(np.array([device]), (axis,))
    whole, parts = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(axis))

    def like(tree: Any, where: Callable[[Any], Any]) -> Any:
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where(x)), tree
        )

    frames = faces(config.input_size, batch)
    image = frames["image"].astype(np.float32)
    share = jax.tree.map(lambda x: x[None], frames)
    for dtype in DTYPES:
        model = UNet(config, dtype=jnp.dtype(dtype), rngs=nnx.Rngs(0))
        model.eval()
        graphdef, state = nnx.split(inference.folded(model))
        forward = inference.program(graphdef, (device,), inference.whole_output)
        weights = like(state, lambda x: inference.format_of(x, whole))
        lowered = forward.lower(weights, like(image, lambda _: whole))
        yield f"inference, {dtype}", lowered.compile()
        for task, remat in (("training", False), ("training with --remat", True)):
            step, state = training(model, [device], remat=remat)
            lowered = step.lower(*like(state, lambda _: whole), like(share, lambda _: parts))
            yield f"{task}, {dtype}", lowered.compile()


def _described() -> Any:
    """An H100 that need not be there."""
    jax.config.update("jax_platforms", "cpu")  # for what is computed on the way
    try:
        described = topologies.get_topology_desc("", "cuda", target_config=_H100, topology="1x1x1")
    except (NotImplementedError, RuntimeError) as error:
        raise InputError(
            f"this installation does not compile for NVIDIA's GPUs ({error}); install an extra: "
            "pip install '.[cuda12]'"
        ) from None
    return described.devices[0]


def figures(program: Any) -> dict[str, int]:
    """Kernels, bytes and planned memory of a compiled program."""
    found = kernels(program.as_text())
    return {
        "kernels": len(found),
        "bytes": sum(kernel.bytes for kernel in found),
        "bytes_of_convolutions": sum(kernel.bytes for kernel in found if kernel.is_convolution),
        "bytes_of_copies": sum(kernel.bytes for kernel in found if kernel.is_copy),
        "planned_memory_bytes": program.memory_analysis().temp_size_in_bytes,
    }


@benchmark(
    h100=(False, "compile for an NVIDIA H100, even where there is none"),
    batch_size=(8, "pictures"),
)
def main(*, h100: bool, batch_size: int) -> None:
    """Runs the command line."""
    device = _described() if h100 else jax.local_devices()[0]
    rows = []
    made = programs(network(), device, batch_size)
    for name, program in tqdm(made, unit="program", total=3 * len(DTYPES), disable=None):
        count, *sizes = figures(program).values()
        rows.append([name, str(count), *(f"{size / 1e9:.2f}" for size in sizes)])
    print(f"{LAYOUT}, batches of {batch_size}, for {device.device_kind}\n")
    header = ["", "kernels", "GB moved", "in convolutions", "in copies of another order"]
    print("\n".join(markdown([*header, "temporary memory, GB"], rows)))


if __name__ == "__main__":
    main()
