#!/usr/bin/env bash
# Library: tensorboard 2.21.0
# Task: Read a training curve of 12,000 steps back from its event file, for a table or a figure.
# One would guess: Scalars("loss") gives every step that was written.
# What happens: EventAccumulator keeps a random sample of 10,000 values of a scalar (and 4 images of a tag)
#   and says nothing: one step in six is missing here, all along the curve. The place of the minimum, means
#   and counts are those of the sample.
# Instead: Pass size_guidance={"scalars": 0, "images": 0}; 0 keeps all.
# Output seen:
#   steps written: 12000, read: 10000, with size_guidance 0: 12000
#   first steps read: [0, 2, 3, 5, 7, 8, 9, 10]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorboard==2.21.0 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'PYTHON'
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

writer = EventFileWriter("run")
for step in range(12_000):
    value = Summary.Value(tag="loss", simple_value=1 / (1 + step))
    writer.add_event(Event(step=step, wall_time=step, summary=Summary(value=[value])))
writer.close()

def steps(**options):
    events = EventAccumulator("run", **options)
    events.Reload()
    return [scalar.step for scalar in events.Scalars("loss")]

sampled, everything = steps(), steps(size_guidance={"scalars": 0})
print(f"steps written: 12000, read: {len(sampled)}, with size_guidance 0: {len(everything)}")
print("first steps read:", sampled[:8])
if len(sampled) != 10_000 or len(everything) != 12_000 or sampled == list(range(10_000)):
    sys.exit("the behaviour has changed")
PYTHON
