/* The API's documentation: sends a call and shows its answer. What changes something is sent as a dry run. */
"use strict";

(() => {
  const csrf = document.getElementById("calls").dataset.csrf;

  /* A link to a call opens it. */
  function open() {
    const call = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (call?.matches("details")) call.open = true;
  }

  function shown(text) {
    try { return JSON.stringify(JSON.parse(text), null, 2); } catch { return text; }
  }

  document.addEventListener("submit", async (event) => {
    const form = event.target;
    const method = form.dataset.call;
    if (!method) return;
    event.preventDefault();
    const output = form.querySelector(".answer");
    const path = form.dataset.path.replace(/{(\w+)}/g, (_, name) => encodeURIComponent(form.elements[name].value));
    const headers = { Accept: "application/json", "X-CSRFToken": csrf };
    const body = form.elements.body?.value;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const answer = await fetch(method === "GET" ? path : `${path}?dry_run=true`, { method, headers, body }).catch(() => null);
    output.hidden = false;
    output.textContent = answer ? `${answer.status}\n${shown(await answer.text())}` : "The cloud cannot be reached.";
  });

  window.addEventListener("hashchange", open);
  open();
})();
