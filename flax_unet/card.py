"""Names the command that writes model cards, which has moved to `train.card`."""

import sys

if __name__ == "__main__":
    print("flax_unet.card has moved: python -m train.card", file=sys.stderr)
    sys.exit(2)
