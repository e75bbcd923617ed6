/* Sends the file of an image in pieces (tus 1.0): it survives a broken line, and goes on after a reload. */
"use strict";

(() => {
  const PIECE = 32 * 1024 * 1024;
  const MAX_TRIES = 8;  // in a row, at one piece
  const TUS = { "Tus-Resumable": "1.0.0" };
  let sending = false;

  const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

  function words(bytes) {
    const units = ["bytes", "KiB", "MiB", "GiB"];
    const step = bytes ? Math.min(3, Math.floor(Math.log2(bytes) / 10)) : 0;
    return `${(bytes / 1024 ** step).toFixed(step ? 1 : 0)} ${units[step]}`;
  }

  class Refused extends Error {}

  /* How many bytes are there. */
  async function there(url) {
    const answer = await fetch(url, { method: "HEAD", headers: TUS, cache: "no-store" });
    if (answer.status >= 400 && answer.status < 500) throw new Refused("It does not wait for a file any more. Look at the page again.");
    if (!answer.ok) throw new Error(answer.statusText);
    return Number(answer.headers.get("Upload-Offset"));
  }

  async function checksum(piece) {
    if (!window.isSecureContext || !crypto.subtle) return {};
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await piece.arrayBuffer()));
    return { "Upload-Checksum": `sha256 ${btoa(String.fromCharCode(...digest))}` };
  }

  function sendPiece(url, piece, headers, tell) {
    return new Promise((done, fail) => {
      const request = new XMLHttpRequest();
      request.open("PATCH", url);
      for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
      request.upload.addEventListener("progress", (event) => tell(event.loaded));
      request.addEventListener("load", () => {
        if (request.status === 204) return done(Number(request.getResponseHeader("Upload-Offset")));
        const again = [408, 409, 429, 460].includes(request.status) || request.status >= 500;
        let detail = request.statusText;
        try { detail = JSON.parse(request.responseText).detail; } catch { /* no words of ours */ }
        return fail(again ? new Error(detail) : new Refused(detail));
      });
      for (const end of ["error", "timeout", "abort"]) request.addEventListener(end, () => fail(new Error("the line was cut")));
      request.send(piece);
    });
  }

  async function send(box, file) {
    const url = box.dataset.upload;
    const token = box.querySelector("[name=csrfmiddlewaretoken]").value;
    const announced = Number(box.dataset.uploadSize || file.size);
    if (announced !== file.size) throw new Refused(`Another file was begun: it has ${announced} bytes, and this one ${file.size}.`);
    let offset = 0, tries = 0, known = false;
    while (!known || offset < file.size) {
      try {
        offset = await there(url);
        known = true;
        if (offset > file.size) throw new Refused("Another file was begun: more of it is here than this one has.");
        show(box, offset, file.size);
        if (offset === file.size && file.size) break;
        const piece = file.slice(offset, offset + PIECE);
        const headers = {
          ...TUS, "Content-Type": "application/offset+octet-stream", "X-CSRFToken": token,
          "Upload-Offset": offset, "Upload-Length": file.size, ...await checksum(piece),
        };
        offset = await sendPiece(url, piece, headers, (loaded) => show(box, offset + loaded, file.size));
        tries = 0;
        say(box, "");
      } catch (problem) {
        if (problem instanceof Refused || ++tries > MAX_TRIES) throw problem;
        say(box, `${problem.message}: trying again.`);
        await pause(Math.min(30000, 500 * 2 ** tries));
      }
    }
  }

  function show(box, done, of) {
    const percent = of ? Math.floor((100 * done) / of) : 0;
    const meter = box.querySelector("[data-progress]");
    meter.hidden = false;
    meter.querySelector("[data-words]").textContent = `${words(done)} of ${words(of)}`;
    meter.querySelector("svg").setAttribute("aria-valuenow", percent);
    meter.querySelector("rect").setAttribute("width", `${percent}%`);
  }

  function say(box, text) {
    box.querySelector("[data-said]").textContent = text;
  }

  async function begin(box, file) {
    if (sending || !file) return;
    sending = true;
    box.querySelector("[data-file]").disabled = true;
    box.closest("[data-live]")?.removeAttribute("data-live");  // the page does not take the box away meanwhile
    try {
      await send(box, file);
      sending = false;  // nothing is lost by leaving now
      location.reload();
    } catch (problem) {
      say(box, problem.message);
      box.querySelector("[data-file]").disabled = false;
    }
    sending = false;
  }

  /* The form of a new image: its file is chosen there, and sent by the page that the form leads to. */
  function choose(form, file) {
    const chosen = new DataTransfer();
    chosen.items.add(file);
    form.querySelector("[data-file]").files = chosen.files;
    const name = form.querySelector("[name=name]");
    const suggested = file.name.toLowerCase().replace(/(\.(qcow2|raw|img|vmdk|vdi|vhdx?|ova|iso|gz|xz|zst))+$/, "");
    if (!name.value) name.value = suggested.replace(/[^a-z0-9]+/g, "-").slice(0, 63).replace(/^-+|-+$/g, "");
  }

  async function create(form, file) {
    const buttons = form.querySelectorAll("button");
    for (const button of buttons) button.disabled = true;
    try {
      const answer = await fetch(form.action, { method: "POST", body: new FormData(form) });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      document.querySelector("main").replaceWith(page.querySelector("main"));
      document.title = page.title;
      if (answer.redirected) history.pushState(null, "", answer.url);
      const box = document.querySelector("[data-upload]");
      const again = document.querySelector("[data-import]");
      if (box) begin(box, file);
      else if (again) choose(again, file);
    } catch {
      form.submit();  // the browser says what is wrong with the line
    }
  }

  document.addEventListener("change", (event) => {
    const box = event.target.closest("[data-upload], [data-import]");
    if (!box || !event.target.matches("[data-file]") || !event.target.files.length) return;
    (box.matches("form") ? choose : begin)(box, event.target.files[0]);
  });
  document.addEventListener("submit", (event) => {
    const file = event.target.querySelector("[data-file]")?.files[0];
    if (!event.target.matches("[data-import]") || !file || event.target.elements.kind.value !== "upload") return;
    event.preventDefault();
    create(event.target, file);
  });
  document.addEventListener("dragover", (event) => {
    if (event.target.closest("[data-upload], [data-import]")) event.preventDefault();
  });
  document.addEventListener("drop", (event) => {
    const box = event.target.closest("[data-upload], [data-import]");
    if (!box || !event.dataTransfer.files.length) return;
    event.preventDefault();
    (box.matches("form") ? choose : begin)(box, event.dataTransfer.files[0]);
  });
  window.addEventListener("popstate", () => location.reload());
  window.addEventListener("beforeunload", (event) => { if (sending) event.preventDefault(); });
})();
