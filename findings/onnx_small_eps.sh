#!/usr/bin/env bash
# onnxscript's optimizer, which torch.onnx.export runs, takes a constant that is added for 0 up to 1e-8 and leaves it out.
# A layer norm with eps = 1e-8 then gives NaN for a frame of zeros, and wrong values for quiet ones.
# Fails if the packages stop doing so; then _protect_small_addends in src/hydraudio/share/onnx.py can go.
#
#   bash findings/onnx_small_eps.sh        (Python 3.11; downloads about 200 MB into a temporary folder)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy onnxscript==0.7.2 onnx==1.23.2 onnxruntime==1.31.1
cd "$folder"
venv/bin/python - 2> stderr.txt <<'PYTHON' || { tail -20 stderr.txt; exit 1; }
import importlib.metadata as metadata

import numpy as np
import onnxruntime
import torch


class Normalize(torch.nn.Module):
    def forward(self, x):
        return x / (x.square().mean(-1, keepdim=True) + 1e-8).sqrt()


print(*(f"{name} {metadata.version(name)}" for name in ("torch", "onnxscript", "onnx", "onnxruntime")), sep=", ")
torch.manual_seed(0)
noise = torch.randn(2, 8)
inputs = {"zeros": 0 * noise, "noise at -80 dB": 1e-4 * noise, "noise": noise}
results = {}
for optimize in (True, False):
    torch.onnx.export(Normalize().eval(), (noise,), "net.onnx", dynamo=True, optimize=optimize, verbose=False)
    session = onnxruntime.InferenceSession("net.onnx", providers=["CPUExecutionProvider"])
    for name, x in inputs.items():
        expected, found = Normalize()(x).numpy(), session.run(None, {"x": x.numpy()})[0]
        results[optimize, name] = np.abs(found - expected).max()
        print(f"optimize={optimize}, {name}: largest difference from PyTorch {results[optimize, name]:.2g}")
assert np.isnan(results[True, "zeros"]) and results[True, "noise at -80 dB"] > 0.1, "the optimizer keeps the addition now"
assert all(results[key] < 1e-5 for key in results if key[0] is False or key[1] == "noise"), "something else is wrong, too"
PYTHON
