from .config import DistillationConfig as DistillationConfig
from .config import DistillationInputs as DistillationInputs
from .learnable import learnable_rows as learnable_rows
from .learnable import subsample_in_rounds as subsample_in_rounds
from .run import DistillationResult as DistillationResult
from .run import Origin as Origin
from .run import distill as distill
