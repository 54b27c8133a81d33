from .classifier import TrainedClassifier as TrainedClassifier
from .classifier import train_classifier as train_classifier
from .plan import ClassifierConfig as ClassifierConfig
