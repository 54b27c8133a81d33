from .batches import Batch as Batch
from .generators.settings import GeneratorConfig as GeneratorConfig
from .generators.training import train_generator as train_generator
from .loop import LoopConfig as LoopConfig
from .loop import fit as fit
from .objectives import Objective as Objective
