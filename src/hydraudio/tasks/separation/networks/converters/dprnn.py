"""Weights of SpeechBrain's DPRNN to ours and back.

SpeechBrain's mask net is a `Dual_Path_Model` of `SBRNNBlock` with linear layers after them. Its norms "ln" and "gln"
are both our "gLN".
"""

from typing import Any, cast

from hydraudio.tasks.separation.networks.converters import dual_path
from hydraudio.tasks.separation.networks.converters.files import StateDict
from hydraudio.tasks.separation.networks.dprnn import DPRNN, RecurrentBlock
from hydraudio.tasks.separation.networks.dual_path import DualPathLayer, DualPathMaskNet

_TYPE_OF_GATES = {4: "LSTM", 3: "GRU", 1: "RNN"}


def dprnn_from_speechbrain(parts: dict[str, StateDict], chunk_size: int, norm: str) -> DPRNN:
    """Return the net with these weights. `chunk_size` [K] and `norm` ("gLN", "cLN") as in SpeechBrain: no shape tells
    them.
    """
    net = DPRNN(**arguments(parts, chunk_size, norm))
    dual_path.load(net, parts, _block_key, "DPRNN")
    return net


def dprnn_to_speechbrain(net: DPRNN) -> dict[str, StateDict]:
    """Return the three state dicts for SpeechBrain's modules, with norm "ln" for "gLN" and "cln" for "cLN"."""
    layer = cast(DualPathLayer, cast(DualPathMaskNet, net.mask_net).layers[0])
    if not cast(RecurrentBlock, layer.inter).rnn.bidirectional:
        raise ValueError("SpeechBrain's DPRNN runs with bidirectional=True alone")
    return dual_path.dump(net, _block_key)


def arguments(parts: dict[str, StateDict], chunk_size: int, norm: str) -> dict[str, Any]:
    """Return the constructor arguments, read from the shapes; options as in `dprnn_from_speechbrain`."""
    prefix = "dual_mdl.0.inter_mdl.mdl.rnn.weight_hh_l"
    recurrent = {key.removeprefix(prefix): value for key, value in parts["masknet"].items() if key.startswith(prefix)}
    if "0" not in recurrent:
        raise ValueError("masknet.ckpt is not a DPRNN of SpeechBrain: it has no recurrent weights")
    rows, hidden_size = recurrent["0"].shape
    return dual_path.frame_arguments(parts) | {
        "chunk_size": chunk_size,
        "hidden_size": hidden_size,
        "rnn_type": _TYPE_OF_GATES[rows // hidden_size],
        "n_rnn_layers": sum(not key.endswith("_reverse") for key in recurrent),
        "norm": norm,
    }


def _block_key(role: str, ours: str) -> str:
    module, rest = ours.split(".", 1)
    return f"{role}_mdl.mdl.rnn.{rest}" if module == "rnn" else f"{role}_linear.w.{rest}"
