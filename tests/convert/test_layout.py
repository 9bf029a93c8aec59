"""Which layout is this? Also when a tensor is missing or of another shape."""

import pytest

from convert import torch_unet
from convert.layout import identify
from flax_unet import InputError
from flax_unet.nn.config import WITH_UNUSED_LEVEL
from tests.conftest import SMALL


@pytest.mark.parametrize("layout", ["ynet-224", "ynet-320", "segmenter-bilinear"])
def test_every_missing_or_misshapen_tensor_is_named(layout: str) -> None:
    shapes = torch_unet.shapes(SMALL[layout], with_unused_level=layout in WITH_UNUSED_LEVEL)
    name, _, mapping = identify(shapes)
    assert name == f"{layout}, base width 4"
    for key in mapping.rules:
        for changed in (None, (*shapes[key][:-1], shapes[key][-1] + 1)):
            tensors = {**shapes, key: changed}
            if changed is None:
                tensors.pop(key)
            with pytest.raises(InputError) as raised:
                identify({k: shape for k, shape in tensors.items() if shape is not None})
            lines = [line for line in str(raised.value).splitlines() if line.startswith("  ")]
            kind = "missing" if changed is None else "shape"
            assert len(lines) == 1, raised.value
            assert lines[0].split()[:2] == [kind, f"{key}:"], raised.value
