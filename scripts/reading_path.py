"""Which files lead from the YAML to the loss: python scripts/reading_path.py EXPERIMENT [key=value ...].

Runs the first training step of an experiment on the CPU and prints what someone reads who follows it.

YAML files: train, task, experiment, data, the model's chain of bases and the scheduler. Options that fill a part of the
model (its loss, its pooling ...) are listed apart: each is a few values of one part, read when that part matters.

Python files: those of `hydraudio` with a frame on a call stack between the start of `hydraudio.run.train` and the
return of the loss, as long as the training step or the reading of its batch is active. The union over all these stacks
is counted; constructors (`__init__`) and modules that are being imported are not.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from types import FrameType
from typing import Any

import rootutils

ROOT = rootutils.setup_root(__file__, indicator="pyproject.toml", project_root_env_var=True, dotenv=True)

PACKAGE = ROOT / "src" / "hydraudio"
GROUPS = ("task", "experiment", "data", "model")
NOT_FOLLOWED = ("__init__", "<module>", "__post_init__")
QUIET = ("logger=none", "trainer.enable_progress_bar=false", "trainer.enable_model_summary=false")
SETTINGS = (
    "trainer.accelerator=cpu",
    "trainer.devices=1",
    "trainer.num_sanity_val_steps=0",
    "data.num_workers=0",
    *QUIET,
)


class Done(BaseException):
    """The loss of the first training step has returned."""


class Follower:
    """A profile function (`sys.setprofile`) that notes the files of the package on the stacks that count.

    Attributes:
        files: paths in the order in which their code ran.
    """

    def __init__(self) -> None:
        self.files: dict[str, None] = {}
        self._open: list[FrameType] = []

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            if _begins(frame):
                self._note_stack(frame)
                self._open.append(frame)
            elif self._open:
                self._note(frame)
        elif event == "return" and self._open and frame is self._open[-1]:
            self._open.pop()
            if frame.f_code.co_name == "training_step" and argument is not None:
                raise Done

    def _note_stack(self, frame: FrameType) -> None:
        stack = []
        current: FrameType | None = frame
        while current is not None:
            stack.append(current)
            current = current.f_back
        for each in reversed(stack):
            self._note(each)

    def _note(self, frame: FrameType) -> None:
        name = frame.f_code.co_filename
        if name.startswith(str(PACKAGE)) and frame.f_code.co_name not in NOT_FOLLOWED:
            self.files[name] = None


def _begins(frame: FrameType) -> bool:
    """Whether the training step or the reading of a batch begins with this frame."""
    code = frame.f_code
    if code.co_name == "training_step":
        return code.co_filename.startswith(str(PACKAGE))
    return code.co_name == "__next__" and code.co_filename.endswith("torch/utils/data/dataloader.py")


def python_files(overrides: list[str]) -> list[str]:
    """Files of the package that one reads, in the order in which they run."""
    from hydra_preflight.compose import compose_run

    with tempfile.TemporaryDirectory() as folder:
        cfg = compose_run([*overrides, *SETTINGS], folder)
        cfg.callbacks = {}  # not by an override: an experiment may change keys of its callbacks
        from hydraudio.run import train

        follower = Follower()
        sys.setprofile(follower)
        try:
            train(cfg)
        except Done:
            pass
        finally:
            sys.setprofile(None)
    return [os.path.relpath(name, ROOT) for name in follower.files]


def yaml_files(overrides: list[str]) -> tuple[list[str], list[str]]:
    """Files on the way, and the options that fill a part of the model."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    from hydra_preflight.resolvers import register_resolvers

    register_resolvers()
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        found = loader.compute_defaults_list("train.yaml", overrides, RunMode.RUN).defaults
    paths = [str(each.config_path).removesuffix(".yaml") for each in found if each.config_path]
    read = [path for path in dict.fromkeys(paths) if path == "train" or path.split("/")[0] in GROUPS]
    parts = [path for path in read if path.startswith("model/") and path.count("/") > 2]
    return [f"configs/{p}.yaml" for p in read if p not in parts], [f"configs/{p}.yaml" for p in parts]


def main() -> int:
    """Print the lists; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", help="option of configs/experiment: TASK/NAME")
    parser.add_argument("overrides", nargs="*", help="as for src/train.py")
    arguments = parser.parse_args()
    overrides = [f"experiment={arguments.experiment}", *arguments.overrides]
    on_the_way, parts = yaml_files(overrides)
    lists = {"YAML files": on_the_way, "parts of the model": parts, "Python files": python_files(overrides)}
    for title, files in lists.items():
        print(f"{len(files)} {title}", *files, sep="\n  ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
