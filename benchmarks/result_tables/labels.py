"""Soft labels: what they weigh, and what shortening them loses."""

from statistics import mean

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


def soft_labels_train() -> str:
    """What a network reaches with each kind of labels."""
    rows = []
    for one in load("soft-labels-train")["rows"]:
        kilobytes = f"{one['label_bytes'] / 1000:,.0f}" if "label_bytes" in one else ""
        rows.append([one["labels"], f"{100 * mean(one['accuracies']):.1f}", f"{len(one['accuracies'])}", kilobytes])
    return table(["labels", "accuracy, %", "trainings", "kB of labels"], rows, "soft-labels-train")
