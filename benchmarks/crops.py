"""Frames as a PyTorch user reads them: the published preprocessing in a DataLoader."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from flax_unet.nn.config import Size


class Crops(Dataset):
    """Pictures by path, (3, H, W) float32 in [0, 1]."""

    def __init__(self, paths: list[Path], size: Size) -> None:
        self.paths, self.size = paths, size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        height, width = self.size
        with Image.open(self.paths[index]) as image:
            pixels = np.array(image.resize((width, height), Image.Resampling.NEAREST))
        return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


def loader(paths: list[Path], size: Size, batch_size: int) -> DataLoader:
    """Batches in order; a worker for each thread, which live as long as the loader.

    They are started afresh rather than forked: JAX's threads do not survive a fork.
    """
    return DataLoader(
        Crops(paths, size),
        batch_size,
        num_workers=torch.get_num_threads(),
        multiprocessing_context="forkserver",
        persistent_workers=True,
    )
