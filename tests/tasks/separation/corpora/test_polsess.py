"""The datamodule: items, draws, selection, batches and the two kinds of store."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from hydraudio.core.generated import EmbeddedCorpus
from hydraudio.tasks.separation.corpora.mixtures import collate
from hydraudio.tasks.separation.corpora.polsess import layout as polsess_format
from hydraudio.tasks.separation.corpora.polsess import mm_ipc
from hydraudio.tasks.separation.corpora.polsess.datamodule import PolSESSDataModule
from hydraudio.tasks.separation.corpora.polsess.dataset import PolSESSDataset
from hydraudio.tasks.separation.corpora.polsess.index import WavStore
from hydraudio.tasks.separation.corpora.polsess.pack import pack_corpus

PROBLEMS = ("ES", "EB", "SB")
ROOMS = [(True, name) for name in mm_ipc.INDOOR_VARIANTS]
ROOMS += [(False, name) for name in mm_ipc.OUTDOOR_VARIANTS]
INPUTS = {
    "ES": (0.24, 0.13, 0.17, 0.06, 0.05, 0.20, 0.12, 0.13, 0.05),
    "EB": (0.32, 0.21, 0.25, 0.14, 0.11, 0.26, 0.18, 0.19, 0.11),
    "SB": (0.32, 0.21, 0.25, 0.14, 0.11, 0.26, 0.18, 0.19, 0.11),
}
TARGETS = {"ES": [0.05], "EB": [0.11], "SB": [0.05, 0.06]}


def module(root: Path, stage: str = "fit", **options: Any) -> PolSESSDataModule:
    made = PolSESSDataModule(root=str(root), **options)
    made.prepare_data()
    made.setup(stage)
    return made


def items(dataset: PolSESSDataset, epoch: int = 0) -> list[dict[str, Any]]:
    return [dataset[epoch, index] for index in range(len(dataset))]


def assert_equal(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert first.keys() == second.keys()
    for key, value in first.items():
        same = torch.equal if isinstance(value, torch.Tensor) else np.array_equal
        assert same(value, second[key]), key


@pytest.mark.parametrize("construction", ["auto", "subtract", "add"])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_oracle_table_from_files(constant_root: Path, problem: str, construction: str) -> None:
    test_set = module(constant_root, "test", problem=problem, construction=construction).datasets["test"]
    found = {}
    for item in items(test_set):
        found[item["metadata"]["indoor"], item["variant"]] = item
        assert np.ptp(item["mixture"]) == 0
        assert item["target"][:, 0] == pytest.approx(TARGETS[problem], abs=1e-4)
        assert item["target"].shape == (len(TARGETS[problem]), 800)
        assert item["mixture"].dtype == item["target"].dtype == np.float32
        assert item["degenerate"] == (item["variant"] == "C" and problem != "SB")
    expected = dict(zip(ROOMS, INPUTS[problem], strict=True))
    assert {key: item["mixture"][0] for key, item in found.items()} == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_constructions_agree_up_to_rounding(noisy_root: Path, problem: str) -> None:
    subtracted, added, auto = (
        items(module(noisy_root, "test", problem=problem, construction=name).datasets["test"])
        for name in ("subtract", "add", "auto")
    )
    assert any(not np.array_equal(a["mixture"], b["mixture"]) for a, b in zip(subtracted, added, strict=True))
    for one, other, cheapest in zip(subtracted, added, auto, strict=True):
        assert one["variant"] == other["variant"] == cheapest["variant"]
        np.testing.assert_allclose(one["mixture"], other["mixture"], atol=1e-4)
        np.testing.assert_allclose(cheapest["mixture"], other["mixture"], atol=1e-4)
        np.testing.assert_array_equal(one["target"], other["target"])


def test_item_equals_sum_of_files_read_by_soundfile(noisy_root: Path) -> None:
    dataset = module(noisy_root, "test", problem="ES", construction="add").datasets["test"]
    for item, (row, variant) in zip(items(dataset), dataset.plans.pairs, strict=True):
        names = mm_ipc.kept_parts("ES", variant, bool(dataset.index.indoor[row]))
        parts = [soundfile.read(dataset.index.path(row, name))[0] for name in names]
        np.testing.assert_allclose(item["mixture"], np.sum(parts, axis=0), atol=1e-7)
        np.testing.assert_allclose(item["target"][0], parts[0], atol=1e-7)


@pytest.mark.parametrize(("problem", "position"), itertools.product(PROBLEMS, range(len(ROOMS))))
def test_only_needed_files_are_read(
    noisy_root: Path, monkeypatch: pytest.MonkeyPatch, problem: str, position: int
) -> None:
    indoor, variant = ROOMS[position]
    data = module(noisy_root, allowed_variants=[variant], problem=problem)
    dataset = data.datasets["train"]
    index = next(n for n in range(len(dataset)) if bool(dataset.plans.indoor[n]) == indoor)
    read = []
    original = WavStore.read
    monkeypatch.setattr(
        WavStore, "read", lambda self, row, name, *rest: read.append(name) or original(self, row, name, *rest)
    )
    assert dataset[0, index]["variant"] == variant
    options = [mm_ipc.recipe(problem, variant, indoor, name).files for name in ("subtract", "add")]
    assert len(read) == len(set(read)) == min(map(len, options))
    assert set(read) in [set(files) for files in options]


def test_a_batch_in_testing_reads_each_component_once(noisy_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = module(noisy_root, "test", problem="SB").datasets["test"]
    keys = [(0, index) for index in range(5)]
    assert {dataset.plans.pairs[index][0] for _, index in keys} == {0}
    expected = [dataset[key] for key in keys]
    read = []
    original = WavStore.read
    monkeypatch.setattr(
        WavStore, "read", lambda self, row, name, *rest: read.append(name) or original(self, row, name, *rest)
    )
    for one, other in zip(dataset.__getitems__(keys), expected, strict=True):
        assert_equal(one, other)
    assert len(read) == len(set(read)) <= 8


AUGMENTED: dict[str, Any] = {
    "swap_talkers": 0.5,
    "gain_db": [-6, 3],
    "flip_polarity": 0.5,
    "segment_s": 0.05,
    "variant_weights": {"C": 0.5},
}


def test_draws_depend_on_seed_epoch_and_index_only(noisy_root: Path) -> None:
    first, again, other_seed = (module(noisy_root, seed=seed, **AUGMENTED).datasets["train"] for seed in (0, 0, 1))
    keys = list(itertools.product(range(3), range(len(first))))
    wanted = {key: first[key] for key in keys}
    for key in np.random.default_rng(0).permutation(keys).tolist():
        assert_equal(again[tuple(key)], wanted[tuple(key)])
    plans = {(*key, seed): data.plans(*key) for key in keys for seed, data in enumerate((first, other_seed))}
    gains = [plan.gain for plan in plans.values()]
    assert len(set(gains)) == len(gains)


@pytest.mark.parametrize("stage", ["fit", "test"])
def test_batches_are_equal_for_any_number_of_workers(noisy_root: Path, stage: str) -> None:
    batches = {}
    for num_workers in (0, 2):
        data = module(noisy_root, stage, num_workers=num_workers, batch_size=4, **AUGMENTED)
        loader = data.train_dataloader() if stage == "fit" else data.test_dataloader()
        batches[num_workers] = list(loader)
    assert len(batches[0]) == len(batches[2]) > 1
    for one, other in zip(batches[0], batches[2], strict=True):
        assert_equal(one, other)


def test_variants_vary_over_epochs_with_the_asked_frequencies(noisy_root: Path) -> None:
    dataset = module(noisy_root, variant_weights={"SER": 2.0, "C": 0.0}).datasets["train"]
    plans = [dataset.plans(epoch, index) for epoch in range(400) for index in range(len(dataset))]
    for indoor, expected in ((True, {"SER": 0.4, "SR": 0.2, "ER": 0.2, "R": 0.2}), (False, {})):
        drawn = [plan.variant for plan in plans if bool(dataset.index.indoor[plan.row]) == indoor]
        expected = expected or dict.fromkeys(("SE", "S", "E"), 1 / 3)
        shares = {name: drawn.count(name) / len(drawn) for name in set(drawn)}
        assert shares == pytest.approx(expected, abs=0.04)


def test_turning_one_augmentation_on_leaves_the_other_draws(noisy_root: Path) -> None:
    plain = module(noisy_root).datasets["train"].plans
    louder = module(noisy_root, gain_db=[-6, 6], swap_talkers=1.0).datasets["train"].plans
    for key in itertools.product(range(20), range(len(plain))):
        assert louder(*key).variant == plain(*key).variant


def test_augmentations_do_what_they_say(noisy_root: Path) -> None:
    options: dict[str, Any] = {"allowed_variants": ["SER", "SE"], "construction": "add"}
    plain = items(module(noisy_root, **options).datasets["train"])
    inverted = items(module(noisy_root, flip_polarity=1.0, gain_db=[6, 6], **options).datasets["train"])
    factor = np.float32(-(10 ** (6 / 20)))
    for one, other in zip(plain, inverted, strict=True):
        np.testing.assert_allclose(other["mixture"], factor * one["mixture"], rtol=1e-6)
        np.testing.assert_allclose(other["target"], factor * one["target"], rtol=1e-6)
    swapped = module(noisy_root, swap_talkers=1.0, **options).datasets["train"]
    for row, item in enumerate(items(swapped)):
        expected, _ = soundfile.read(swapped.index.path(row, "sp2"), dtype="float32")
        np.testing.assert_array_equal(item["target"][0], expected)
        assert not np.array_equal(item["mixture"], plain[row]["mixture"])


def test_crops_are_cut_alike_from_input_and_target(noisy_root: Path) -> None:
    whole = module(noisy_root, allowed_variants=["C"]).datasets["train"]
    cropped = module(noisy_root, allowed_variants=["C"], segment_s=0.05).datasets["train"]
    starts = set()
    for epoch, index in itertools.product(range(5), range(len(whole))):
        item, full = cropped[epoch, index], whole[epoch, index]["mixture"]
        start = cropped.plans(epoch, index).starts[0]
        starts.add(start)
        np.testing.assert_array_equal(item["mixture"], full[start : start + 400])
        np.testing.assert_array_equal(item["mixture"], item["target"][0])
        assert item["mixture"].shape == (400,)
    assert len(starts) > 30
    assert min(starts) >= 0
    assert max(starts) <= 400


def test_a_crop_avoids_pauses_of_a_target(make_corpus) -> None:
    root = make_corpus(n_rows={"train": 4, "val": 1})
    for path in (root / "train" / "clean").iterdir():
        signal, rate = soundfile.read(path)
        signal[:500] = 0.0
        soundfile.write(path, signal, rate)
    dataset = module(root, problem="SB", construction="add", segment_s=0.01).datasets["train"]
    silent = [not part.any() for item in items(dataset) for part in item["target"]]
    assert not any(silent)


def test_validation_is_fixed_and_stable_under_filtering(noisy_root: Path) -> None:
    full = module(noisy_root, "validate").datasets["val"]
    for first, second in zip(items(full, 0), items(full, 7), strict=True):
        assert_equal(first, second)
    variants = {item["id"]: item["variant"] for item in items(full)}
    sampled = module(noisy_root, "validate", max_val_samples=3, seed=5).datasets["val"]
    indoor = module(noisy_root, "validate", val_variants=list(mm_ipc.INDOOR_VARIANTS)).datasets["val"]
    assert len(sampled) == 3
    for item in items(sampled):
        assert variants[item["id"]] == item["variant"]
    for item in items(indoor):
        assert not item["metadata"]["indoor"] or variants[item["id"]] == item["variant"]


@pytest.mark.parametrize(
    ("allowed", "rooms"),
    [(["SER", "R"], {True}), (["S"], {False}), (["SER", "SE"], {True, False}), (["C"], {True, False})],
)
def test_rows_without_an_allowed_variant_are_left_out(noisy_root: Path, allowed: list[str], rooms: set[bool]) -> None:
    dataset = module(noisy_root, allowed_variants=allowed).datasets["train"]
    assert len(dataset) == 6 * len(rooms)
    assert {bool(dataset.index.indoor[row]) for row in dataset.plans.rows} == rooms
    assert {item["variant"] for epoch in range(8) for item in items(dataset, epoch)} == set(allowed)


def test_testing_expands_rows_into_variants(noisy_root: Path) -> None:
    dataset = module(noisy_root, "test", allowed_variants=["SER"]).datasets["test"]
    assert len(dataset) == 2 * 5 + 2 * 4
    rows = [row for row, _ in dataset.plans.pairs]
    assert rows == sorted(rows)
    chosen = module(noisy_root, "test", test_variants=["SER", "C"]).datasets["test"]
    assert [variant for _, variant in chosen.plans.pairs] == ["SER", "C", "C", "SER", "C", "C"]


def test_max_samples_is_a_nested_seeded_sample(noisy_root: Path) -> None:
    def rows(seed: int, limit: int | None) -> list[int]:
        return module(noisy_root, max_train_samples=limit, seed=seed).datasets["train"].plans.rows.tolist()

    assert rows(0, None) == rows(0, 99) == list(range(12))
    assert rows(0, 5) == rows(0, 5) == sorted(rows(0, 5))
    assert len(set(rows(0, 5))) == 5
    assert set(rows(0, 3)) < set(rows(0, 5)) < set(rows(0, 8))
    assert len({tuple(rows(seed, 5)) for seed in range(6)}) == 6
    assert any(rows(seed, 5) != list(range(5)) for seed in range(6))


def test_batch_contract(noisy_root: Path) -> None:
    data = module(noisy_root, None, problem="SB", batch_size=3, eval_batch_size=2)
    batch = next(iter(data.train_dataloader()))
    assert batch["mixture"].shape == (3, 800)
    assert batch["target"].shape == (3, 2, 800)
    assert batch["mixture"].dtype == batch["target"].dtype == torch.float32
    assert batch["lengths"].tolist() == [800] * 3
    assert batch["lengths"].dtype == torch.int64
    assert batch["degenerate"].dtype == torch.bool
    assert not batch["degenerate"].any()
    assert len(batch["id"]) == len(batch["variant"]) == 3
    assert "metadata" not in batch
    assert next(iter(data.val_dataloader()))["mixture"].shape == (2, 800)


def test_metadata_from_table_and_files(noisy_root: Path) -> None:
    dataset = module(noisy_root, "validate").datasets["val"]
    for row, item in enumerate(items(dataset)):
        event, first, second = (soundfile.read(dataset.index.path(row, name))[0] for name in ("event", "sp1", "sp2"))
        expected = {
            "indoor": row % 2 == 0,
            "ssr_db": row - 2.0,
            "scene_db": -1.5 * row,
            "event_db": pytest.approx(20 * np.log10(np.std(event) / np.std(first + second)), abs=0.05),
            "scene_class": "metro_station",
        }
        assert item["metadata"] == expected | ({"event_class": "Clapping"} if row % 2 else {})


@pytest.mark.parametrize("problem", PROBLEMS)
def test_packed_equals_unpacked(noisy_root: Path, tmp_path: Path, problem: str) -> None:
    pack_corpus(noisy_root, tmp_path / "packed", 8000, rows_per_shard=4)
    for options in ({}, AUGMENTED):
        plain = module(noisy_root, None, problem=problem, **options)
        packed = module(tmp_path / "packed", None, problem=problem, **options)
        assert packed.fingerprint == plain.fingerprint
        for subset in ("train", "val", "test"):
            pairs = zip(items(plain.datasets[subset]), items(packed.datasets[subset]), strict=True)
            for one, other in pairs:
                assert_equal(one, other)


@pytest.mark.slow
def test_several_processes_pack_and_check_alike(noisy_root: Path, tmp_path: Path) -> None:
    manifests = [
        pack_corpus(noisy_root, tmp_path / str(n), 8000, rows_per_shard=5, n_processes=n).read_text() for n in (1, 2)
    ]
    assert manifests[0] == manifests[1]
    assert module(noisy_root).check(n_processes=2) == module(noisy_root).check() == []


def test_pack_that_does_not_fit_is_refused(make_corpus, tmp_path: Path) -> None:
    root = make_corpus()
    manifest = pack_corpus(root, tmp_path / "packed", 8000)
    with pytest.raises(ValueError, match="packed at 8000 Hz, expected 16000 Hz"):
        module(manifest.parent, sample_rate=16000)
    table = next((manifest.parent / "train").glob("*.csv"))
    table.write_text("\n".join(table.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(ValueError, match="2 rows of group train/outdoor, but 3 are packed"):
        module(manifest.parent)


def test_samples_of_more_than_16_bits_are_not_packed(make_corpus, tmp_path: Path) -> None:
    root = make_corpus()
    path = next((root / "train" / "scene").iterdir())
    signal, rate = soundfile.read(path)
    soundfile.write(path, signal / 3, rate, subtype="PCM_24")
    assert len(module(root).datasets["train"]) == 6
    with pytest.raises(ValueError, match=f"{path.name}: holds more than 16 bits"):
        pack_corpus(root, tmp_path / "packed", 8000)


def test_packed_corpus_in_workers(noisy_root: Path, tmp_path: Path) -> None:
    pack_corpus(noisy_root, tmp_path / "packed", 8000)
    batches = [list(module(tmp_path / "packed", num_workers=n).train_dataloader()) for n in (0, 1)]
    for one, other in zip(*batches, strict=True):
        assert_equal(one, other)


def test_fingerprint_is_of_the_content(make_corpus) -> None:
    first, copy, other = (make_corpus(name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    prints = [module(root).fingerprint for root in (first, copy, other)]
    assert prints[0] == prints[1] != prints[2]


@dataclass(frozen=True, kw_only=True)
class Embedded(EmbeddedCorpus):
    """Stands for the generator of the embedded corpus."""

    fails: bool = False

    def write(self, root: Path) -> None:
        for subset in ("train", "val", "test"):
            polsess_format.make_folders(root, subset)
            names = polsess_format.draw_file_names(np.random.default_rng(self.seed), indoor=False)
            signal = np.random.default_rng(self.seed).uniform(-0.1, 0.1, 100)
            parts = polsess_format.name_parts(signal, signal[::-1], signal, signal)
            polsess_format.write_row(root, subset, names, parts, 8000)
            row = dict.fromkeys(polsess_format.COLUMNS, 1) | names
            polsess_format.write_csv(polsess_format.csv_path(root, subset), [row])
        if self.fails:
            raise KeyboardInterrupt


class StandIn(PolSESSDataModule):
    @classmethod
    def embedded_corpus(cls) -> type[Any]:
        return Embedded


def test_embedded_corpus_is_written_once_per_arguments(tmp_path: Path) -> None:
    def made(**arguments: Any) -> PolSESSDataModule:
        return StandIn(embedded=arguments, data_dir=str(tmp_path))

    data = made(seed=0)
    assert not list(tmp_path.iterdir()), "the constructor writes nothing"
    data.prepare_data()
    stamp = data.root.stat().st_mtime_ns
    made(seed=0).prepare_data()
    assert data.root.stat().st_mtime_ns == stamp
    made(seed=1).prepare_data()
    assert len(list(tmp_path.iterdir())) == 2, "no scratch folders are left"
    data.setup("fit")
    assert len(data.datasets["train"]) == 1


def test_interrupted_embedded_corpus_leaves_nothing(tmp_path: Path) -> None:
    data = StandIn(embedded={"fails": True}, data_dir=str(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        data.prepare_data()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"problem": "XB"}, r"problem='XB' is unknown.*choose one of ES, EB, SB"),
        ({"allowed_variants": ["SRE"]}, "allowed_variants='SRE' is unknown.*did you mean 'SER'"),
        ({"variant_weights": {"SEE": 1.0}}, "variant_weights.*did you mean"),
        ({"variant_weights": {"C": -1.0}}, "not negative"),
        ({"variant_weights": {"C": 1.0}, "allowed_variants": ["SER"]}, "leaves out"),
        ({"variant_weights": {"SER": 0.0}, "allowed_variants": ["SER"]}, "positive weight"),
        ({"construction": "substract"}, "construction='substract' is unknown .did you mean 'subtract'"),
        ({"max_train_samples": 0}, "max_train_samples=0"),
        ({"swap_talkers": 1.5}, "swap_talkers=1.5"),
        ({"flip_polarity": -0.1}, "flip_polarity=-0.1"),
        ({"gain_db": [3, -3]}, "gain_db="),
        ({"segment_s": 0.0}, "segment_s=0.0"),
        ({"root": None}, "either root"),
    ],
)
def test_bad_arguments(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PolSESSDataModule(**({"root": "corpus"} | options))


def test_variants_that_fit_no_row(make_corpus) -> None:
    root = make_corpus(rooms=(False,))
    with pytest.raises(ValueError, match=r"\['SER', 'R'\] fits any row: all rows are outdoor.*SE, S, E, C"):
        module(root, allowed_variants=["SER", "R"])


def test_segment_longer_than_the_clips(noisy_root: Path) -> None:
    with pytest.raises(ValueError, match=r"at most 0.1 s"):
        module(noisy_root, segment_s=0.2)


def test_missing_root(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"set data.root"):
        PolSESSDataModule(root=str(tmp_path / "nowhere")).prepare_data()


def test_partial_corpus_suffices_where_its_files_do(make_corpus) -> None:
    root = make_corpus()
    for folder in ("mix", "scene"):
        for path in (root / "train" / folder).iterdir():
            path.unlink()
    assert len(module(root, allowed_variants=["R", "C"]).datasets["train"]) == 6
    with pytest.raises(FileNotFoundError, match=r"scene.*no such file"):
        module(root, allowed_variants=["SR"])


def test_collate_keeps_the_items(noisy_root: Path) -> None:
    made = items(module(noisy_root, "test").datasets["test"])
    batch = collate(made)
    for position, item in enumerate(made):
        np.testing.assert_array_equal(batch["mixture"][position].numpy(), item["mixture"])
        np.testing.assert_array_equal(batch["target"][position].numpy(), item["target"])
        assert batch["metadata"][position] == item["metadata"]
        assert bool(batch["degenerate"][position]) == item["degenerate"]


def test_training_variants_can_be_set(noisy_root: Path) -> None:
    data = module(noisy_root, None, variant_weights={"C": 0.0, "SER": 3.0})
    before, val = data.datasets["train"], items(data.datasets["val"])
    plans = [before.plans(epoch, index) for epoch in range(3) for index in range(12)]
    data.set_training_variants(["SER", "R"])
    indoor = data.datasets["train"]
    assert len(indoor) == len(data.train_dataloader().dataset) == 6
    drawn = [item["variant"] for epoch in range(60) for item in items(indoor, epoch)]
    assert drawn.count("SER") / len(drawn) == pytest.approx(0.75, abs=0.08)
    assert set(drawn) == {"SER", "R"}
    # what exists, such as the dataset in a worker, is left as it is
    assert [before.plans(epoch, index) for epoch in range(3) for index in range(12)] == plans
    data.set_training_variants(None)
    for one, other in zip(items(data.datasets["train"]), items(before), strict=True):
        assert_equal(one, other)
    for one, other in zip(items(data.datasets["val"]), val, strict=True):
        assert_equal(one, other)


def test_training_variants_before_setup(noisy_root: Path) -> None:
    data = PolSESSDataModule(root=str(noisy_root), allowed_variants=["SER", "SE"], max_train_samples=4)
    data.set_training_variants("SE")
    data.setup("fit")
    assert {item["variant"] for item in items(data.datasets["train"])} == {"SE"}
    assert {item["variant"] for item in items(data.datasets["val"])} == {"SER", "SE"}
    assert len(data.datasets["train"]) == 4
    with pytest.raises(ValueError, match=r"variants R are not among those that data\.allowed_variants.*SER, SE"):
        data.set_training_variants(["SE", "R"])
    with pytest.raises(ValueError, match="did you mean 'SER'"):
        data.set_training_variants(["SRE"])


def test_training_variants_that_fit_no_row(make_corpus) -> None:
    data = module(make_corpus(rooms=(False,)))
    with pytest.raises(ValueError, match=r"\['SER'\] fits any row"):
        data.set_training_variants(["SER"])
