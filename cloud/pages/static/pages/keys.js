/* The keyboard: `/` filters, `?` shows the keys, `h` the help, Ctrl-K (⌘K on a Mac) searches, `g` and a letter goes, j and k move in a list. */
"use strict";

(() => {
  const palette = document.getElementById("palette");
  const shortcuts = document.getElementById("shortcuts");
  let waitingForPlace = 0;
  if (/Mac|iPhone|iPad/.test(navigator.platform)) {
    for (const key of document.querySelectorAll("[data-command-key]")) key.textContent = "⌘";
  }

  function isWriting(element) {
    return element.isContentEditable || element.matches("input:not([type=checkbox], [type=radio]), textarea, select");
  }

  /* The palette */
  const input = palette.querySelector("input");
  let asked;

  function openPalette() {
    if (!window.htmx) return false;
    palette.showModal();
    input.value = "";
    search();
    input.focus();
    return true;
  }

  function search() {
    const query = new URLSearchParams({ q: input.value, project: document.body.dataset.project });
    window.htmx
      .ajax("GET", `${document.body.dataset.palette}?${query}`, { target: "#palette-results", swap: "outerHTML" })
      .then(() => choose(0));
  }

  function results() { return [...palette.querySelectorAll("[role=option]")]; }

  function chosen() { return results().findIndex((item) => item.getAttribute("aria-selected") === "true"); }

  function choose(index) {
    const all = results();
    all.forEach((item, at) => {
      item.setAttribute("aria-selected", String(at === index));
      item.id = `result-${at}`;
    });
    if (all[index]) {
      all[index].scrollIntoView({ block: "nearest" });
      input.setAttribute("aria-activedescendant", all[index].id);
    }
  }

  input.addEventListener("input", () => { clearTimeout(asked); asked = setTimeout(search, 120); });
  palette.addEventListener("keydown", (event) => {
    const count = results().length;
    if (event.key === "ArrowDown") { choose((chosen() + 1) % count); event.preventDefault(); }
    if (event.key === "ArrowUp") { choose((chosen() + count - 1) % count); event.preventDefault(); }
    if (event.key === "Enter") { event.preventDefault(); results()[chosen()]?.click(); }
  });
  palette.addEventListener("click", (event) => {
    if (event.target.closest("[data-dialog]")) palette.close(); // what asks first opens in a dialog of its own
  });
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-opens-palette]") && openPalette()) {
      event.preventDefault();
      document.getElementById("side").hidePopover?.();
    }
  });

  /* Rows of a list */
  function move(step) {
    const rows = [...document.querySelectorAll("[data-row]")];
    if (!rows.length) return;
    const here = rows.indexOf(document.activeElement.closest?.("[data-row]"));
    const next = rows[Math.min(rows.length - 1, Math.max(0, here < 0 ? 0 : here + step))];
    (next.querySelector("th a") || next.querySelector("a, button"))?.focus();
  }

  /* Of the row that has the focus, of the only one that is selected, or of the page's own instance. */
  function consoleOf(element) {
    const picked = document.querySelectorAll("[data-row]:has([data-select]:checked)");
    const row = element.closest?.("[data-row]") ?? (picked.length === 1 ? picked[0] : null);
    return (row ?? document).querySelector(row ? "[data-opens-console]" : "[data-opens-console]:not([data-row] *)");
  }

  document.addEventListener("keydown", (event) => {
    if ((event.metaKey || event.ctrlKey) && event.key.toLowerCase() === "k") {
      if (palette.open) { palette.close(); event.preventDefault(); } else if (openPalette()) event.preventDefault();
      return;
    }
    if (event.metaKey || event.ctrlKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.key === "Escape") {
      for (const menu of document.querySelectorAll("details.menu[open]")) { menu.open = false; menu.querySelector("summary").focus(); }
      if (isWriting(event.target)) event.target.blur();
      return;
    }
    if (isWriting(event.target)) return;
    if (waitingForPlace > Date.now()) {
      waitingForPlace = 0;
      document.querySelector(`[data-key="g ${CSS.escape(event.key)}"]`)?.click();
      event.preventDefault();
      return;
    }
    switch (event.key) {
      case "/": {
        const filter = document.querySelector("[data-filter]");
        if (filter) { filter.focus(); filter.select(); event.preventDefault(); }
        break;
      }
      case "?": shortcuts.showModal(); break;
      case "g": waitingForPlace = Date.now() + 1500; break;
      case "c":
      case "h": document.querySelector(`[data-key="${event.key}"]`)?.click(); break;
      case "t": consoleOf(document.activeElement)?.click(); break;
      case "u": document.querySelector("[data-undo]")?.click(); break;
      case "j": move(1); break;
      case "k": move(-1); break;
    }
  });
})();
