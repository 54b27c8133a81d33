from .loop import LoopConfig as LoopConfig
from .loop import fit as fit
