"""The encoders that experiments name are those that are pinned."""

import yaml

from hydraudio.share.download import recommended
from hydraudio.tasks.emotion.spec import SPEC


def test_the_configured_upstreams_have_the_same_pins(repository):
    files = (repository / "configs" / "model" / "emotion" / "upstream").glob("*.yaml")
    options = [yaml.safe_load(file.read_text()) for file in files]
    configured = {option["source"]: option["revision"] for option in options if option.get("source")}
    assert configured == {name: pin.revision for name, pin in SPEC.pretrained.items()}
    assert len(configured) == 4
    assert recommended().items() >= SPEC.pretrained.items()
