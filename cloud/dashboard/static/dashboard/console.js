/* A console in the page: asks the API for a URL that works once, connects, and after a cut comes back with a new one.
   The serial port is shown by xterm.js, on a canvas; the screen by noVNC. */
"use strict";

(() => {
  const box = document.querySelector("[data-console]");
  if (!box) return;
  const screen = box.querySelector("[data-screen]");
  const kind = box.dataset.console;
  const FIRST_PAUSE = 500, LONGEST_PAUSE = 10000, STEADY = 5000; // ms
  const NOT_ALLOWED = 1008; // close code
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
    const COLUMNS = 80, LEAST_ROWS = 24, MOST_ROWS = 60, SMALLEST = 9, LARGEST = 16; // what programs expect; px
    const style = getComputedStyle(screen);
    const encoder = new TextEncoder();
    const pencil = document.createElement("canvas").getContext("2d");
    const terminal = new window.Terminal({
      cols: COLUMNS, rows: LEAST_ROWS, fontFamily: style.fontFamily, scrollback: 5000, screenReaderMode: true,
      theme: { background: style.backgroundColor, foreground: style.color },
      linkHandler: { activate() {} }, // where a guest's links lead is the guest's word
    });
    let socket = null;
    let unanswered = 0; // bytes of what was said before: whatever was asked in them was asked long ago
    terminal.loadAddon(new window.CanvasAddon.CanvasAddon());
    terminal.open(screen);

    function fit() {
      pencil.font = `100px ${style.fontFamily}`;
      const perPixel = pencil.measureText("W").width / 100;
      const size = Math.floor((screen.clientWidth - 24) / (COLUMNS * perPixel));
      terminal.options.fontSize = Math.min(LARGEST, Math.max(SMALLEST, size));
      const height = document.fullscreenElement ? innerHeight - 60 : innerHeight * 0.62;
      const rows = Math.floor(height / (terminal.options.fontSize * 1.2));
      terminal.resize(COLUMNS, Math.min(MOST_ROWS, Math.max(LEAST_ROWS, rows)));
    }
    new ResizeObserver(fit).observe(box);
    fit();

    function send(content) {
      if (unanswered <= 0 && socket?.readyState === WebSocket.OPEN) socket.send(content);
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

    async function attach(line, isOpen) {
      socket = line;
      terminal.reset();
      line.addEventListener("message", ({ data }) => {
        if (typeof data === "string") {
          unanswered = JSON.parse(data).before;
          isOpen({ send: (text) => terminal.paste(text), picture });
          terminal.focus();
        } else {
          terminal.write(new Uint8Array(data), () => { unanswered -= data.byteLength; });
        }
      });
    }
    return { attach, focus: () => terminal.focus() };
  }

  /* The screen */

  const US = { // the characters of a US keyboard: without and with Shift → the key
    "`~": "Backquote", "1!": "Digit1", "2@": "Digit2", "3#": "Digit3", "4$": "Digit4", "5%": "Digit5", "6^": "Digit6",
    "7&": "Digit7", "8*": "Digit8", "9(": "Digit9", "0)": "Digit0", "-_": "Minus", "=+": "Equal", "[{": "BracketLeft",
    "]}": "BracketRight", "\\|": "Backslash", ";:": "Semicolon", "'\"": "Quote", ",<": "Comma", ".>": "Period",
    "/?": "Slash", " ": "Space",
  };
  const SHIFT = 0xffe1, ENTER = 0xff0d, TAB = 0xff09; // keysyms
  const BETWEEN_KEYS = 25; // ms: a guest's keyboard has a short memory

  function keyOf(character) {
    if (character === "\n") return { sym: ENTER, code: "Enter" };
    if (character === "\t") return { sym: TAB, code: "Tab" };
    const sym = character.codePointAt(0);
    if (/^[a-z]$/i.test(character)) {
      return { sym, code: `Key${character.toUpperCase()}`, shift: character !== character.toLowerCase() };
    }
    const pair = Object.keys(US).find((characters) => characters.includes(character));
    return pair && { sym, code: US[pair], shift: pair.indexOf(character) === 1 };
  }

  async function typeKeys(rfb, text) {
    const keys = [...text].map(keyOf);
    const missing = keys.filter((key) => !key).length;
    if (missing) window.pileus.toast(`Left out what is on no US keyboard: ${missing} of ${keys.length} characters.`, "warning");
    for (const { sym, code, shift } of keys.filter(Boolean)) {
      if (!open) return;
      if (shift) rfb.sendKey(SHIFT, "ShiftLeft", true);
      rfb.sendKey(sym, code);
      if (shift) rfb.sendKey(SHIFT, "ShiftLeft", false);
      await new Promise((resolve) => setTimeout(resolve, BETWEEN_KEYS));
    }
  }

  async function vnc() {
    const { default: RFB } = await import(box.dataset.module);
    let rfb = null;

    async function attach(line, isOpen) {
      screen.replaceChildren();
      rfb = new RFB(screen, line, { shared: true });
      rfb.scaleViewport = true;
      rfb.background = "transparent";
      rfb.addEventListener("connect", () => {
        isOpen({
          send: (text) => typeKeys(rfb, text),
          picture: () => screen.querySelector("canvas"),
          secure: () => rfb.sendCtrlAltDel(),
        });
        rfb.focus();
      });
    }
    return { attach, focus: () => rfb?.focus() };
  }

  /* The buttons */

  const paste = document.getElementById("paste");
  const actions = {
    again: () => connect(),
    secure: () => open?.secure(),
    full: () => box.requestFullscreen(),
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
    if (button) actions[button.dataset.do]();
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
  })();
})();
