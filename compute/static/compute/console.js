/* A console in the page: asks the API for a URL that works once, connects, and after a cut comes back with a new one.
   The serial port is shown by xterm.js, on a canvas; the screen by noVNC. */
"use strict";

(() => {
  const box = document.querySelector("[data-console]");
  if (!box) return;
  const screen = box.querySelector("[data-screen]");
  const kind = box.dataset.console;
  const paste = document.getElementById("paste");
  const FIRST_PAUSE = 500, LONGEST_PAUSE = 10000, STEADY = 5000; // ms
  const NOT_ALLOWED = 1008; // close code
  const MAX_MESSAGE_BYTES = 32 << 10; // of what is typed; streams takes twice that
  let open = null; // { send(text), picture() → canvas } while it is connected
  let pause = FIRST_PAUSE;
  let timer;

  function tell(colour, state, words = "") {
    const pill = box.querySelector("[data-state]");
    pill.className = `pill ${colour}`;
    pill.textContent = state;
    box.querySelector("[data-words]").textContent = words;
    box.dataset.connected = open ? "yes" : "no";
  }

  function offer(isOffered) {
    box.querySelector("[data-do=again]").hidden = !isOffered;
  }

  async function ask() {
    const token = document.querySelector("[name=csrfmiddlewaretoken]").value;
    const answer = await fetch(box.dataset.url, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-CSRFToken": token },
      body: JSON.stringify({ kind }),
    });
    const body = await answer.json();
    if (answer.ok) return body.url;
    throw Object.assign(new Error(body.detail), { final: !body.retryable && answer.status !== 409 });
  }

  async function connect() {
    clearTimeout(timer);
    offer(false);
    tell("busy", "connecting");
    let began = Infinity;
    try {
      const socket = new WebSocket(await ask());
      socket.binaryType = "arraybuffer";
      const closed = new Promise((resolve) => socket.addEventListener("close", resolve));
      await side.attach(socket, (tools) => {
        began = Date.now();
        open = tools;
        tell("good", "connected");
      });
      const { code, reason } = await closed;
      open = null;
      tell("idle", "not connected", reason);
      if (code === NOT_ALLOWED) { offer(true); return; }
    } catch (problem) {
      open = null;
      tell("warn", "not connected", problem.message);
      if (problem.final) { offer(true); return; }
    }
    if (Date.now() - began > STEADY) pause = FIRST_PAUSE;
    offer(pause > FIRST_PAUSE);
    timer = setTimeout(() => (document.hidden ? null : connect()), pause);
    pause = Math.min(2 * pause, LONGEST_PAUSE);
  }
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && !open && box.dataset.connected === "no" && side) connect();
  });

  /* The serial port */

  function serial() {
    const COLUMNS = 80, ROWS = 24, SMALLEST = 9, LARGEST = 15; // the least, which programs expect; px
    const style = getComputedStyle(screen);
    const encoder = new TextEncoder();
    const pencil = document.createElement("canvas").getContext("2d");
    const terminal = new window.Terminal({
      cols: COLUMNS, rows: ROWS, fontFamily: style.fontFamily, scrollback: 5000, screenReaderMode: true,
      theme: { background: style.backgroundColor, foreground: style.color },
      linkHandler: { activate() {} }, // where a guest's links lead is the guest's word
    });
    let socket = null;
    const watching = new Set();
    let unanswered = 0; // bytes of what was said before: whatever was asked in them was asked long ago
    terminal.loadAddon(new window.CanvasAddon.CanvasAddon());
    terminal.open(screen);

    function fit() {
      pencil.font = `100px ${style.fontFamily}`;
      const perPixel = pencil.measureText("W").width / 100;
      const width = screen.clientWidth - 40; // its padding, and the scroll bar
      const size = Math.min(LARGEST, Math.max(SMALLEST, Math.floor(width / (COLUMNS * perPixel))));
      terminal.options.fontSize = size;
      const height = document.fullscreenElement ? innerHeight - 80 : innerHeight * 0.62;
      const drawn = screen.querySelector(".xterm-screen").offsetWidth / terminal.cols; // cells have whole pixels
      const columns = Math.max(COLUMNS, Math.floor(width / Math.max(drawn, size * perPixel)));
      terminal.resize(columns, Math.max(ROWS, Math.floor(height / (size * 1.2))));
      const words = document.querySelector("[data-size]");
      if (words) words.textContent = `Set ${columns} × ${terminal.rows}`;
    }
    new ResizeObserver(fit).observe(box);
    fit();

    function send(content) {
      if (unanswered > 0 || socket?.readyState !== WebSocket.OPEN) return;
      for (let at = 0; at < content.length; at += MAX_MESSAGE_BYTES) {
        socket.send(content.subarray(at, at + MAX_MESSAGE_BYTES));
      }
    }
    terminal.onData((text) => send(encoder.encode(text)));
    terminal.onBinary((text) => send(Uint8Array.from(text, (character) => character.charCodeAt(0))));

    function picture() {
      const layers = [...screen.querySelectorAll(".xterm-screen canvas")];
      const whole = document.createElement("canvas");
      [whole.width, whole.height] = [layers[0].width, layers[0].height];
      const brush = whole.getContext("2d");
      brush.fillStyle = style.backgroundColor;
      brush.fillRect(0, 0, whole.width, whole.height);
      for (const layer of layers) brush.drawImage(layer, 0, 0);
      return whole;
    }

    /* A long terminal that is emptied scrolls a frame later, and takes that for its user's wish to stay there. */
    function showEnd() {
      requestAnimationFrame(() => requestAnimationFrame(() => terminal.scrollToBottom()));
    }

    /* Once the guest has written a line that ends like this, and may be answered. */
    function until(pattern) {
      return new Promise((resolve) => {
        function look() {
          const at = terminal.buffer.active;
          const last = at.getLine(at.baseY + at.cursorY)?.translateToString(true) ?? "";
          if (unanswered > 0 || !open || !pattern.test(last)) return;
          watching.delete(look);
          resolve();
        }
        watching.add(look);
        look();
      });
    }

    async function attach(line, isOpen) {
      socket = line;
      terminal.reset();
      line.addEventListener("message", ({ data }) => {
        if (typeof data === "string") {
          unanswered = JSON.parse(data).before;
          /* A serial line does not tell its guest how large the terminal is. */
          const size = () => send(encoder.encode(`stty rows ${terminal.rows} cols ${terminal.cols}\r`));
          isOpen({ send: (text) => terminal.paste(text), type: (text) => send(encoder.encode(text)), picture, size });
          terminal.focus();
        } else {
          terminal.write(new Uint8Array(data), () => {
            const isHistory = unanswered > 0;
            unanswered -= data.byteLength;
            if (isHistory && unanswered <= 0) showEnd();
            for (const look of watching) look();
          });
        }
      });
    }
    return { attach, until, focus: () => terminal.focus() };
  }

  /* A password that this tab knows */

  const bar = document.querySelector("[data-login]");
  const known = window.pileus.logins.of(box.dataset.instance);
  if (known) {
    bar.hidden = false;
    bar.querySelector("[data-login-user]").textContent = known.user;
    bar.querySelector("[data-login-password]").textContent = known.password;
    bar.querySelector("[data-copy]").dataset.copy = known.password;
  }

  /* As a person would: the user name at "login:", however long the guest takes to get there, then the password. */
  async function logIn() {
    const button = bar.querySelector("[data-do=logIn]");
    button.disabled = true;
    button.textContent = "Waiting for “login:”";
    side.focus();
    await side.until(/login: *$/i);
    open.type(`${known.user}\r`);
    await side.until(/password: *$/i);
    open.type(`${known.password}\r`);
    button.disabled = false;
    button.textContent = "Log in";
  }

  /* The screen */

  const SHIFT = [0xffe1, "ShiftLeft"], ALTGR = [0xfe03, "AltRight"]; // keysym, key
  const BETWEEN_KEYS = 25; // ms: a guest's keyboard has a short memory

  async function typeKeys(rfb, text, layout) {
    const characters = [...text.normalize("NFC")].map(window.pileus.keyboards.typist(layout.value));
    const missing = characters.filter((strokes) => !strokes).length;
    const name = layout.selectedOptions[0].text;
    if (missing) {
      window.pileus.toast(`Left out what this keyboard cannot type (${name}): ${missing} of ${characters.length} characters.`, "warning");
    }
    for (const { sym, code, shift, altgr } of characters.filter(Boolean).flat()) {
      if (!open) return;
      if (shift) rfb.sendKey(...SHIFT, true);
      if (altgr) rfb.sendKey(...ALTGR, true);
      rfb.sendKey(sym, code);
      if (altgr) rfb.sendKey(...ALTGR, false);
      if (shift) rfb.sendKey(...SHIFT, false);
      await new Promise((resolve) => setTimeout(resolve, BETWEEN_KEYS));
    }
  }

  /** The choice of the guest's layout in the paste dialog, which this browser remembers. */
  function layouts() {
    const choice = paste.querySelector("select");
    for (const [layout, name] of window.pileus.keyboards.names) choice.add(new Option(name, layout));
    choice.value = localStorage.getItem("keyboard") ?? "us";
    if (choice.selectedIndex < 0) choice.value = "us";
    choice.addEventListener("change", () => localStorage.setItem("keyboard", choice.value));
    return choice;
  }

  async function vnc() {
    const { default: RFB } = await import(box.dataset.module);
    const layout = layouts();
    let rfb = null;

    async function attach(line, isOpen) {
      screen.replaceChildren();
      rfb = new RFB(screen, line, { shared: true });
      rfb.scaleViewport = true;
      rfb.background = "transparent";
      rfb.addEventListener("connect", () => {
        isOpen({
          send: (text) => typeKeys(rfb, text, layout),
          picture: () => screen.querySelector("canvas"),
          secure: () => rfb.sendCtrlAltDel(),
        });
        rfb.focus();
      });
    }
    return { attach, focus: () => rfb?.focus() };
  }

  /* The buttons */

  const KEYS = { esc: "\x1b", tab: "\t", interrupt: "\x03", up: "\x1b[A" };

  const actions = {
    again: () => connect(),
    secure: () => open?.secure(),
    size: () => { open?.size(); side.focus(); },
    type: (button) => { open?.type(KEYS[button.dataset.types]); side.focus(); },
    logIn,
    forget: () => { window.pileus.logins.forget(box.dataset.instance); bar.hidden = true; },
    full: () => box.requestFullscreen().then(() => side.focus()),
    paste: () => { if (open) paste.showModal(); },
    picture: () => open?.picture().toBlob((blob) => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(blob);
      link.download = `${box.dataset.name}-${kind}.png`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    }),
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-do]");
    if (button) actions[button.dataset.do](button);
  });
  paste.addEventListener("close", () => {
    const area = paste.querySelector("textarea");
    if (paste.returnValue === "send" && open) open.send(area.value.replaceAll("\r\n", "\n"));
    area.value = "";
    side.focus();
  });

  let side = null;
  (async () => {
    if (kind === "serial" ? !window.Terminal || !window.CanvasAddon : !box.dataset.module) {
      tell("bad", "not available", "The terminal's files were not fetched when this cloud was set up. Its log can be read.");
      return;
    }
    side = kind === "serial" ? serial() : await vnc();
    connect();
    if (known && kind === "serial" && location.hash === "#log-in") {
      history.replaceState(history.state, "", location.pathname + location.search); // once, not whenever it is reloaded
      logIn();
    }
  })();
})();
