"""The original evaluation in PyTorch, by its published facts."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from convert.parity import load_twin
from convert.torch_unet import ReferenceUNet
from flax_unet import PUBLISHED


def published_procedure(
    checkpoint: Path,
    folder: Path,
    *,
    crops: str = "crops",
    masks: str = "masks",
    metadata: str = "metadata.json",
    size: int = 224,
) -> dict[str, Any]:
    """Scores the PyTorch file of a ynet-224 or ynet-slim on a folder, one frame at a time.

    Args:
        checkpoint: the file.
        folder: the data set's.
        crops: where its crops are, below it.
        masks: where its masks are.
        metadata: where its metadata is.
        size: pixels a side that frames and masks are brought to.

    Returns:
        `predicted` (1 = REAL), `probability` of REAL and `dice` by the crop's name; `correct` and
        `wrong`.
    """
    content = torch.load(checkpoint, weights_only=True)
    width = len(content["inc.double_conv.0.bias"])
    config = dataclasses.replace(PUBLISHED["ynet-224"], base_width=width, image_size=size)
    twin = load_twin(ReferenceUNet(config), {k: v.numpy() for k, v in content.items()})
    entries = json.loads((folder / metadata).read_text())
    result: dict[str, Any] = {"predicted": {}, "probability": {}, "dice": {}}
    for path in sorted((folder / crops).iterdir()):
        with Image.open(path) as opened:
            pixels = np.asarray(opened.resize((size, size), Image.Resampling.NEAREST)) / 255
        with torch.inference_mode():
            image = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None]
            mask_logits, real_logit = twin(image)
        probability = torch.sigmoid(real_logit)
        result["predicted"][path.name] = int(torch.round(probability).item())
        result["probability"][path.name] = probability.item()
        with Image.open(folder / masks / f"{path.stem}.gif") as opened:
            wanted = np.asarray(opened.resize((size, size), Image.Resampling.NEAREST))
        found = mask_logits.argmax(1)[0].numpy()
        both, total = (found * wanted).sum(), found.sum() + wanted.sum()
        result["dice"][path.name] = 1.0 if total == 0 else 2 * both / (total + 1e-6)
    videos = {name: name.partition("_")[0] + ".mp4" for name in result["predicted"]}
    labels = {name: entries[video]["label"] for name, video in videos.items()}
    right = [p == (labels[n] == "REAL") for n, p in result["predicted"].items()]
    return {**result, "correct": sum(right), "wrong": len(right) - sum(right)}
