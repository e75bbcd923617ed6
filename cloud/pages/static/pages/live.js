/* Live pages: one stream of events, and each part of the page that an event is about is fetched anew. No polling.

   Events are what was done; hints say that something is worth another look (a step of an operation, a console).
   A part says what it shows: data-live="instance operation" (subject types, or * for all) and perhaps
   data-live-id for the one subject that concerns it. With data-live-clock it is also looked at now and then. */
"use strict";

(() => {
  const SETTLE = 120; // ms: what happens together is fetched together
  const PAUSE = 800; // ms between two looks at the same part, however much happens
  const AGAIN = 5000; // ms until a part is looked at again that could not be had
  const SILENT = 5000; // ms without a stream until that is said
  const QUIET = 40000; // ms without a word until a stream is given up: the cloud says every 15 s that it is there
  const CLOCK = 30000; // ms between looks at what no event tells of: whether Redis answers, how late something is
  const LEAVING = 10000; // ms that the next page may take to come
  const ASLEEP = 15000; // ms out of sight: a browser has six connections to a cloud, and each open page holds one
  const url = document.body.dataset.events;
  if (!url || !window.htmx || !document.querySelector("[data-live]")) return;
  const waiting = new Map();
  const looked = new Map();

  function concerns(part, change) {
    const kinds = part.dataset.live.split(" ");
    if (!kinds.includes("*") && !kinds.includes(change.subject?.type)) return false;
    const wanted = part.dataset.liveId;
    if (!wanted) return true;
    const about = change.after?.subject?.id ?? change.subject?.id;
    return about === wanted || change.subject?.id === wanted;
  }

  /* A form was sent, or a link followed: what this page would learn now (that its subject is gone) comes too late, and
     looking at it again would cancel the way to the next page. */
  let left = 0;
  addEventListener("beforeunload", () => { left = Date.now(); });
  const isLeaving = () => Date.now() - left < LEAVING;
  document.addEventListener("htmx:beforeOnLoad", (event) => {
    if (isLeaving() && event.detail.elt.dataset.live !== undefined) event.preventDefault();
  });

  function refresh(id) {
    waiting.delete(id);
    const part = document.getElementById(id);
    if (!part) return;
    if (isLeaving()) {
      schedule(part, LEAVING);
      return;
    }
    /* Nothing is taken from under somebody's hands. */
    const typing = part.contains(document.activeElement) && document.activeElement.matches("input:not([type=checkbox]), textarea, select");
    if (typing || part.querySelector(":popover-open, details.menu[open]")) {
      schedule(part, 2000);
      return;
    }
    looked.set(id, Date.now());
    window.htmx.trigger(part, "pileus:refresh");
  }

  function schedule(part, delay) {
    if (waiting.has(part.id)) return;
    const rested = (looked.get(part.id) ?? 0) + PAUSE - Date.now();
    waiting.set(part.id, setTimeout(refresh, Math.max(delay, rested), part.id));
  }

  document.addEventListener("htmx:afterRequest", ({ detail: { elt, xhr } }) => {
    const isPassing = xhr.status === 0 || xhr.status === 429 || xhr.status >= 500;
    if (isPassing && elt.dataset.live !== undefined) schedule(elt, AGAIN);
  });

  function hear() { heard = Date.now(); }

  function take(message) {
    hear();
    lastEvent = message.lastEventId || lastEvent;
    let change;
    try { change = JSON.parse(message.data); } catch { return; }
    for (const part of document.querySelectorAll("[data-live]")) {
      if (concerns(part, change)) schedule(part, SETTLE);
    }
  }

  let source;
  let wasOpen = false;
  let pause = 2000;
  let retry;
  let leaving;
  let lastEvent = "";
  let silence;
  let heard;
  let isSignedOut = false;
  function tell(isLive) {
    const words = document.getElementById("stale");
    document.documentElement.dataset.stream = isLive ? "on" : "off";
    if (isLive || document.hidden) {
      silence = clearTimeout(silence);
      words.hidden = true;
    } else {
      silence ??= setTimeout(() => { words.hidden = false; }, SILENT);
    }
  }

  function listen() {
    clearTimeout(retry);
    source?.close();
    hear();
    tell(false);
    source = new EventSource(lastEvent ? `${url.split("?")[0]}?after=${lastEvent}` : url);
    source.addEventListener("message", take);
    source.addEventListener("hint", take);
    source.addEventListener("alive", hear);
    source.addEventListener("open", () => {
      hear();
      tell(true);
      /* Events go on from where the page was made. Hints do not: look at what only they tell of, after a cut at all. */
      const parts = document.querySelectorAll(wasOpen ? "[data-live]" : '[data-live="console"]');
      for (const part of parts) schedule(part, SETTLE);
      wasOpen = true;
      pause = 2000;
    });
    source.addEventListener("error", () => {
      tell(false);
      /* The browser comes back by itself from a cut, but not from a refusal. */
      if (source.readyState === EventSource.CLOSED) afterRefusal();
    });
  }

  /* Streams are being restarted, or the session has ended: the stream itself does not say which. */
  async function afterRefusal() {
    clearTimeout(retry);
    retry = setTimeout(listen, pause);
    pause = Math.min(2 * pause, 15000);
    const answer = await fetch("/api/v1/me").catch(() => null);
    if (answer?.status !== 401) return;
    leave();
    document.getElementById("stale").hidden = true;
    silence = clearTimeout(silence);
    isSignedOut = true;
    document.dispatchEvent(new CustomEvent("pileus:signed-out"));
  }
  document.addEventListener("pileus:signed-in", () => {
    isSignedOut = false;
    listen();
  });

  /* A cut that nobody was told of, as after a night of the computer's. */
  setInterval(() => { if (source && Date.now() - heard > QUIET) listen(); }, 5000);
  setInterval(() => {
    if (document.hidden) return;
    for (const part of document.querySelectorAll("[data-live-clock]")) schedule(part, SETTLE);
  }, CLOCK);

  function leave() {
    clearTimeout(retry);
    source?.close();
    source = undefined;
    tell(false);
  }

  function attend() {
    clearTimeout(leaving);
    if (document.hidden) leaving = setTimeout(leave, ASLEEP);
    else if (!source && !isSignedOut) listen();
  }
  if (!document.hidden) listen();
  document.addEventListener("visibilitychange", attend);
  addEventListener("pagehide", leave);
  addEventListener("pageshow", (event) => { if (event.persisted) attend(); });
})();
