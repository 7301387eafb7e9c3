"""Style and script of the cards, for the page and for notebooks."""

CSS = """
.listening{--ls-text:#1b2130;--ls-muted:#5d6678;--ls-rule:#e1e5eb;--ls-card:#fff;--ls-accent:#2f5fd0;--ls-reference:#1f8f6a;
--ls-input:#6b7484;--ls-bad:#b3382c;--ls-bad-soft:#b3382c14;color:var(--ls-text);font-size:14px;line-height:1.45}
.dark .listening,[data-jp-theme-light="false"] .listening{--ls-text:#e4e8f0;--ls-muted:#98a2b5;--ls-rule:#2c3340;
--ls-card:#1a1f29;--ls-accent:#86a8ff;--ls-reference:#55cba4;--ls-input:#98a2b5;--ls-bad:#ff8a7a;--ls-bad-soft:#ff8a7a1f}
.listening *{box-sizing:border-box}
.listening .ls-muted{color:var(--ls-muted)}
.listening .ls-head{display:flex;flex-wrap:wrap;gap:8px 32px;justify-content:space-between;align-items:flex-end;margin:0 0 14px}
.listening h3{margin:0;font-size:14.5px;font-weight:600;overflow-wrap:anywhere;color:var(--ls-text)}
.listening p{margin:2px 0 0;color:inherit}
.listening .ls-head p{font-size:13px;color:var(--ls-muted)}
.listening .ls-head>div{flex:1 1 440px;min-width:0}
.listening table.ls-scores{border-collapse:collapse;border:0!important;margin:0;width:auto;font-feature-settings:"tnum";font-size:13.5px}
.listening .ls-scores tr{border:0!important;background:none}
.listening .ls-scores th,.listening .ls-scores td{border:0!important;background:none;padding:2px 0 2px 22px;text-align:right;white-space:nowrap;color:var(--ls-text)}
.listening .ls-scores :is(th,td):first-child{padding-left:0}
.listening .ls-scores thead th{font-weight:500;font-size:12px;color:var(--ls-muted)}
.listening .ls-scores tbody th{font-weight:500}
.listening .ls-scores .ls-key{font-weight:700;color:var(--ls-accent)}
.listening .ls-numbers{display:flex;flex-wrap:wrap;gap:8px 40px;margin:0 0 14px}
.listening table.ls-values{border-collapse:collapse;border:0!important;margin:0;width:auto;flex:1 1 380px;font-feature-settings:"tnum";font-size:13px}
.listening .ls-values tr{border:0!important;background:none}
.listening .ls-values th,.listening .ls-values td{border:0!important;background:none;padding:2px 14px 2px 0;text-align:left;white-space:nowrap;color:var(--ls-text);font-weight:400}
.listening .ls-values thead th{font-size:12px;color:var(--ls-muted)}
.listening .ls-values td:nth-child(2){width:100%;min-width:120px}
.listening .ls-values td div{position:relative;height:10px;border-radius:3px;background:var(--ls-rule)}
.listening .ls-values td b{position:absolute;inset:0 auto 0 0;border-radius:3px;background:var(--ls-accent)}
.listening .ls-values td i{position:absolute;top:-2px;bottom:-2px;border-left:2.5px solid var(--ls-reference)}
.listening .ls-row{display:grid;grid-template-columns:236px minmax(0,1fr);gap:18px;padding:10px 0;border-top:1px solid var(--ls-rule)}
.listening .ls-side h4{margin:0 0 6px;font-size:14px;font-weight:650;color:var(--ls-key);display:flex;align-items:center;gap:8px}
.listening .ls-side h4::before{content:"";width:10px;height:10px;border-radius:3px;background:var(--ls-key)}
.listening .ls-input{--ls-key:var(--ls-input)}.listening .ls-reference{--ls-key:var(--ls-reference)}
.listening .ls-output{--ls-key:var(--ls-accent)}
.listening .ls-side audio{display:block;width:100%;height:38px}
.listening .ls-side p{font-size:12px;margin-top:6px}
.listening .ls-pictures{position:relative;cursor:pointer}
.listening .ls-wave{height:52px;border-bottom:1px solid var(--ls-rule)}
.listening .ls-wave svg{display:block;width:100%;height:100%}
.listening .ls-wave polygon{fill:var(--ls-key);stroke:var(--ls-key);stroke-width:.5;vector-effect:non-scaling-stroke}
.listening img.ls-spectrogram{display:block;width:100%;height:118px;max-width:none;margin:4px 0 0;border-radius:4px;background:#0b0614}
.listening .ls-frequencies{position:absolute;left:0;right:0;bottom:0;height:118px;pointer-events:none}
.listening .ls-frequencies span{position:absolute;left:0;width:100%;transform:translateY(50%);padding-left:6px;font-size:10.5px;line-height:1;color:#fffc;text-shadow:0 0 3px #000}
.listening .ls-cursor{position:absolute;top:0;bottom:0;left:0;width:0;border-left:1.5px solid #ff5a4d;opacity:0;pointer-events:none}
.listening .ls-playing .ls-cursor{opacity:1}
.listening .ls-axis{padding:4px 0 0;border:0}
.listening .ls-ticks{position:relative;height:18px;border-top:1px solid var(--ls-rule)}
.listening .ls-ticks span{position:absolute;top:3px;transform:translateX(-50%);font-size:11.5px;color:var(--ls-muted);white-space:nowrap}
.listening .ls-ticks span:first-child{transform:none}
.listening .ls-ticks span[style="left:100.000%"]{transform:translateX(-100%)}
.listening ul.ls-notes{margin:14px 0 0;padding:0 0 0 18px;font-size:12.5px;color:var(--ls-muted);list-style:disc}
.listening .ls-notes li{margin:2px 0;color:var(--ls-muted);overflow-wrap:anywhere}
.listening .ls-problem{border:1px solid var(--ls-bad);background:var(--ls-bad-soft);border-radius:8px;padding:14px 18px}
.listening .ls-problem b{color:var(--ls-bad)}
.listening .ls-problem p{margin-top:4px;overflow-wrap:anywhere;white-space:pre-line}
.listening .ls-facts{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:2px 14px;margin:0;font-size:13px}
.listening .ls-facts dt{color:var(--ls-muted)}.listening .ls-facts dd{margin:0;overflow-wrap:anywhere}
.listening .ls-hint{border:1px dashed var(--ls-rule);border-radius:8px;padding:56px 24px;text-align:center;color:var(--ls-muted)}
@media(max-width:760px){.listening .ls-row{grid-template-columns:1fr;gap:8px}.listening .ls-scores th,.listening .ls-scores td{padding-left:12px}}
"""

# Cursor, click to play from there, and one player at a time: another one goes on where the first was.
SCRIPT = """
(() => {
  if (window.hydraudioListening) return;
  window.hydraudioListening = true;
  const row = audio => audio.closest && audio.closest(".listening .ls-row");
  const place = audio => {
    const cursor = row(audio).querySelector(".ls-cursor");
    if (audio.duration) cursor.style.left = 100 * audio.currentTime / audio.duration + "%";
    if (!audio.paused) requestAnimationFrame(() => place(audio));
  };
  document.addEventListener("play", event => {
    const audio = event.target;
    if (!row(audio)) return;
    for (const other of audio.closest(".listening").querySelectorAll("audio")) {
      if (other === audio) continue;
      row(other).classList.remove("ls-playing");
      if (other.paused) continue;
      audio.currentTime = other.currentTime;
      other.pause();
    }
    row(audio).classList.add("ls-playing");
    place(audio);
  }, true);
  document.addEventListener("seeked", event => { if (row(event.target)) place(event.target); }, true);
  document.addEventListener("click", event => {
    const pictures = event.target.closest && event.target.closest(".listening .ls-pictures");
    if (!pictures) return;
    const audio = row(pictures).querySelector("audio"), box = pictures.getBoundingClientRect();
    for (const other of pictures.closest(".listening").querySelectorAll("audio")) if (other !== audio) other.pause();
    audio.currentTime = (event.clientX - box.left) / box.width * (audio.duration || 0);
    audio.play();
  });
})();
"""
