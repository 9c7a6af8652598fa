"""Photo-like pictures of any size: falling light, edges at all angles, fine texture, some sensor noise."""

import numpy as np
from PIL import Image

PNG_MODES = ("RGB", "L", "RGBA", "P")


def picture(seed: int, width: int, height: int, noise: float) -> Image.Image:
    """Draws an RGB picture; `noise` is the standard deviation of the sensor noise in grey levels."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    u, v = x / width, y / height
    light = 60 + 150 * np.exp(-3 * ((u - rng.uniform()) ** 2 + (v - rng.uniform()) ** 2))
    tint = rng.uniform(0.6, 1.1, size=3)
    pixels = light[..., None] * tint
    for _ in range(6):
        colour = rng.uniform(0, 255, size=3)
        pixels[_shape(rng, u, v)] = colour
    stripes = 25 * np.sin(2 * np.pi * (u * rng.uniform(5, 30) + v * rng.uniform(5, 30)))
    pixels += np.where(u < 0.4, stripes, 0)[..., None]
    pixels += rng.normal(0, noise, size=pixels.shape) if noise else 0
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def _shape(rng: np.random.Generator, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Draws the mask of a disc, a tilted band or a rectangle in the unit square."""
    a, b = rng.uniform(0.1, 0.9, size=2)
    size = rng.uniform(0.03, 0.15)
    match rng.integers(3):
        case 0:
            return (u - a) ** 2 + (v - b) ** 2 < size**2
        case 1:
            angle = rng.uniform(0, np.pi)
            return np.abs((u - a) * np.cos(angle) + (v - b) * np.sin(angle)) < size / 6
        case _:
            return (np.abs(u - a) < size) & (np.abs(v - b) < size / 2)


def in_mode(image: Image.Image, mode: str) -> Image.Image:
    """Converts a picture to one of Pillow's modes; RGBA gets varying transparency."""
    if mode == "RGBA":
        image = image.copy()
        image.putalpha(Image.linear_gradient("L").resize(image.size))
        return image
    return image if mode == "RGB" else image.convert(mode)
