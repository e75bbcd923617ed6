/* A session that has ended is no outage: the page says so, offers to sign in, and keeps what was typed.

   Whoever gets a 401 sends "pileus:signed-out" to the document; "pileus:signed-in" follows once somebody has signed in again. */
"use strict";

(() => {
  const bar = document.getElementById("signed-out");
  const ME = "/api/v1/me";

  document.addEventListener("pileus:signed-out", () => { bar.hidden = false; });
  document.addEventListener("htmx:afterRequest", ({ detail: { xhr } }) => {
    if (xhr.status === 401) bar.hidden = false;
  });

  /* Nothing that this tab has kept for its reader is there for the next one. */
  document.querySelector("[data-signs-out]")?.addEventListener("submit", () => sessionStorage.clear());

  /* Signing in changes the token that forms are sent with. */
  async function renewForms() {
    const page = new DOMParser().parseFromString(await (await fetch(location.href)).text(), "text/html");
    const token = page.querySelector("[name=csrfmiddlewaretoken]")?.value;
    if (!token) return;
    for (const field of document.querySelectorAll("[name=csrfmiddlewaretoken]")) field.value = token;
  }

  async function lookAgain() {
    if (bar.hidden || document.hidden) return;
    try {
      if (!(await fetch(ME)).ok) return;
      await renewForms();
    } catch {
      return; // the cloud cannot be reached: that is said elsewhere
    }
    bar.hidden = true;
    document.dispatchEvent(new CustomEvent("pileus:signed-in"));
  }
  document.addEventListener("visibilitychange", lookAgain);
  addEventListener("focus", lookAgain);
})();
