/* A password that was generated a moment ago, offered beside the console: kept by this tab only, for an hour, and until
   somebody signs out. The cloud itself has only its hash. */
"use strict";

(() => {
  const KEPT = 3600_000; // ms
  const PREFIX = "pileus:login:"; // and the id of the instance

  function keep(ident, user, password) {
    sessionStorage.setItem(PREFIX + ident, JSON.stringify({ user, password, until: Date.now() + KEPT }));
  }

  /** { user, password } of an instance, or null. */
  function of(ident) {
    const kept = JSON.parse(sessionStorage.getItem(PREFIX + ident) ?? "null");
    if (kept && kept.until > Date.now()) return kept;
    forget(ident);
    return null;
  }

  function forget(ident) {
    sessionStorage.removeItem(PREFIX + ident);
  }

  for (const told of document.querySelectorAll("[data-login-of]")) {
    for (const ident of told.dataset.loginOf.split(" ")) keep(ident, told.dataset.user, told.dataset.password);
  }
  window.pileus.logins = { of, forget };
})();
