from .config import FolderConfig as FolderConfig
from .distilling import FolderResult as FolderResult
from .distilling import distill_folder as distill_folder
from .distilling import plan_folder as plan_folder
from .planning.dry_run import Plan as Plan
