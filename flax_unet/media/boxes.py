"""Parts of a picture."""

from typing import NamedTuple


class Box(NamedTuple):
    """A rectangle of whole pixels: from (left, top) up to, not including, (right, bottom)."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """In pixels."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """In pixels."""
        return self.bottom - self.top

    @property
    def area(self) -> int:
        """In pixels; 0 for a box that is empty."""
        return max(self.width, 0) * max(self.height, 0)

    def grown(self, share: float) -> "Box":
        """With `share` of its width more on the left and right, of its height above and below."""
        aside, above = round(share * self.width), round(share * self.height)
        return Box(self.left - aside, self.top - above, self.right + aside, self.bottom + above)

    def within(self, size: tuple[int, int]) -> "Box":
        """The part of it that lies in a picture of `size` (width, height)."""
        width, height = size
        return Box(
            min(max(self.left, 0), width),
            min(max(self.top, 0), height),
            min(max(self.right, 0), width),
            min(max(self.bottom, 0), height),
        )

    def overlap(self, other: "Box") -> float:
        """The share of the smaller one's area that lies in both; neither may be empty."""
        both = Box(
            max(self.left, other.left),
            max(self.top, other.top),
            min(self.right, other.right),
            min(self.bottom, other.bottom),
        )
        return both.area / max(min(self.area, other.area), 1)
