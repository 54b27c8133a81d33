from .difficulty_guidance import GuidanceConfig as GuidanceConfig
from .difficulty_guidance import difficulty_shift as difficulty_shift
from .difficulty_guidance import predicted_clean as predicted_clean
from .diversity_guidance import DiversityGuidance as DiversityGuidance
from .diversity_guidance import diversity_shift as diversity_shift
from .mode_guidance import ModeGuidance as ModeGuidance
from .mode_guidance import mode_shift as mode_shift
from .probes import probe_margin as probe_margin
