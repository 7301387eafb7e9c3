"""The listening page: a local web page around a `Session`."""

from __future__ import annotations

import logging
import random
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeGuard

import gradio as gr

from hydraudio.report.listen.cards import facts_card, problem_card, separation_card
from hydraudio.report.listen.corpus import MAX_FOUND, Corpus
from hydraudio.report.listen.session import AS_TRAINED, Separation, Session
from hydraudio.report.tables import count

log = logging.getLogger(__name__)

N_KEPT = 8
"""Separations whose sound stays on disk; older ones fall silent."""

_START = (
    '<div class="listening"><div class="ls-hint">Choose an item and press <b>Separate</b>, or bring a recording of '
    "your own.</div></div>"
)
ALL_VARIANTS = "all"


class Page:
    """The page's callbacks; every one turns a user's error into a message in the page.

    Args:
        session: what the page shows.
        sound_dir: folder for the sound of the players; must be one that the server gives out.
    """

    def __init__(self, session: Session, sound_dir: Path) -> None:
        self.session = session
        self.sound_dir = sound_dir
        self._kept: list[Path] = []

    def build(self) -> gr.Blocks:
        """The page with all its events."""
        with gr.Blocks(title="Listen · Hydraudio", analytics_enabled=False) as page:
            gr.Markdown("# Listen\nWhat a network makes of a mixture, beside what it should be.", elem_id="title")
            with gr.Row(equal_height=False):
                with gr.Column(scale=1, elem_id="controls"):
                    choice = self._build_checkpoint()
                    with gr.Tabs():
                        with gr.Tab("Corpus"):
                            corpus, item, separate_item = self._build_corpus()
                        with gr.Tab("Your recording"):
                            recording, separate_file = self._build_recording()
                with gr.Column(scale=3):
                    result = gr.HTML(_START, elem_id="result")
            self._connect_choices(page, choice, corpus, item)
            separate_item.click(
                self.on_separate_item,
                [
                    choice["checkpoint"],
                    *(corpus[key] for key in ("name", "root", "problem")),
                    item["variant"],
                    item["number"],
                ],
                result,
                show_progress_on=result,
                api_name="separate_item",
            )
            separate_file.click(
                self.on_separate_file,
                [choice["checkpoint"], recording],
                result,
                show_progress_on=result,
                api_name="separate_file",
            )
        return page

    def _build_checkpoint(self) -> dict[str, Any]:
        checkpoint = _choice([], label="Checkpoint", elem_id="checkpoint", filterable=True)
        facts = gr.HTML(elem_id="facts")
        refresh = gr.Button("Look for checkpoints again", size="sm", elem_id="refresh")
        return {"checkpoint": checkpoint, "facts": facts, "refresh": refresh}

    def _build_corpus(self) -> tuple[dict[str, Any], dict[str, Any], gr.Button]:
        with gr.Row():
            problem = _choice([], label="Problem", elem_id="problem", min_width=110)
            variant = _choice([], label="Variant", elem_id="variant", min_width=110)
        search = gr.Textbox(label="Search", placeholder="part of an id", elem_id="search")
        number = _choice([], label="Item", elem_id="item")
        with gr.Row():
            surprise = gr.Button("Any item", elem_id="surprise", scale=1, min_width=90)
            button = gr.Button("Separate", variant="primary", elem_id="separate-item", scale=2, min_width=120)
        with gr.Accordion("Another corpus", open=False):
            name = _choice(self.session.corpora(), value=AS_TRAINED, label="Corpus", elem_id="corpus")
            root = gr.Textbox(
                label="Folder", placeholder="as configured", info="Enter loads it.", elem_id="root", submit_btn=False
            )
        message = gr.HTML(elem_id="corpus-message")
        corpus = {"name": name, "root": root, "problem": problem, "message": message}
        return corpus, {"variant": variant, "search": search, "surprise": surprise, "number": number}, button

    def _build_recording(self) -> tuple[gr.Audio, gr.Button]:
        recording = gr.Audio(
            sources=["upload", "microphone"],
            type="filepath",
            label="Drop a file, or record",
            elem_id="recording",
            buttons=[],
        )
        return recording, gr.Button("Separate", variant="primary", elem_id="separate-file")

    def _connect_choices(
        self, page: gr.Blocks, choice: dict[str, Any], corpus: dict[str, Any], item: dict[str, Any]
    ) -> None:
        where = [choice["checkpoint"], corpus["name"], corpus["root"], corpus["problem"]]
        items = [item["variant"], item["number"]]
        opened = [choice["facts"], corpus["problem"], *items, corpus["message"]]
        for event in (page.load, choice["refresh"].click):
            event(self.on_refresh, choice["checkpoint"], [choice["checkpoint"], choice["facts"]]).success(
                self.on_checkpoint, where[:3], opened
            )
        choice["checkpoint"].input(self.on_checkpoint, where[:3], opened)
        for event in (corpus["name"].input, corpus["root"].submit):
            event(self.on_checkpoint, where[:3], opened)
        corpus["problem"].input(self.on_problem, where, [*items, corpus["message"]])
        found = [item["number"], corpus["message"]]
        for event in (item["variant"].input, item["search"].input):
            event(self.on_search, [*where, *items, item["search"]], found, show_progress="hidden")
        item["surprise"].click(self.on_surprise, [*where, item["variant"]], found, show_progress="hidden")

    def on_refresh(self, chosen: str | None) -> tuple[Any, Any]:
        """The checkpoints there are; keeps the choice if it still exists."""
        entries, unreadable = self.session.checkpoints()
        choices = [(entry.label, str(entry.path)) for entry in entries]
        values = [value for _, value in choices]
        facts = "" if entries else problem_card(_no_checkpoints(self.session, unreadable))
        value = chosen if chosen in values else next(iter(values), None)
        return gr.Dropdown(choices=choices, value=value), facts

    def on_checkpoint(self, path: str | None, name: str, root: str) -> tuple[Any, ...]:
        """Opens a checkpoint and the corpus, and offers its problems, variants and items."""
        empty = gr.Dropdown(choices=[], value=None)
        if not path:
            return gr.skip(), empty, empty, empty, ""
        try:
            facts = self._facts(path)
        except Exception as error:
            return problem_card(explain(error)), empty, empty, empty, ""
        try:
            corpus = self.session.corpus(path, name, root)
            problems = self.session.problems(path, name, root)
        except Exception as error:
            return facts, empty, empty, empty, problem_card(explain(error))
        problem = gr.Dropdown(choices=problems, value=corpus.problem, visible=bool(problems))
        return facts, problem, *_offer(corpus), ""

    def on_problem(self, path: str | None, name: str, root: str, problem: str | None) -> tuple[Any, Any, Any]:
        """Offers the variants and items of another problem."""
        try:
            return *_offer(self.session.corpus(_chosen(path), name, root, problem)), ""
        except Exception as error:
            empty = gr.Dropdown(choices=[], value=None)
            return empty, empty, problem_card(explain(error))

    def on_search(
        self, path: str | None, name: str, root: str, problem: str | None, variant: str, number: int | None, text: str
    ) -> tuple[Any, str]:
        """Offers the items of a variant whose id contains the text; stays with the recording that was chosen."""
        try:
            corpus = self.session.corpus(_chosen(path), name, root, problem)
            return _items(corpus, variant, text, corpus.items[number][0] if _is_item(number, corpus) else None), ""
        except Exception as error:
            return gr.skip(), problem_card(explain(error))

    def on_surprise(self, path: str | None, name: str, root: str, problem: str | None, variant: str) -> tuple[Any, str]:
        """Chooses any item of a variant."""
        try:
            corpus = self.session.corpus(_chosen(path), name, root, problem)
            found = corpus.find(None if variant == ALL_VARIANTS else variant, limit=None)
            if not found:
                raise ValueError(f"there is no item in variant {variant}; choose another variant")
            return _items(corpus, variant, "", corpus.items[random.choice(found)][0]), ""
        except Exception as error:
            return gr.skip(), problem_card(explain(error))

    def on_separate_item(
        self, path: str | None, name: str, root: str, problem: str | None, variant: str | None, number: int | None
    ) -> str:
        """Separates the chosen item in the chosen variant."""

        def separate() -> Separation:
            corpus = self.session.corpus(_chosen(path), name, root, problem)
            return self.session.separate_item(_chosen(path), corpus, _in_variant(corpus, variant, number))

        return self._show(separate)

    def on_separate_file(self, path: str | None, recording: str | None, progress: gr.Progress = gr.Progress()) -> str:  # noqa: B008
        """Separates what was dropped or recorded."""

        def separate() -> Separation:
            if recording is None:
                raise ValueError("there is no recording; drop a file on the field above the button, or record one")
            return self.session.separate_file(_chosen(path), recording, lambda done: progress(done))

        return self._show(separate)

    def _show(self, separate: Callable[[], Separation]) -> str:
        try:
            return separation_card(separate(), self._keep_sound(uuid.uuid4().hex))
        except Exception as error:
            return problem_card(explain(error))

    def _keep_sound(self, name: str) -> Callable[[str, bytes], str]:
        """Writes players' sound into a folder of its own and gives the server's address of it."""
        folder = self.sound_dir / name
        folder.mkdir(parents=True)
        self._kept.append(folder)
        while len(self._kept) > N_KEPT:
            shutil.rmtree(self._kept.pop(0))

        def address(sound: str, wav: bytes) -> str:
            (folder / f"{sound}.wav").write_bytes(wav)
            return f"/gradio_api/file={folder / f'{sound}.wav'}"

        return address

    def _facts(self, path: str) -> str:
        task = self.session.open(path)
        n_parameters = sum(parameter.numel() for parameter in task.net.parameters())
        entries, _ = self.session.checkpoints()
        score = next((entry.score for entry in entries if str(entry.path) == path), "")
        facts = [
            ("Network", type(task.net).__name__),
            ("Parameters", count(n_parameters)),
            ("Sources", str(task.n_sources)),
            ("Sample rate", f"{task.sample_rate} Hz"),
            *([("Score", f"{score} (validation)")] if score else []),
            ("Device", str(self.session.device)),
        ]
        return facts_card(facts)


def explain(error: BaseException) -> str:
    """What a user can do about an error; what is nobody's mistake but ours also goes to the log, with a traceback."""
    cause: BaseException | None = error
    while cause is not None:  # instantiating from a configuration wraps the error of the class
        if isinstance(cause, (ValueError, OSError, ModuleNotFoundError)):
            return str(cause)
        cause = cause.__cause__
    log.error("The page shows: %s", error, exc_info=error)
    return f"{type(error).__name__}: {error}\nThe whole story is in the terminal."


def _choice(choices: list[str], **settings: Any) -> gr.Dropdown:
    """A dropdown whose value is checked by the callbacks alone.

    Gradio would refuse a value that is not among the latest choices, which a quick user hits when they have just
    changed; the callbacks know better what to make of it.
    """
    return gr.Dropdown(choices, allow_custom_value=True, **settings)


def _chosen(path: str | None) -> str:
    if not path:
        raise ValueError("no checkpoint is chosen; train one, then look for checkpoints again")
    return path


def _no_checkpoints(session: Session, unreadable: dict[Path, str]) -> str:
    reasons = "".join(f"\n{reason}" for reason in unreadable.values())
    return f"There is no checkpoint of a separation network below {session.log_dir}; `make train` makes one.{reasons}"


def _offer(corpus: Corpus) -> tuple[Any, Any]:
    """The variants, the first one chosen, and its items."""
    variants = [*corpus.variants, ALL_VARIANTS]
    return gr.Dropdown(choices=variants, value=variants[0]), _items(corpus, variants[0], "")


def _items(corpus: Corpus, variant: str, text: str, item_id: str | None = None) -> Any:
    """The items to choose from; the one of that id is chosen if there is one."""
    found = corpus.find(None if variant == ALL_VARIANTS else variant, text)
    ending = " · {}" if variant == ALL_VARIANTS else ""
    choices = [(corpus.items[number][0] + ending.format(corpus.items[number][1]), number) for number in found]
    n_found = f"{MAX_FOUND} and more" if len(found) == MAX_FOUND else str(len(found))
    same = (number for number in found if corpus.items[number][0] == item_id)
    value = next(same, found[0] if found else None)
    return gr.Dropdown(choices=choices, value=value, label=f"Item ({n_found})")


def _is_item(number: Any, corpus: Corpus) -> TypeGuard[int]:
    """Whether a dropdown's value is one of the items, not nothing or what somebody typed."""
    return isinstance(number, int) and 0 <= number < len(corpus.items)


def _in_variant(corpus: Corpus, variant: str | None, number: int | None) -> int:
    """The item of this recording in the variant that the page shows, which may be a moment ahead of the items."""
    if not _is_item(number, corpus):
        raise ValueError("no item is chosen; choose one under Item")
    item_id, its_variant = corpus.items[number]
    if variant in (None, ALL_VARIANTS, its_variant):
        return number
    if (item_id, variant) not in corpus.items:
        raise ValueError(f"{item_id} does not exist as {variant}; choose another item")
    return corpus.items.index((item_id, variant))
