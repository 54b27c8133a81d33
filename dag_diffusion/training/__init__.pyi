from .batches import Batch as Batch
from .fine_tuning import FineTuningConfig as FineTuningConfig
from .generators.settings import GeneratorConfig as GeneratorConfig
from .generators.training import train_generator as train_generator
from .label_tables import set_classes as set_classes
from .loop import LoopConfig as LoopConfig
from .loop import fit as fit
from .objectives import Objective as Objective
