/* Lists: the filter is applied while one types, with a URL that stays short. Without this file it is a form. */
"use strict";

(() => {
  const filters = document.querySelector("[data-filters]");

  document.addEventListener("htmx:configRequest", ({ detail }) => {
    if (detail.elt !== filters) return;
    for (const [name, value] of [...detail.formData.entries()]) if (value === "") detail.formData.delete(name);
  });
  filters?.addEventListener("submit", (event) => { if (window.htmx) event.preventDefault(); });
})();

/* Selecting in a list: what is selected stays so when the list is fetched anew, and a range is selected with Shift.
   Without this file the check boxes and the buttons below them work all the same. */
(() => {
  const form = document.getElementById("selection");
  if (!form) return;
  const selected = new Set();
  let last = null;
  let isEverything = false; // every page of the list, as the filter has it
  const boxes = () => [...document.querySelectorAll("[data-select]")];
  const everything = () => document.querySelector("[data-select-everything]");

  function tell() {
    const all = boxes();
    const here = all.filter((box) => box.checked).length;
    isEverything = isEverything && here === all.length && everything() !== null;
    if (everything()) everything().checked = isEverything;
    form.querySelector("[data-selected]").textContent = `${isEverything ? everything().dataset.selectEverything : here} selected`;
    const every = document.querySelector("[data-select-all]");
    if (every) {
      every.hidden = false;
      every.checked = here > 0 && here === all.length;
      every.indeterminate = here > 0 && here < all.length;
    }
  }

  function set(box, on) {
    box.checked = on;
    if (on) selected.add(box.value);
    else selected.delete(box.value);
  }

  function restore() {
    for (const box of boxes()) box.checked = isEverything || selected.has(box.value);
    tell();
  }

  function clear() {
    selected.clear();
    isEverything = false;
    restore();
  }

  document.addEventListener("click", (event) => {
    const box = event.target;
    if (box.matches("[data-select]")) {
      const all = boxes();
      const from = all.indexOf(last);
      if (event.shiftKey && from >= 0) {
        const to = all.indexOf(box);
        for (const one of all.slice(Math.min(from, to), Math.max(from, to) + 1)) set(one, box.checked);
      }
      set(box, box.checked);
      last = box;
      tell();
    } else if (box.matches("[data-select-all]")) {
      for (const one of boxes()) set(one, box.checked);
      tell();
    } else if (box.matches("[data-select-everything]")) {
      isEverything = box.checked;
      for (const one of boxes()) set(one, box.checked);
      tell();
    } else if (box.closest("[data-select-none]")) {
      clear();
    }
  });

  /* x selects the row that has the focus, X all of the page, Escape nothing */
  document.addEventListener("keydown", (event) => {
    if (event.metaKey || event.ctrlKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.target.matches("input:not([type=checkbox]), textarea, select")) return;
    if (event.key === "x") {
      const box = document.activeElement.closest?.("[data-row]")?.querySelector("[data-select]");
      if (box) { set(box, !box.checked); last = box; tell(); }
    } else if (event.key === "X") {
      const on = boxes().some((box) => !box.checked);
      for (const box of boxes()) set(box, on);
      tell();
    } else if (event.key === "Escape") {
      clear();
    }
  });

  document.addEventListener("htmx:afterSettle", (event) => { if (event.target.id === "list") restore(); });
  for (const button of document.querySelectorAll("[data-select-none]")) button.hidden = false;
  for (const box of boxes()) if (box.checked) selected.add(box.value);
  tell();
})();

/* What a cell has no room for is shown by the mouse. */
document.addEventListener("mouseover", ({ target }) => {
  const cell = target.closest(".table.list > tbody > tr > *");
  if (!cell || cell.title || cell.scrollWidth <= cell.clientWidth) return;
  const texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT), words = [];
  while (texts.nextNode()) words.push(...texts.currentNode.data.split(/\s+/).filter(Boolean));
  cell.title = words.join(" ");
});
