from .settings import GeneratorConfig as GeneratorConfig
from .training import train_generator as train_generator
