#!/usr/bin/env bash
# Library: fast-pytorch-kmeans 0.2.2, torch 2.14.1
# Task: Find ten modes of a class, the centers of k-means over its latents, by fast_pytorch_kmeans.KMeans(10), and draw
#   images toward each.
# One would guess: Each center is a mean of images. A cluster that loses all its own is started again from an image, as
#   by scikit-learn, or stays where it was.
# What happens: The mean of no images, 0 / 0, is replaced by 0 in every coordinate: the center becomes the point 0, far
#   from all images, and stays there, empty, to the end of the fit. A mode of latents is then a grey picture, and there
#   is one less. It needs neither copies nor few images: clusters that lie apart are enough. With minibatch= each batch
#   without an image of a cluster draws its center a tenth or more of the way to 0. Nothing is raised or logged. Its
#   issue 29 tells of batches, issue 24 of empty clusters.
# Instead: Take scikit-learn's KMeans; or keep only the centers of fit.predict(images).unique(), without minibatch=.
# Output seen:
#   500 images in 10 clusters, 10 centers, 100 seeds
#                         fits with a center at 0  with one further than 15 from every image
#   random                20                       20
#   gaussian              97                       97
#   kmeans++              3                        3
#   random, minibatch=20  95                       100
#   scikit-learn, random  0                        0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet fast-pytorch-kmeans==0.2.2 torch==2.14.1 numpy==2.4.6 scikit-learn==1.9.1
cd "$folder"
venv/bin/python -W ignore - <<'PYTHON'
import sys

import numpy as np
import torch
from fast_pytorch_kmeans import KMeans
from sklearn.cluster import KMeans as Reference

torch.manual_seed(0)
clusters = torch.arange(500) % 10
images = 10 + 3 * torch.randn(10, 16)[clusters] + 0.3 * torch.randn(500, 16)

def centers(start, seed, batch=None):
    torch.manual_seed(seed)
    np.random.seed(seed)
    if start == "scikit-learn":
        fit = Reference(10, init="random", n_init=1, random_state=seed).fit(images.numpy())
        return torch.tensor(fit.cluster_centers_)
    fit = KMeans(10, init_method=start, minibatch=batch)
    fit.fit(images)
    return fit.centroids

ways = {
    "random": ["random"],
    "gaussian": ["gaussian"],
    "kmeans++": ["kmeans++"],
    "random, minibatch=20": ["random", 20],
    "scikit-learn, random": ["scikit-learn"],
}
print("500 images in 10 clusters, 10 centers, 100 seeds")
print("                      fits with a center at 0  with one further than 15 from every image")
seen = {}
for name, (start, *batch) in ways.items():
    found = torch.stack([centers(start, seed, *batch) for seed in range(100)])
    far = torch.cdist(found, images[None]).amin(2) > 15
    seen[name] = int((found == 0).all(2).any(1).sum()), int(far.any(1).sum())
    print("{:22}{:<25}{}".format(name, *seen[name]))
if any(seen.pop("scikit-learn, random")) or any(not at_zero or not far for at_zero, far in seen.values()):
    sys.exit("the behaviour has changed")
PYTHON
