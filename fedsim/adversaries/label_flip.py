"""Label flipping: a site trains honestly on wrong labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from fedsim.adversaries.adversary import Adversary

if TYPE_CHECKING:
    from torch import Tensor


class LabelFlip(Adversary):
    """Trains on wrong labels, as if class y were class C - 1 - y.

    Validation and test images keep their labels. With an odd number of classes the middle one is
    spared.

    Source: Fang et al., 2020, section 4.1.

    Args:
        mapping: class -> the class that the site gives it instead; others stay.
    """

    kind: Literal["label_flip"] = "label_flip"
    mapping: dict[int, int] | None = Field(default=None, min_length=1)

    reference: ClassVar[str] = """@inproceedings{fang2020local,
  title = {Local Model Poisoning Attacks to {Byzantine}-Robust Federated Learning},
  author = {Fang, Minghong and Cao, Xiaoyu and Jia, Jinyuan and Gong, Neil Zhenqiang},
  booktitle = {USENIX Security Symposium},
  year = {2020},
}"""

    def classes(self, num_classes: int) -> list[int]:
        """Return for each class what the site takes it for.

        >>> LabelFlip(share=0.1).classes(3), LabelFlip(share=0.1, mapping={2: 0}).classes(3)
        ([2, 1, 0], [0, 1, 0])
        """
        if self.mapping is None:
            return list(range(num_classes))[::-1]
        return [self.mapping.get(label, label) for label in range(num_classes)]

    def flip(self, labels: Tensor, num_classes: int) -> Tensor:
        """Return wrong labels, (example,), int64, for those of a site's training examples."""
        return labels.new_tensor(self.classes(num_classes))[labels]
