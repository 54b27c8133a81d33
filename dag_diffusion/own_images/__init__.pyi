from .config import FolderConfig as FolderConfig
from .distilling import FolderResult as FolderResult
from .distilling import distill_folder as distill_folder
