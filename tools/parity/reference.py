"""Features and pixels as torchvision computes them: the reference for Turret."""

import numpy as np
import numpy.typing as npt
import torch
import torchvision
from PIL import Image
from torchvision.transforms import v2

import seeded

ARCHITECTURES = ("resnet18", "resnet34", "vgg16")
CLASSIFIERS = ("fc.", "classifier.")
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Pixels = npt.NDArray[np.uint8]
Features = dict[str, npt.NDArray[np.float32]]
Model = torchvision.models.ResNet | torchvision.models.VGG


def bare_model(architecture: str) -> Model:
    return torchvision.models.get_model(architecture, weights=None).eval()


def seeded_model(architecture: str, seed: int) -> Model:
    """Returns torchvision's model with the weights of `seeded.py` and a zero classifier."""
    model = bare_model(architecture)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    weights = {name: torch.from_numpy(value) for name, value in seeded.base_tensors(seed, shapes).items()}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected and all(n.startswith(CLASSIFIERS) or n.endswith("num_batches_tracked") for n in missing)
    for name, parameter in model.named_parameters():
        if name.startswith(CLASSIFIERS):
            torch.nn.init.zeros_(parameter)
    return model


def random_model(architecture: str, seed: int) -> Model:
    """Returns torchvision's initialisation with plausible BatchNorm statistics and scales."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = bare_model(architecture)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.uniform_(-0.5, 0.5, generator=generator)
            module.running_mean.uniform_(-0.5, 0.5, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            module.num_batches_tracked.fill_(1000)
    return model


def _stages(model: Model) -> list[torch.nn.Module]:
    if isinstance(model, torchvision.models.ResNet):
        stem = torch.nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool)
        return [stem, model.layer1, model.layer2, model.layer3, model.layer4]
    ends = [0, *(i + 1 for i, layer in enumerate(model.features) if isinstance(layer, torch.nn.MaxPool2d))]
    return [model.features[begin:end] for begin, end in zip(ends, ends[1:], strict=False)]


@torch.inference_mode()
def features(model: Model, pixels: Pixels) -> Features:
    """Returns `gap` [512] and `pyramid` [1920 for ResNets, 2944 for VGG16] of a [224, 224, 3] picture.

    Pixels are normalised as for ImageNet. `pyramid` holds, stage by stage, the average of each channel and then the
    maximum of each channel. A ResNet's stages are layer1 to layer4; VGG16's end with its five poolings.
    """
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    image = ((torch.from_numpy(pixels.astype(np.float32)) / 255 - mean) / std).permute(2, 0, 1)[None]
    pyramid = []
    for stage in _stages(model):
        image = stage(image)
        pyramid += [image.mean(dim=(2, 3)), image.amax(dim=(2, 3))]
    gap = pyramid[-2]
    if isinstance(model, torchvision.models.ResNet):
        pyramid = pyramid[2:]  # the stem is not a stage
        gap = torch.flatten(model.avgpool(image), 1)
    return {"gap": gap[0].numpy(), "pyramid": torch.cat(pyramid, dim=1)[0].numpy()}


_CENTRE_CROP = v2.Compose([v2.Resize(256, antialias=True), v2.CenterCrop(224)])


def centre_crop(image: Image.Image) -> Pixels:
    """Returns the pixels of torchvision's classification preset for a decoded picture: [224, 224, 3]."""
    return np.asarray(_CENTRE_CROP(image.convert("RGB")))


def relative_error(found: npt.ArrayLike, expected: npt.ArrayLike) -> float:
    """Returns the largest difference relative to the largest expected value."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def relative_distance(found: npt.ArrayLike, expected: npt.ArrayLike) -> float:
    """Returns the Euclidean distance relative to the expected vector's length."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
