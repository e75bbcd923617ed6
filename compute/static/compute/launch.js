/* Rows of a form that can be added and removed. Without this file there is one spare row. */
"use strict";

(() => {
  for (const box of document.querySelectorAll("[data-rows]")) {
    const field = box.closest("fieldset");
    const adding = field.querySelector("[data-adds-row]");
    const template = field.querySelector("template[data-row-template]");
    const rows = () => box.querySelectorAll(":scope > [data-row]");

    function settle() {
      adding.hidden = rows().length >= Number(box.dataset.most);
      for (const row of rows()) row.querySelector("[data-removes-row]").hidden = rows().length < 2;
    }

    adding.addEventListener("click", () => {
      box.append(template.content.cloneNode(true));
      settle();
      [...rows()].at(-1).querySelector("select").focus();
    });
    box.addEventListener("click", (event) => {
      const row = event.target.closest("[data-removes-row]")?.closest("[data-row]");
      if (!row) return;
      row.remove();
      settle();
      box.dispatchEvent(new Event("input", { bubbles: true })); // the preview is made anew
    });
    settle();
  }
})();
