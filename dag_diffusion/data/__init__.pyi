from .class_folders import real_images as real_images
from .class_names import match_classes as match_classes
from .distilled_sets import write_distilled_set as write_distilled_set
from .pools import Pool as Pool
from .pools import read_pool as read_pool
