"""Serving the listening page on this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import gradio as gr

from hydraudio.report.listen.page import Page
from hydraudio.report.listen.session import Session
from hydraudio.report.listen.style import CSS, SCRIPT

_FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "DejaVu Sans", "sans-serif")
_MONO = ("ui-monospace", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")
_PAGE_CSS = """
.gradio-container{max-width:1400px!important;width:100%;margin:0 auto!important}
#title h1{font-size:22px;margin:6px 0 0}#title p{margin:0;opacity:.75}
#controls{min-width:330px!important;max-width:390px}
#controls .ls-facts{padding:0 4px}
#controls input[role=listbox],#controls input[aria-expanded]{padding-right:24px;text-overflow:ellipsis}
#result{min-height:420px}
#run-item,#run-file{background:var(--button-primary-background-fill);color:var(--button-primary-text-color)}
"""


def serve(
    session: Session, announce: Callable[[str], None], port: int | None = None, open_browser: bool = False
) -> None:
    """Serves the page on 127.0.0.1 and returns when it is stopped with Ctrl-C.

    Args:
        session: what the page shows; it is closed at the end.
        announce: told the address as soon as the page can be loaded.
        port: None takes the first free one from 7860.
        open_browser: show the page at once.

    Raises:
        OSError: the port is taken.
    """
    with tempfile.TemporaryDirectory(prefix="hydraudio_listen_") as folder:
        sound_dir = Path(folder).resolve()
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
            footer_links=[],
            theme=gr.themes.Base(primary_hue="blue", neutral_hue="slate", font=_FONT, font_mono=_MONO),
            css=CSS + _PAGE_CSS,
            head=f"<script>{SCRIPT}</script>",
        )
        announce(address)
        page.block_thread()
    session.close()
