"""The listening page: a local web page around a `Session`, and serving it on this machine."""

from __future__ import annotations

import logging
import random
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeGuard

import gradio as gr
from starlette.middleware import Middleware

from hydraudio.report.listen.cards import facts_card, head, heard_card, problem_card
from hydraudio.report.listen.corpus import MAX_FOUND, Corpus
from hydraudio.report.listen.guard import LocalOnly, temporary_folders
from hydraudio.report.listen.listening import Heard
from hydraudio.report.listen.session import AS_TRAINED, Session
from hydraudio.report.page import render
from hydraudio.report.tables import count

log = logging.getLogger(__name__)

MAX_UPLOAD_BYTES = 1_000_000_000
"""Of a recording: half an hour in stereo at 48 kHz and 32 bits takes 0.7 GB."""
N_KEPT = 8
"""Results whose sound stays on disk; older ones fall silent."""

ALL_GROUPS = "all"
_FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "DejaVu Sans", "sans-serif")
_MONO = ("ui-monospace", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")
_PAGE_CSS = """
.gradio-container{max-width:1400px!important;width:100%;margin:0 auto!important}
#title h1{font-size:22px;margin:6px 0 0}#title p{margin:0;opacity:.75}
#controls{min-width:330px!important;max-width:390px}
#controls .facts{padding:0 4px}
#controls input[role=listbox],#controls input[aria-expanded]{padding-right:24px;text-overflow:ellipsis}
#result{min-height:420px}
#run-item,#run-file{background:var(--button-primary-background-fill);color:var(--button-primary-text-color)}
"""


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
            gr.Markdown("# Listen\nWhat a network makes of a sound, beside what it should be.", elem_id="title")
            with gr.Row(equal_height=False):
                with gr.Column(scale=1, elem_id="controls"):
                    choice = self._build_checkpoint()
                    with gr.Tabs():
                        with gr.Tab("Corpus"):
                            corpus, item, run_item = self._build_corpus()
                        with gr.Tab("Your recording"):
                            recording, run_file = self._build_recording()
                with gr.Column(scale=3):
                    result = gr.HTML(render("listening.html", "start"), elem_id="result")
            self._connect_choices(page, choice, corpus, item)
            run_item.click(
                self.on_run_item,
                [
                    choice["checkpoint"],
                    *(corpus[key] for key in ("name", "root", "problem")),
                    item["group"],
                    item["number"],
                ],
                result,
                show_progress_on=result,
                api_name="run_item",
            )
            run_file.click(
                self.on_run_file,
                [choice["checkpoint"], recording],
                result,
                show_progress_on=result,
                api_name="run_file",
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
            group = _choice([], label="Group", elem_id="group", min_width=110)
        search = gr.Textbox(label="Search", placeholder="part of an id", elem_id="search")
        number = _choice([], label="Item", elem_id="item")
        with gr.Row():
            surprise = gr.Button("Any item", elem_id="surprise", scale=1, min_width=90)
            button = gr.Button("Run", elem_id="run-item", scale=2, min_width=120)
        with gr.Accordion("Another corpus", open=False):
            name = _choice([AS_TRAINED], value=AS_TRAINED, label="Corpus", elem_id="corpus")
            root = gr.Textbox(
                label="Folder", placeholder="as configured", info="Enter loads it.", elem_id="root", submit_btn=False
            )
        message = gr.HTML(elem_id="corpus-message")
        corpus = {"name": name, "root": root, "problem": problem, "message": message}
        return corpus, {"group": group, "search": search, "surprise": surprise, "number": number}, button

    def _build_recording(self) -> tuple[gr.Audio, gr.Button]:
        recording = gr.Audio(
            sources=["upload", "microphone"],
            type="filepath",
            label="Drop a file, or record",
            elem_id="recording",
            buttons=[],
        )
        return recording, gr.Button("Run", elem_id="run-file")

    def _connect_choices(
        self, page: gr.Blocks, choice: dict[str, Any], corpus: dict[str, Any], item: dict[str, Any]
    ) -> None:
        where = [choice["checkpoint"], corpus["name"], corpus["root"], corpus["problem"]]
        items = [item["group"], item["number"]]
        opened = [choice["facts"], corpus["name"], corpus["problem"], *items, corpus["message"]]
        for event in (page.load, choice["refresh"].click):
            event(self.on_refresh, choice["checkpoint"], [choice["checkpoint"], choice["facts"]]).success(
                self.on_checkpoint, where[:3], opened
            )
        choice["checkpoint"].input(self.on_checkpoint, where[:3], opened)
        for event in (corpus["name"].input, corpus["root"].submit):
            event(self.on_checkpoint, where[:3], opened)
        corpus["problem"].input(self.on_problem, where, [*items, corpus["message"]])
        found = [item["number"], corpus["message"]]
        for event in (item["group"].input, item["search"].input):
            event(self.on_search, [*where, *items, item["search"]], found, show_progress="hidden")
        item["surprise"].click(self.on_surprise, [*where, item["group"]], found, show_progress="hidden")

    def on_refresh(self, chosen: str | None) -> tuple[Any, Any]:
        """The checkpoints there are; keeps the choice if it still exists."""
        entries, unreadable = self.session.checkpoints()
        choices = [(entry.label, str(entry.path)) for entry in entries]
        values = [value for _, value in choices]
        facts = "" if entries else problem_card(_no_checkpoints(self.session, unreadable))
        value = chosen if chosen in values else next(iter(values), None)
        return gr.Dropdown(choices=choices, value=value), facts

    def on_checkpoint(self, path: str | None, name: str, root: str) -> tuple[Any, ...]:
        """Open a checkpoint and the corpus, and offer its corpora, problems, groups and items."""
        nothing = [gr.Dropdown(choices=[], value=None)] * 3
        if not path:
            return gr.skip(), gr.skip(), *nothing, ""
        try:
            facts, corpora = self._facts(path), self.session.corpora(path)
        except Exception as error:
            return problem_card(explain(error)), gr.skip(), *nothing, ""
        name = name if name in corpora else AS_TRAINED
        offered = gr.Dropdown(choices=corpora, value=name)
        try:
            corpus = self.session.corpus(path, name, root)
            problems = self.session.problems(path, name, root)
        except Exception as error:
            return facts, offered, *nothing, problem_card(explain(error))
        problem = gr.Dropdown(choices=problems, value=corpus.problem, visible=bool(problems))
        return facts, offered, problem, *self._offer(path, corpus), ""

    def on_problem(self, path: str | None, name: str, root: str, problem: str | None) -> tuple[Any, Any, Any]:
        """Offers the groups and items of another problem."""
        try:
            return *self._offer(_chosen(path), self.session.corpus(_chosen(path), name, root, problem)), ""
        except Exception as error:
            empty = gr.Dropdown(choices=[], value=None)
            return empty, empty, problem_card(explain(error))

    def _offer(self, path: str, corpus: Corpus) -> tuple[Any, Any]:
        """The groups, the first one chosen, and its items."""
        groups, label = [*corpus.groups, ALL_GROUPS], self.session.open(path).spec.group.capitalize()
        choice = gr.Dropdown(choices=groups, value=groups[0], label=label or "Group", visible=len(groups) > 1)
        return choice, _items(corpus, groups[0], "")

    def on_search(
        self, path: str | None, name: str, root: str, problem: str | None, group: str, number: int | None, text: str
    ) -> tuple[Any, str]:
        """Offers the items of a group whose id contains the text; stays with the recording that was chosen."""
        try:
            corpus = self.session.corpus(_chosen(path), name, root, problem)
            return _items(corpus, group, text, corpus.items[number][0] if _is_item(number, corpus) else None), ""
        except Exception as error:
            return gr.skip(), problem_card(explain(error))

    def on_surprise(self, path: str | None, name: str, root: str, problem: str | None, group: str) -> tuple[Any, str]:
        """Choose any item of a group."""
        try:
            corpus = self.session.corpus(_chosen(path), name, root, problem)
            found = corpus.find(None if group == ALL_GROUPS else group, limit=None)
            if not found:
                raise ValueError(f"there is no item in {group}; choose another one")
            return _items(corpus, group, "", corpus.items[random.choice(found)][0]), ""
        except Exception as error:
            return gr.skip(), problem_card(explain(error))

    def on_run_item(
        self, path: str | None, name: str, root: str, problem: str | None, group: str | None, number: int | None
    ) -> str:
        """Run the chosen item in the chosen group."""

        def run() -> Heard:
            corpus = self.session.corpus(_chosen(path), name, root, problem)
            return self.session.hear_item(_chosen(path), corpus, _in_group(corpus, group, number))

        return self._show(run)

    def on_run_file(self, path: str | None, recording: str | None, progress: gr.Progress = gr.Progress()) -> str:  # noqa: B008
        """Run what was dropped or recorded."""

        def run() -> Heard:
            if recording is None:
                raise ValueError("there is no recording; drop a file on the field above the button, or record one")
            return self.session.hear_file(_chosen(path), recording, lambda done: progress(done))

        return self._show(run)

    def _show(self, run: Callable[[], Heard]) -> str:
        try:
            return heard_card(run(), self._keep_sound(uuid.uuid4().hex))
        except Exception as error:
            return problem_card(explain(error))

    def _keep_sound(self, name: str) -> Callable[[str, bytes], str]:
        """Write players' sound into a folder of its own and give the server's address of it."""
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
        parts = task.networks().values()
        n_parameters = sum(parameter.numel() for part in parts for parameter in part.parameters())
        entries, _ = self.session.checkpoints()
        score = next((entry.score for entry in entries if str(entry.path) == path), "")
        facts = [
            ("Task", task.spec.name.capitalize()),
            ("Network", ", ".join(type(part).__name__ for part in parts)),
            ("Parameters", count(n_parameters)),
            *((_name(attribute), _text(attribute, getattr(task, attribute))) for attribute in task.spec.agree),
            ("Score", f"{score} (validation)" if score else ""),
            ("Device", str(self.session.device)),
        ]
        return facts_card([(name, text) for name, text in facts if text])


def _name(attribute: str) -> str:
    """Of an attribute in which corpus and network agree: Classes for n_classes."""
    return attribute.removeprefix("n_").replace("_", " ").capitalize()


def _text(attribute: str, value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return f"{value} Hz" if attribute == "sample_rate" else str(value)


def serve(
    session: Session, announce: Callable[[str], None], port: int | None = None, open_browser: bool = False
) -> None:
    """Serve the page on 127.0.0.1 and return when it is stopped with Ctrl-C.

    Args:
        session: what the page shows; it is closed at the end.
        announce: told the address as soon as the page can be loaded.
        port: None takes the first free one from 7860.
        open_browser: show the page at once.

    Raises:
        OSError: the port is taken.
    """
    with temporary_folders() as sound_dir:
        page = Page(session, sound_dir).build()
        _, address, _ = page.launch(
            server_name="127.0.0.1",
            server_port=port,
            share=False,
            inbrowser=open_browser,
            quiet=True,
            show_error=True,
            ssr_mode=False,
            prevent_thread_lock=True,
            allowed_paths=[str(sound_dir)],
            max_file_size=MAX_UPLOAD_BYTES,
            app_kwargs={"middleware": [Middleware(LocalOnly)]},
            footer_links=[],
            theme=gr.themes.Base(primary_hue="blue", neutral_hue="slate", font=_FONT, font_mono=_MONO),
            css=_PAGE_CSS,
            head=head(),
        )
        announce(address)
        page.block_thread()
    session.close()


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
    return f"There is no checkpoint below {session.log_dir}; `make train` makes one.{reasons}"


def _items(corpus: Corpus, group: str, text: str, item_id: str | None = None) -> Any:
    """The items to choose from; the one of that id is chosen if there is one."""
    found = corpus.find(None if group == ALL_GROUPS else group, text)
    ending = " · {}" if group == ALL_GROUPS else ""
    choices = [(corpus.items[number][0] + ending.format(corpus.items[number][1]), number) for number in found]
    n_found = f"{MAX_FOUND} and more" if len(found) == MAX_FOUND else str(len(found))
    same = (number for number in found if corpus.items[number][0] == item_id)
    value = next(same, found[0] if found else None)
    return gr.Dropdown(choices=choices, value=value, label=f"Item ({n_found})")


def _is_item(number: Any, corpus: Corpus) -> TypeGuard[int]:
    """Whether a dropdown's value is one of the items, not nothing or what somebody typed."""
    return isinstance(number, int) and 0 <= number < len(corpus.items)


def _in_group(corpus: Corpus, group: str | None, number: int | None) -> int:
    """The item of this recording in the group that the page shows, which may be a moment ahead of the items."""
    if not _is_item(number, corpus):
        raise ValueError("no item is chosen; choose one under Item")
    item_id, its_group = corpus.items[number]
    if group in (None, ALL_GROUPS, its_group):
        return number
    if (item_id, group) not in corpus.items:
        raise ValueError(f"{item_id} does not exist as {group}; choose another item")
    return corpus.items.index((item_id, group))
