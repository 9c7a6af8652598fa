"""Runs another engine with the same weights as a worker: see benches/performance/worker.rs.

`make bench-engine` starts one per engine and precision. These engines get their preferred input, normalised float
pictures ready in memory, while Turret's measured time includes making them from bytes.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

SIDE = 224
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
BATCHES = (1, 8, 32)
MEASURED = 64  # pictures to form batches from
CALIBRATION = 300  # pictures; NNCF's default


def load_pictures(path: Path, most: int) -> np.ndarray:
    """Loads `[N, 3, 224, 224]`, normalised; N is at most `most`."""
    pixels = np.fromfile(path, np.uint8).reshape(-1, SIDE, SIDE, 3)[:most].astype(np.float32)
    return np.ascontiguousarray(((pixels / 255 - MEAN) / STD).transpose(0, 3, 1, 2))


def torch_network(weights: Path):
    """Returns torchvision's ResNet34 without its classifier; BatchNorm is not folded."""
    import torch
    import torchvision
    from safetensors.torch import load_file

    network = torchvision.models.resnet34()
    network.fc = torch.nn.Identity()
    state = load_file(weights)
    missing, unexpected = network.load_state_dict(state, strict=False)
    assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing), (missing, unexpected)
    return network.eval()


def eager(arguments):
    import torch

    torch.set_num_threads(arguments.threads)
    network = torch_network(arguments.weights)

    def features(batch: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(batch)).numpy()

    return features


def onnx_file(arguments) -> Path:
    path = arguments.folder / "network.onnx"
    if not path.exists() or path.stat().st_mtime < arguments.weights.stat().st_mtime:
        import torch

        torch.onnx.export(
            torch_network(arguments.weights),
            torch.zeros(1, 3, SIDE, SIDE),
            str(path),
            input_names=["pictures"],
            output_names=["features"],
            dynamic_axes={"pictures": {0: "batch"}, "features": {0: "batch"}},
            dynamo=False,
        )
    return path


def onnxruntime(arguments):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = arguments.threads
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(onnx_file(arguments), options, providers=["CPUExecutionProvider"])
    return lambda batch: session.run(None, {"pictures": batch})[0]


def openvino(arguments):
    import openvino as ov

    core = ov.Core()
    model = core.read_model(onnx_file(arguments))
    if arguments.precision == "int8":
        import nncf

        # Post-training quantisation with NNCF's defaults.
        pictures = load_pictures(arguments.pixels, CALIBRATION)
        model = nncf.quantize(model, nncf.Dataset([picture[None] for picture in pictures]))
    settings = {
        "INFERENCE_NUM_THREADS": arguments.threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16", "int8": "f32"}[arguments.precision],
    }
    compiled = {}
    for batch in BATCHES:
        model.reshape([batch, 3, SIDE, SIDE])
        compiled[batch] = core.compile_model(model, "CPU", settings).create_infer_request()

    def features(batch: np.ndarray) -> np.ndarray:
        return compiled[len(batch)].infer({0: batch}, share_inputs=True)[0]

    return features


ENGINES = {"eager": eager, "onnxruntime": onnxruntime, "openvino": openvino}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", choices=ENGINES, required=True)
    parser.add_argument("--precision", choices=["fp32", "bf16", "int8"], required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--pixels", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    arguments = parser.parse_args()

    # Output of libraries must not mix with the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    features = ENGINES[arguments.engine](arguments)
    pictures = load_pictures(arguments.pixels, MEASURED)
    for batch in BATCHES:
        features(pictures[:batch])
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        match line.split():
            case ["run", batch, seconds]:
                print(*run(features, pictures, int(batch), float(seconds)), file=answers, flush=True)
            case ["features", count]:
                rows = [features(pictures[number : number + 1]) for number in range(int(count))]
                print(json.dumps(np.concatenate(rows).ravel().tolist()), file=answers, flush=True)
            case _:
                sys.exit(f"unknown question {line!r}, expected 'run' or 'features'")


def run(features, pictures: np.ndarray, batch: int, seconds: float) -> tuple[int, float]:
    starts = [start for start in range(0, len(pictures) - batch + 1, batch)]
    begun, images = time.perf_counter(), 0
    while True:
        start = starts[images // batch % len(starts)]
        features(pictures[start : start + batch])
        images += batch
        elapsed = time.perf_counter() - begun
        if elapsed >= seconds:
            return images, elapsed


if __name__ == "__main__":
    main()
