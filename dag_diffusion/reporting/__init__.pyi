from .difficulty_figures import save_grid_png as save_grid_png
from .difficulty_figures import save_histogram_png as save_histogram_png
from .difficulty_figures import save_target_png as save_target_png
from .figures import Drawing as Drawing
from .report import Table as Table
from .report import report_folders as report_folders
from .report import write_report as write_report
from .sets import ReportedSet as ReportedSet
