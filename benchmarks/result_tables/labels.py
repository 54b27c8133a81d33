"""Soft labels: what they weigh, and what shortening them loses."""

from .records import load, table


def soft_labels_sizes() -> str:
    """What shortened labels weigh, and how far they are from the teacher's."""
    rows = [
        [
            f"{one['top_k']}",
            f"{one['bytes']:.0f}",
            f"{one['divergence_1']:.5f}",
            f"{one['divergence_20']:.5f}",
            f"{100 * one['same_class']:.1f}",
        ]
        for one in load("soft-labels-sizes")["rows"]
    ]
    heads = ["logits kept of ten", "bytes a label", "divergence", "at temperature 20", "same class, %"]
    return table(heads, rows, "soft-labels-sizes")
