#!/usr/bin/env bash
# torch 2.13.0, CPU: torch.backends.mkldnn.matmul.fp32_precision = "bf16" (what set_float32_matmul_precision("medium")
# sets) is meant to make float32 products faster, by oneDNN. It reaches into fused attention, too, where each small block
# of scaled_dot_product_attention then goes through oneDNN: forward and backward take several times as long, in the same
# kernel, while a linear layer gains or keeps its speed. Seen on an AMD EPYC (Zen 4), one thread, with this script:
#   attention 14 x 8 heads of 150 x 16: 12.8 ms -> 69.8 ms; linear 2100 x 128 -> 1024: 19.7 ms -> 16.9 ms
# So a speed-up that was measured on linear layers says nothing about a transformer with fused attention.
# Fails if attention is no longer slowed down; then core/products.py can measure products alone.
#
#   bash findings/onednn_permission_slows_attention.sh        (downloads about 200 MB into a temporary folder)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy
cd "$folder"
venv/bin/python - <<'PYTHON'
import time

import torch
import torch.nn.functional as F

torch.set_num_threads(1)
torch.manual_seed(0)
heads = torch.randn(14, 8, 150, 16, requires_grad=True)
x, weight = torch.randn(2100, 128, requires_grad=True), torch.randn(1024, 128, requires_grad=True)
layers = {"attention": lambda: F.scaled_dot_product_attention(heads, heads, heads), "linear": lambda: F.linear(x, weight)}
seconds = {}
print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}")
for name, layer in layers.items():
    for precision in ("ieee", "bf16"):
        torch.backends.mkldnn.matmul.fp32_precision = precision
        times = []
        for _ in range(12):
            start = time.thread_time()
            layer().sum().backward()
            times.append(time.thread_time() - start)
        seconds[name, precision] = min(times)
        print(f"{name}, {precision}: {1000 * min(times):.1f} ms")
assert seconds["attention", "bf16"] > 2 * seconds["attention", "ieee"], "attention is no longer slowed down"
assert seconds["linear", "bf16"] < 1.3 * seconds["linear", "ieee"], "linear layers are slowed down, too"
PYTHON
