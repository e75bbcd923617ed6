/* Which keys have to be struck for a character, by the layout that a guest takes its keyboard for.

   A screen sends keys by their place (RFB's extended key events), so what a key means is up to the guest. The layouts
   are those of xkeyboard-config for a keyboard with 105 keys; of AltGr's level they have what is typed in a shell. */
"use strict";

(() => {
  const KEYS = [
    "Backquote", ...[..."1234567890"].map((digit) => `Digit${digit}`), "Minus", "Equal",
    ...[..."QWERTYUIOP"].map((letter) => `Key${letter}`), "BracketLeft", "BracketRight",
    ...[..."ASDFGHJKL"].map((letter) => `Key${letter}`), "Semicolon", "Quote", "Backslash",
    "IntlBackslash", ...[..."ZXCVBNM"].map((letter) => `Key${letter}`), "Comma", "Period", "Slash",
  ];
  // `plain` and `shift`: a character for each of KEYS, a combining one for a dead key. `altgr`: character and key.
  const LAYOUTS = {
    us: {
      name: "English (US)",
      plain: "`1234567890-=qwertyuiop[]asdfghjkl;'\\ zxcvbnm,./",
      shift: "~!@#$%^&*()_+QWERTYUIOP{}ASDFGHJKL:\"| ZXCVBNM<>?",
      altgr: "",
    },
    gb: {
      name: "English (UK)",
      plain: "`1234567890-=qwertyuiop[]asdfghjkl;'#\\zxcvbnm,./",
      shift: "¬!\"£$%^&*()_+QWERTYUIOP{}ASDFGHJKL:@~|ZXCVBNM<>?",
      altgr: "€Digit4 \u0301Semicolon",
    },
    de: {
      name: "German",
      plain: "\u03021234567890ß\u0301qwertzuiopü+asdfghjklöä#<yxcvbnm,.-",
      shift: "°!\"§$%&/()=?\u0300QWERTZUIOPÜ*ASDFGHJKLÖÄ'>YXCVBNM;:_",
      altgr: "{Digit7 [Digit8 ]Digit9 }Digit0 \\Minus @KeyQ €KeyE ~BracketRight |IntlBackslash",
    },
    ch: {
      name: "Swiss German",
      plain: "§1234567890'\u0302qwertzuiopü\u0308asdfghjklöä$<yxcvbnm,.-",
      shift: "°+\"*ç%&/()=?\u0300QWERTZUIOPè!ASDFGHJKLéà£>YXCVBNM;:_",
      altgr: "|Digit1 @Digit2 #Digit3 ]Digit9 }Digit0 \u0301Minus \u0303Equal €KeyE "
        + "[BracketLeft {Quote \\IntlBackslash",
    },
    fr: {
      name: "French",
      plain: "²&é\"'(-è_çà)=azertyuiop\u0302$qsdfghjklmù*<wxcvbn,;:!",
      shift: "~1234567890°+AZERTYUIOP\u0308£QSDFGHJKLM%µ>WXCVBN?./§",
      altgr: "#Digit3 {Digit4 [Digit5 |Digit6 `Digit7 \\Digit8 @Digit0 ]Minus }Equal €KeyE \u0301KeyM",
    },
    es: {
      name: "Spanish",
      plain: "º1234567890'¡qwertyuiop\u0300+asdfghjklñ\u0301ç<zxcvbnm,.-",
      shift: "ª!\"·$%&/()=?¿QWERTYUIOP\u0302*ASDFGHJKLÑ\u0308Ç>ZXCVBNM;:_",
      altgr: "\\Backquote |Digit1 @Digit2 #Digit3 ~Digit4 {Digit7 [Digit8 ]Digit9 }Digit0 €KeyE",
    },
    it: {
      name: "Italian",
      plain: "\\1234567890'ìqwertyuiopè+asdfghjklòàù<zxcvbnm,.-",
      shift: "|!\"£$%&/()=?^QWERTYUIOPé*ASDFGHJKLç°§>ZXCVBNM;:_",
      altgr: "{Digit7 [Digit8 ]Digit9 }Digit0 `Minus ~Equal @KeyQ €KeyE #Quote \u0301Comma",
    },
    pt: {
      name: "Portuguese",
      plain: "\\1234567890'«qwertyuiop+\u0301asdfghjklçº\u0303<zxcvbnm,.-",
      shift: "|!\"#$%&/()=?»QWERTYUIOP*\u0300ASDFGHJKLÇª\u0302>ZXCVBNM;:_",
      altgr: "@Digit2 {Digit7 [Digit8 ]Digit9 }Digit0 €KeyE",
    },
    br: {
      name: "Portuguese (Brazil)",
      plain: "'1234567890-=qwertyuiop\u0301[asdfghjklç\u0303]\\zxcvbnm,.;",
      shift: "\"!@#$%\u0308&*()_+QWERTYUIOP\u0300{ASDFGHJKLÇ\u0302}|ZXCVBNM<>:",
      altgr: "/KeyQ ?KeyW",
    },
    se: {
      name: "Swedish, Finnish",
      plain: "§1234567890+\u0301qwertyuiopå\u0308asdfghjklöä'<zxcvbnm,.-",
      shift: "½!\"#¤%&/()=?\u0300QWERTYUIOPÅ\u0302ASDFGHJKLÖÄ*>ZXCVBNM;:_",
      altgr: "@Digit2 $Digit4 €Digit5 {Digit7 [Digit8 ]Digit9 }Digit0 \\Minus \u0303BracketRight |IntlBackslash",
    },
    dk: {
      name: "Danish",
      plain: "½1234567890+\u0301qwertyuiopå\u0308asdfghjklæø'<zxcvbnm,.-",
      shift: "§!\"#¤%&/()=?\u0300QWERTYUIOPÅ\u0302ASDFGHJKLÆØ*>ZXCVBNM;:_",
      altgr: "@Digit2 $Digit4 {Digit7 [Digit8 ]Digit9 }Digit0 |Equal €KeyE \u0303BracketRight \\IntlBackslash",
    },
    no: {
      name: "Norwegian",
      plain: "|1234567890+\\qwertyuiopå\u0308asdfghjkløæ'<zxcvbnm,.-",
      shift: "§!\"#¤%&/()=?\u0300QWERTYUIOPÅ\u0302ASDFGHJKLØÆ*>ZXCVBNM;:_",
      altgr: "@Digit2 $Digit4 {Digit7 [Digit8 ]Digit9 }Digit0 \u0301Equal €KeyE \u0303BracketRight",
    },
    pl: {
      name: "Polish",
      plain: "`1234567890-=qwertyuiop[]asdfghjkl;'\\<zxcvbnm,./",
      shift: "~!@#$%^&*()_+QWERTYUIOP{}ASDFGHJKL:\"|>ZXCVBNM<>?",
      altgr: "€Digit5 ęKeyE óKeyO ąKeyA śKeyS łKeyL \u0301Semicolon żKeyZ źKeyX ćKeyC ńKeyN",
    },
    be: {
      name: "Belgian",
      plain: "²&é\"'(§è!çà)-azertyuiop\u0302$qsdfghjklmùµ<wxcvbn,;:=",
      shift: "³1234567890°_AZERTYUIOP\u0308*QSDFGHJKLM%£>WXCVBN?./+",
      altgr: "|Digit1 @Digit2 #Digit3 {Digit7 [Digit8 }Digit0 \\Minus €KeyE ]BracketRight "
        + "\u0301Semicolon \u0300Backslash \u0303Slash",
    },
  };
  const DEAD = { // a dead key's mark → its keysym, and what it makes with a space
    "\u0300": [0xfe50, "`"], "\u0301": [0xfe51, "´"], "\u0302": [0xfe52, "^"], "\u0303": [0xfe53, "~"],
    "\u0308": [0xfe57, "¨"], "\u030a": [0xfe58, "°"], "\u0327": [0xfe5b, "¸"], "\u030c": [0xfe5a, "ˇ"],
  };
  const ALWAYS = { "\n": ["Enter", 0xff0d], "\t": ["Tab", 0xff09], " ": ["Space", 0x20] };

  function keysym(character) {
    const point = character.codePointAt(0);
    return DEAD[character]?.[0] ?? (point < 0x100 ? point : 0x01000000 + point);
  }

  /** Character → stroke, for the characters that one key makes. */
  function table({ plain, shift, altgr }) {
    const found = new Map();
    const add = (character, code, more) => {
      if (character !== " " && !found.has(character)) found.set(character, { code, sym: keysym(character), ...more });
    };
    KEYS.forEach((code, place) => add(plain[place], code, {}));
    KEYS.forEach((code, place) => add(shift[place], code, { shift: true }));
    for (const word of altgr.split(" ").filter(Boolean)) add(word[0], word.slice(1), { altgr: true });
    for (const [character, [code, sym]] of Object.entries(ALWAYS)) found.set(character, { code, sym });
    return found;
  }

  /** A function from a character to the strokes that make it, [{ code, sym, shift, altgr }]; null where none do. */
  function typist(layout) {
    const keys = table(LAYOUTS[layout]);
    return (character) => {
      const accent = Object.keys(DEAD).find((mark) => DEAD[mark][1] === character && keys.has(mark));
      const parts = keys.has(character) ? character : accent ? `${accent} ` : reverse(character);
      const made = [...parts].map((part) => keys.get(part));
      return made.length <= 2 && made.every(Boolean) ? made : null;
    };
  }

  /** é → ´e: a dead key comes first. */
  function reverse(character) {
    return [...character.normalize("NFD")].reverse().join("");
  }

  const names = Object.entries(LAYOUTS).map(([layout, { name }]) => [layout, name]);
  window.pileus.keyboards = { names, typist };
})();
