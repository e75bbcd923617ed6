/* What makes a page livelier. Every page works without this file. */
"use strict";

(() => {
  /* Moments seen from now, kept true. A date alone stays as it is. */
  const UNITS = [["y", 31536000], ["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

  function seenFromNow(moment) {
    const distance = Math.round((Date.now() - moment) / 1000);
    if (Math.abs(distance) < 5) return "just now";
    const [unit, length] = UNITS.find(([, seconds]) => Math.abs(distance) >= seconds);
    const span = `${Math.floor(Math.abs(distance) / length)} ${unit}`;
    return distance > 0 ? `${span} ago` : `in ${span}`;
  }

  function tellTimes() {
    for (const time of document.querySelectorAll(`time[datetime*="T"]`)) {
      const words = seenFromNow(Date.parse(time.dateTime));
      if (time.textContent !== words) time.textContent = words;
    }
  }
  setInterval(() => { if (!document.hidden) tellTimes(); }, 5000);
  document.addEventListener("visibilitychange", tellTimes);

  /* Copying */
  async function copy(button) {
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
    } catch {
      const area = document.createElement("textarea");
      area.value = button.dataset.copy;
      area.className = "heard";
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
      button.focus();
    }
    button.classList.add("done");
    toast("Copied.", "info", 1500);
    setTimeout(() => button.classList.remove("done"), 1500);
  }

  /* Toasts: they go by themselves, unless somebody is reading them */
  function toast(words, kind = "info", life = 6000) {
    const box = document.createElement("div");
    box.className = `toast ${kind}`;
    const text = document.createElement("span");
    text.textContent = words;
    box.append(text);
    document.getElementById("toasts").append(box);
    expire(box, life);
    return box;
  }

  function expire(box, life) {
    setTimeout(() => (box.matches(":hover, :focus-within") || document.hidden ? expire(box, 2000) : remove(box)), life);
  }

  /* A toast about work that goes on is shown for a while, and then again with its end. */
  const SHOWN = "pileus:shown";
  const shown = new Set(JSON.parse(sessionStorage.getItem(SHOWN) ?? "[]"));
  function remove(box) {
    if (box.matches("[data-following]")) {
      shown.add(box.dataset.toast);
      sessionStorage.setItem(SHOWN, JSON.stringify([...shown].slice(-50)));
    }
    box.remove();
  }
  function expireAll() {
    for (const box of document.querySelectorAll("#toasts [data-following]")) {
      if (shown.has(box.dataset.toast)) box.remove();
    }
    for (const box of document.querySelectorAll("#toasts .toast:not(.error, .warning, [data-expires])")) {
      box.dataset.expires = "";
      expire(box, box.querySelector("[data-undo]") ? 30000 : 7000); // whoever goes by the keyboard needs longer
    }
  }
  expireAll();
  document.addEventListener("htmx:oobAfterSwap", expireAll);

  /* Dialogs: a link that asks opens in one, with the same page as without */
  const dialog = document.getElementById("dialog");

  function ask(url) {
    if (!window.htmx) return false;
    document.getElementById("dialog-body").replaceChildren();
    window.htmx.ajax("GET", url, { target: "#dialog-body", swap: "outerHTML" }).then(() => {
      if (!document.getElementById("dialog-body").hasChildNodes()) return; // there was no answer
      dialog.showModal();
      /* What cannot be brought back is not one press of Enter away. */
      dialog.querySelector(".cells input, button.primary:not(.danger), [data-close]")?.focus();
    });
    return true;
  }

  document.addEventListener("htmx:sendError", ({ detail }) => {
    if (detail.elt.dataset.live === undefined) toast("The cloud cannot be reached. Try again.", "error");
  });

  function confirmSending(form, words, sender) {
    const body = document.getElementById("dialog-body");
    const question = document.createElement("p");
    question.textContent = words;
    const end = document.createElement("div");
    end.className = "form-end";
    const yes = document.createElement("button");
    yes.className = "button primary danger";
    yes.type = "button";
    yes.textContent = (sender || form.querySelector("button")).textContent.trim();
    const no = document.createElement("button");
    no.className = "button";
    no.type = "button";
    no.textContent = "Cancel";
    end.append(yes, no);
    const stack = document.createElement("div");
    stack.className = "stack";
    stack.append(question, end);
    body.replaceChildren(stack);
    no.addEventListener("click", () => dialog.close());
    yes.addEventListener("click", () => {
      form.dataset.confirmed = "yes";
      form.requestSubmit(sender || undefined);
    });
    dialog.showModal();
    no.focus();
  }

  /* One listener for everything that is clicked */
  document.addEventListener("click", (event) => {
    const target = event.target.closest("[data-copy], [data-dismiss], [data-dialog], [data-close], [aria-disabled='true']");
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (!menu.contains(event.target)) menu.open = false;
    }
    if (event.target === dialog || event.target.matches("dialog.palette")) event.target.close();
    if (!target) return;
    if (target.matches("[aria-disabled='true']")) event.preventDefault();
    else if (target.dataset.copy !== undefined) copy(target);
    else if (target.dataset.dismiss !== undefined) remove(target.closest(".toast"));
    else if (target.dataset.close !== undefined && dialog.open) { event.preventDefault(); dialog.close(); }
    else if (target.dataset.dialog !== undefined && !event.metaKey && !event.ctrlKey && ask(target.href)) event.preventDefault();
  });

  document.addEventListener("submit", (event) => {
    const form = event.target;
    const words = event.submitter?.dataset.confirm || form.dataset.confirm;
    if (words && form.dataset.confirmed !== "yes") {
      event.preventDefault();
      confirmSending(form, words, event.submitter);
    } else if (form.dataset.dialogForm !== undefined) {
      const query = new URLSearchParams(new FormData(form, event.submitter));
      if (ask(`${form.action}?${query}`)) event.preventDefault();
    }
  });

  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-submits]")) event.target.form.requestSubmit();
  });
  for (const extra of document.querySelectorAll("[data-without-script]")) extra.hidden = Boolean(window.htmx) || !extra.formAction;

  /* Folds that load what is in them when they are opened */
  document.addEventListener("toggle", (event) => {
    const fold = event.target;
    if (fold.open && fold.dataset?.loads !== undefined && window.htmx) {
      delete fold.dataset.loads;
      window.htmx.trigger(fold.querySelector("[hx-get]"), "pileus:open");
    }
  }, true);

  /* The console's log: at its end while it is followed; found words are marked */
  function follow() {
    const box = document.querySelector("[data-log]");
    if (box && document.querySelector("[data-follow]")?.checked !== false) box.scrollTop = box.scrollHeight;
  }

  const find = document.querySelector("[data-find]");
  function markFound() {
    const lines = document.querySelector("[data-log] pre");
    if (!find || !lines) return;
    const wanted = find.value;
    const text = lines.textContent;
    const count = document.querySelector("[data-found]");
    lines.textContent = text;
    if (wanted.length < 2) { count.textContent = ""; return; }
    const parts = text.split(wanted);
    lines.replaceChildren();
    parts.forEach((part, index) => {
      lines.append(part);
      if (index < parts.length - 1) {
        const mark = document.createElement("mark");
        mark.textContent = wanted;
        lines.append(mark);
      }
    });
    count.textContent = `${parts.length - 1} found`;
    lines.querySelector("mark")?.scrollIntoView({ block: "center" });
  }
  find?.addEventListener("input", markFound);

  document.addEventListener("htmx:afterSettle", (event) => {
    tellTimes();
    if (event.target.id === "console-log") { follow(); markFound(); }
  });
  document.addEventListener("DOMContentLoaded", follow);

  /* A low window shows a part of the way around: the part with the page that is open */
  document.querySelector(".side nav [aria-current]")?.scrollIntoView({ block: "nearest" });
  follow();
  tellTimes();
  window.pileus = { toast };
})();
