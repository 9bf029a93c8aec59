"""PyTorch's verdict on one picture: what `benchmarks.compare` times from start to end.

It imports PyTorch and no JAX: `python -m benchmarks.start ckpt.pth face.png [--compile]`.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch

from convert.torch_unet import ReferenceUNet
from flax_unet.media.images import read_image, to_input
from flax_unet.nn.config import PUBLISHED
from flax_unet.utils.errors import command


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start", description=__doc__)
    parser.add_argument("ckpt", type=Path, help="a state dict of ynet-224, of any width")
    parser.add_argument("picture", type=Path, help="a picture of a face")
    parser.add_argument("--compile", action="store_true", help="with torch.compile")
    args = parser.parse_args(argv)
    tensors = torch.load(args.ckpt, weights_only=True)
    width = tensors["inc.double_conv.0.weight"].shape[0]
    config = dataclasses.replace(PUBLISHED["ynet-224"], base_width=width)
    model = ReferenceUNet(config)
    model.load_state_dict(tensors)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = model.eval().to(device)
    if args.compile:
        model = torch.compile(model)
    pixels = torch.from_numpy(to_input(read_image(args.picture), config.input_size))
    with torch.inference_mode():
        real_logit = model(pixels.permute(2, 0, 1)[None].to(device))[1]
    print(f"real {torch.sigmoid(real_logit).item():.4f}")


if __name__ == "__main__":
    main()
