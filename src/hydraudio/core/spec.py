"""What a task is, as plain values: what goes in and out, what is measured, how it is reported and shared.

Each floor of the house has one `TaskSpec` in its ``spec.py``. The leaderboard, comparisons, the model card, the media
logger, the listening page, searches and the configuration check read it, so that each of them works for every task.
Nothing heavy is imported here or in any ``spec.py``.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Axes:
    """Shape, type and range of a tensor.

    Attributes:
        axes: names of the axes in order, e.g. ``batch sources time``.
        dtype: of its values, as torch calls it.
        unit: range or unit of its values, e.g. ``[-1, 1]``; empty where there is none.
    """

    axes: str
    dtype: str = "float32"
    unit: str = ""

    @property
    def is_waveform(self) -> bool:
        """Say whether one can listen to it: time comes last and full scale is 1."""
        return self.axes.split()[-1] == "time" and self.unit == "[-1, 1]"


@dataclass(frozen=True)
class Metric:
    """A number that a run of the task may log as ``stage/name``.

    Attributes:
        name: as it is logged, without the stage.
        label: as tables and pages write it.
        unit: e.g. ``dB``; empty for pure numbers.
        better: which of two values is better.
        digits: after the decimal point in tables.
        parts: attribute of the task that lists parts; ``name_<part>`` is logged for each of them as well.
        main: whether tables of many runs have a column for it.
        package: that a report needs to compute it; empty for what is always there.
    """

    name: str
    label: str
    unit: str = ""
    better: Literal["higher", "lower"] = "higher"
    digits: int = 3
    parts: str = ""
    main: bool = False
    package: str = ""

    @property
    def title(self) -> str:
        """Write the label with its unit.

        >>> Metric("depth", "Depth", unit="m").title
        'Depth / m'
        """
        return f"{self.label} / {self.unit}" if self.unit else self.label


@dataclass(frozen=True)
class Block:
    """A section of the report page.

    Attributes:
        anchor: its address within the page, and the name of the macro that makes its body from the results of a test;
            ``listen`` stands for the examples.
        title: its heading; empty for what stands above the sections.
        template: that has the macro, ``package/file``, or one of :mod:`hydraudio.report.templates` without a package.
            What the macro leaves empty is not shown.
    """

    anchor: str
    title: str
    template: str = "blocks.html"


@dataclass(frozen=True)
class Card:
    """What the model card of a shared model says about every model of the task.

    Attributes:
        pipeline_tag: the hub's word for what the model does.
        tags: further words to find it by.
        limits: what the model is for, and what not.
        license_note: what a user must know about the licence of weights, beside its name.
        metric_types: name of a metric -> the hub's word for its kind, where that is another one.
        sharing: dotted name of the floor's :class:`hydraudio.share.sharing.Sharing`; empty for its base, to which the
            facts and results that this specification knows are enough.
    """

    pipeline_tag: str
    tags: tuple[str, ...]
    limits: str
    license_note: str
    metric_types: Mapping[str, str] = field(default_factory=dict)
    sharing: str = ""


@dataclass(frozen=True)
class Pin:
    """A public model at a fixed revision.

    Attributes:
        revision: commit.
        sha256: of its weights.
    """

    revision: str
    sha256: str


@dataclass(frozen=True)
class TaskSpec:
    """One task of the house.

    Attributes:
        name: of its floor and of its folders of configuration.
        batch: name -> axes of the tensors of a batch that networks and losses read.
        outputs: name -> axes of what `Task.predict` gives.
        metrics: all that a run may log or report; those of the report table first.
        agree: attributes in which corpus and network must agree.
        resampled: what a bootstrap draws: item, recording, speaker, fold, track.
        blocks: sections of the report page, in order.
        card: what a model card says.
        inputs: tensors of `batch` that `Task.predict` reads; results are compared with the others.
        names: axis -> attribute of the task that lists what lies along it, e.g. the names of classes.
        heads: attribute that `names` gives -> modules of the task with a row of weights per name. Weights of a
            checkpoint with other names are not loaded into them; into no module, where they are not said.
        problem: key of the corpus's configuration by which results compare or do not: what it is asked for.
        group: key of an item that says its group, where the items of a test set come in groups; empty without any.
        pretrained: name on the Hugging Face hub -> pin of the public models that training may start from.
        listening: dotted name of the floor's :class:`hydraudio.report.listen.listening.Listening`; empty for its base.
    """

    name: str
    batch: Mapping[str, Axes]
    outputs: Mapping[str, Axes]
    metrics: tuple[Metric, ...]
    agree: tuple[str, ...]
    resampled: str
    blocks: tuple[Block, ...]
    card: Card
    inputs: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    heads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    problem: str = ""
    group: str = ""
    pretrained: Mapping[str, Pin] = field(default_factory=dict)
    listening: str = ""

    def reference(self, output: str) -> str | None:
        """Return the tensor of a batch that an output is compared with: the one of the same axes that is no input."""
        axes = self.outputs[output].axes
        return next((n for n, other in self.batch.items() if n not in self.inputs and other.axes == axes), None)

    @property
    def signal(self) -> str:
        """Name the input that one can listen to; empty where the task hears nothing."""
        return next((name for name in self.inputs if self.batch[name].is_waveform), "")

    def metric(self, name: str) -> Metric | None:
        """Find a metric by its name as it is logged, with or without ``stage/``; None where the task has none."""
        bare = name.rpartition("/")[2]
        exact = next((metric for metric in self.metrics if metric.name == bare), None)
        return exact or next((m for m in self.metrics if m.parts and bare.startswith(f"{m.name}_")), None)


def find(dotted_name: str) -> Any:
    """Import the object of a dotted name in a specification, ``package.module.name``."""
    module, _, name = dotted_name.rpartition(".")
    return getattr(importlib.import_module(module), name)


def load_spec(dotted_name: str, trusted_prefixes: Iterable[str] | None = ()) -> TaskSpec:
    """Load the specification that a configuration names as ``task.spec``.

    Args:
        dotted_name: from a configuration, perhaps one that a checkpoint or a run folder brought along.
        trusted_prefixes: packages beside ours that may be imported (``extras.trusted_targets`` of the user's own
            configuration, never of a checkpoint).

    Raises:
        ConfigError: the name is not trusted, does not exist, or is no specification.
    """
    from hydra_preflight.errors import ConfigError
    from hydra_preflight.whitelist import clean_prefixes, has_prefix

    package = str(dotted_name).split(".")[0]
    if not has_prefix(str(dotted_name), (__name__.split(".")[0], *clean_prefixes(trusted_prefixes or ()))):
        raise ConfigError(
            f"task.spec: {dotted_name} may not be imported: its package is not trusted. If you trust it, say so: "
            f"extras.trusted_targets=[{package}]"
        )
    try:
        found = find(dotted_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"task.spec: {dotted_name} does not exist: {error}") from error
    if not isinstance(found, TaskSpec):
        raise ConfigError(f"task.spec: {dotted_name} is a {type(found).__name__}, not a TaskSpec (hydraudio.core.spec)")
    return found
