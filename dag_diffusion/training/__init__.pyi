from .batches import Batch as Batch
from .loop import LoopConfig as LoopConfig
from .loop import fit as fit
from .objectives import Objective as Objective
