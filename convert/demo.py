"""Writes what the demonstration needs and no download gives: a checkpoint and a picture."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

from convert import stand_in
from flax_unet.errors import command
from flax_unet.files import staged_file

_SIZE = 256


def drawn_face() -> Image.Image:
    """A plain drawing of a face, (256, 256) RGB."""
    image = Image.new("RGB", (_SIZE, _SIZE), (112, 128, 144))
    draw = ImageDraw.Draw(image)
    draw.ellipse((48, 20, 208, 244), fill=(226, 186, 160))
    for x in (96, 160):
        draw.ellipse((x - 18, 100, x + 18, 120), fill="white")
        draw.ellipse((x - 9, 101, x + 9, 119), fill=(70, 50, 40))
        draw.arc((x - 24, 76, x + 24, 104), 200, 340, fill=(80, 55, 40), width=6)
    draw.polygon(((128, 112), (114, 160), (142, 160)), fill=(206, 160, 136))
    draw.chord((92, 168, 164, 210), 10, 170, fill=(170, 70, 76))
    return image.filter(ImageFilter.GaussianBlur(1.5))


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m convert.demo", description=__doc__)
    parser.add_argument("directory", type=Path, help="where to write ynet-224.pth and face.png")
    args = parser.parse_args(argv)
    stand_in.main(["ynet-224", str(args.directory / "ynet-224.pth")])
    with staged_file(args.directory / "face.png") as stage:
        drawn_face().save(stage, "PNG")


if __name__ == "__main__":
    main()
