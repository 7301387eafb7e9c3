"""Networks: plain `nn.Module`s, one architecture per file; `_target_` names the class, nothing is registered."""
