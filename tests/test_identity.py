"""A model is known again in another precision, and told apart from one of which anything differs."""

import pytest
import torch
from accelerate import cpu_offload
from tiny import tiny_classifier, tiny_pipeline

from dag_diffusion.identity import digest_of, is_same_model, sketch_of


def matrices(model):
    return [name for name, parameter in model.named_parameters() if parameter.ndim > 1]


MATRICES = matrices(tiny_classifier())


@pytest.mark.parametrize("name", MATRICES)
def test_sketch_tells_models_apart_by_any_one_matrix(name):
    first, second = tiny_classifier(), tiny_classifier()
    assert is_same_model(sketch_of(first), sketch_of(second))
    with torch.no_grad():
        matrix = second.get_parameter(name)
        matrix.copy_(matrix.std() * torch.randn(matrix.shape, generator=torch.Generator().manual_seed(1)))
    assert not is_same_model(sketch_of(first), sketch_of(second))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("part", ["transformer", "vae", "classifier"])
def test_sketch_knows_a_model_again_in_another_precision(part, dtype):
    model = getattr(tiny_pipeline(), part)
    before = sketch_of(model)
    assert is_same_model(before, sketch_of(model.to(dtype)))


@pytest.mark.parametrize("part", ["transformer", "vae", "classifier"])
def test_offloaded_model_is_known_again(part):
    model = getattr(tiny_pipeline(), part)
    model.scale = torch.nn.Parameter(torch.ones(2, 2))  # of the outermost module
    before = digest_of(model), sketch_of(model)
    cpu_offload(model, execution_device=torch.device("cpu"), offload_buffers=True)
    assert model.scale.is_meta
    assert (digest_of(model), sketch_of(model)) == before


@pytest.mark.parametrize("name", sorted(tiny_classifier().state_dict()))
def test_digest_changes_with_any_weight_or_buffer(name):
    first, second = tiny_classifier(), tiny_classifier()
    assert digest_of(first) == digest_of(second)
    value = second.state_dict()[name].flatten()
    value[-1] = value[-1] + 1
    assert digest_of(first) != digest_of(second)


def test_models_without_matrices_are_never_the_same():
    assert not is_same_model(sketch_of(torch.nn.BatchNorm2d(3)), sketch_of(torch.nn.BatchNorm2d(3)))
