"""One row of a built corpus: what is drawn, cut, reverberated, scaled and written."""

from __future__ import annotations

from typing import Any

import numpy as np

from hydraudio.sounds.rooms import draw_room, wet_signals
from hydraudio.sounds.shoebox import draw_shoebox
from hydraudio.tasks.separation.corpora.polsess.builder.excerpts import cut_event, cut_scene, cut_speech
from hydraudio.tasks.separation.corpora.polsess.builder.plan import (
    BuildConfig,
    Plan,
    Pool,
    event_classes,
    make_generator,
)
from hydraudio.tasks.separation.corpora.polsess.builder.sources import voice_of
from hydraudio.tasks.separation.corpora.polsess.layout import (
    OUTDOOR_COLUMNS,
    SUBSETS,
    Levels,
    Value,
    draw_file_names,
    name_parts,
    reverb_columns,
    set_levels,
    table_row,
    write_row,
)


def make_row(plan: Plan, job: tuple[str, int]) -> dict[str, Value]:
    """Make and write one row; return its line of the table."""
    subset, row = job
    config, pool = plan.config, plan.pools[subset]
    rng = make_generator(config, 6, SUBSETS.index(subset), row)
    indoor = config.is_indoor(row)
    place = "indoor" if indoor else "outdoor"
    names = draw_file_names(rng, indoor=indoor)
    first, second = _draw_talkers(config, pool, rng)
    scene_class = _pick(list(pool.scenes[place]), rng)
    event_class = _pick(event_classes(plan, pool, scene_class), rng)
    levels = Levels.draw(config.ssr_db, config.scene_db, config.event_db, rng)
    size = (config.n_samples, config.sample_rate)
    speech1 = cut_speech(pool.talkers[first], *size, rng)
    speech2 = cut_speech(pool.talkers[second], *size, rng)
    scene = cut_scene(_pick(pool.scenes[place][scene_class], rng), *size, rng)
    event = cut_event(_pick(pool.events[event_class], rng), *size, rng)
    dry = (speech1.waveform, speech2.waveform, event.waveform)
    wet, reverb = _reverb(config, dry, rng) if indoor else ([], OUTDOOR_COLUMNS)
    parts, scene_gain = set_levels(name_parts(dry[0], dry[1], scene.waveform, dry[2], *wet), levels)
    write_row(plan.root, subset, names, parts, config.sample_rate)
    excerpts = {"speech1": speech1, "speech2": speech2, "scene": scene, "event": event}
    sources = {part: (excerpt.name, excerpt.start, excerpt.end) for part, excerpt in excerpts.items()}
    columns = {**names, "sceneClass": scene_class, "eventClass": event_class, **reverb}
    return table_row(subset, sources, levels, config.scene_db, scene_gain, columns)


def _pick(items: list[Any], rng: np.random.Generator) -> Any:
    return items[int(rng.integers(len(items)))]


def _draw_talkers(config: BuildConfig, pool: Pool, rng: np.random.Generator) -> tuple[str, str]:
    """Two talkers that are not, and do not sound like, one person."""
    voices = {talker: voice_of(talker, config.never_pair_prefixes) for talker in pool.talkers}
    first = _pick([talker for talker in voices if len(set(voices.values()) - {voices[talker]}) > 0], rng)
    second = _pick([talker for talker in voices if voices[talker] != voices[first]], rng)
    return first, second


def _reverb(
    config: BuildConfig, dry: tuple[np.ndarray, np.ndarray, np.ndarray], rng: np.random.Generator
) -> tuple[list[np.ndarray], dict[str, Value]]:
    if config.room == "synthetic":
        room = draw_room(config.sample_rate, rng)
        return wet_signals(room, dry, config.sample_rate, rng), reverb_columns(room)
    shoebox = draw_shoebox(config.rt60_s, config.distance_m, config.sample_rate, rng)
    return shoebox.wet(dry), reverb_columns(shoebox.as_room())
