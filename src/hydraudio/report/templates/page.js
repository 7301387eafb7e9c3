(() => {
  if (window.hydraudio) return;
  window.hydraudio = true;

  // Players: one at a time, and another one of the same item goes on where the first was.
  const signal = element => element.closest && element.closest(".hydraudio .signal");
  const place = audio => {
    const cursor = signal(audio).querySelector(".cursor");
    if (audio.duration) cursor.style.left = 100 * audio.currentTime / audio.duration + "%";
    if (!audio.paused) requestAnimationFrame(() => place(audio));
  };
  document.addEventListener("play", event => {
    const audio = event.target;
    if (!signal(audio)) return;
    for (const other of document.querySelectorAll(".hydraudio .signal audio")) {
      if (other === audio) continue;
      signal(other).classList.remove("playing");
      if (other.paused) continue;
      if (other.closest(".signals") === audio.closest(".signals")) audio.currentTime = other.currentTime;
      other.pause();
    }
    signal(audio).classList.add("playing");
    place(audio);
  }, true);
  document.addEventListener("seeked", event => { if (signal(event.target)) place(event.target); }, true);
  document.addEventListener("click", event => {
    const pictures = event.target.closest && event.target.closest(".hydraudio .pictures");
    if (!pictures) return;
    const audio = signal(pictures).querySelector("audio"), box = pictures.getBoundingClientRect();
    for (const other of pictures.closest(".signals").querySelectorAll("audio")) if (other !== audio) other.pause();
    audio.currentTime = (event.clientX - box.left) / box.width * (audio.duration || 0);
    audio.play();
  });

  // Tabs: one panel of examples at a time.
  for (const panels of document.querySelectorAll(".hydraudio .panels")) {
    const all = [...panels.children];
    if (all.length < 2) continue;
    const tabs = document.createElement("div");
    tabs.className = "tabs";
    all.forEach((panel, index) => {
      const tab = document.createElement("button");
      tab.type = "button";
      tab.textContent = panel.querySelector("h3").textContent;
      tab.onclick = () => {
        panels.querySelectorAll("audio").forEach(audio => audio.pause());
        all.forEach((other, k) => { other.hidden = k !== index; tabs.children[k].setAttribute("aria-pressed", k === index); });
      };
      tabs.append(tab);
    });
    panels.classList.add("tabbed");
    panels.before(tabs);
    tabs.firstChild.click();
  }

  // Tables: a button in each heading sorts, again the other way round; totals stay below, what is missing comes last.
  const value = (row, column) => {
    const text = row.cells[column].firstChild ? row.cells[column].firstChild.textContent : "";
    const plain = text.replace(/\u2212/g, "-").replace(/\u2009/g, "");
    return column > 0 && /^[<\s]*-?\d/.test(plain) ? Number(plain.match(/-?\d+(\.\d+)?/g).at(-1)) : text;
  };
  const compare = (a, b, sign) =>
    typeof a !== typeof b ? (typeof a === "string") - (typeof b === "string")
      : typeof a === "string" ? sign * a.localeCompare(b, "en", {numeric: true}) : sign * (a - b);
  for (const table of document.querySelectorAll(".hydraudio table.sortable")) {
    const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
    if (body.rows.length < 2) continue;
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      if (!button.textContent) button.setAttribute("aria-label", "Name");
      head.append(button);
      button.onclick = () => {
        const sign = head.getAttribute("aria-sort") === (column ? "descending" : "ascending") ? (column ? 1 : -1) : (column ? -1 : 1);
        heads.forEach(other => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
        const rows = [...body.rows], total = row => row.classList.contains("total");
        rows.sort((a, b) => total(a) - total(b) || compare(value(a, column), value(b, column), sign));
        body.append(...rows);
      };
    });
  }
})();
