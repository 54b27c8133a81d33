from .image_classifiers import Guide as Guide
from .image_classifiers import class_names_of as class_names_of
from .image_classifiers import image_logits as image_logits
from .image_classifiers import load_classifier as load_classifier
from .image_classifiers import prepared_logits as prepared_logits
from .image_classifiers import preprocessing_of as preprocessing_of
from .model_transforms import ModelTransform as ModelTransform
from .preprocessing import Preprocessing as Preprocessing
