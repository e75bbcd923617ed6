/* Plots of what an instance or a host uses. Colours come from the design's tokens, so they follow the theme; gaps stay gaps.
   Without this file the same numbers are in the table below. */
"use strict";

(() => {
  const card = document.getElementById("metrics");
  if (!card || !window.uPlot) return;
  const AGAIN = { "1h": 10000, "1d": 60000, "30d": 900000 };
  const AGAIN_FOR_A_RANGE = 30000; // that goes on until now
  const HEIGHT = 150;
  const MIN_DRAG = 5; // pixels
  const MIN_SECONDS = 60;
  const POWERS = Array.from({ length: 44 }, (_, power) => 2 ** power);
  /* What is looked at: {span}, or {from, to} in seconds, where no `to` means until now. What was looked at before. */
  const { span, from, to } = card.dataset;
  let view = span ? { span } : { from: Date.parse(from) / 1000, to: to && Date.parse(to) / 1000 };
  const before = [];
  const refused = card.querySelector("[data-refused]");
  let timer;
  let shown;

  const token = (name) => getComputedStyle(card).getPropertyValue(name).trim();
  /* light-dark() is resolved by asking what colour an element gets. */
  function colour(name) {
    const probe = document.createElement("span");
    probe.style.color = `var(${name})`;
    card.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
  }

  function short(value) {
    return value >= 100 || Number.isInteger(value) ? String(Math.round(value)) : value.toFixed(1);
  }

  function words(value, unit) {
    if (value === null || value === undefined) return "–";
    if (unit === "MiB") return value < 1024 ? `${short(value)} MiB` : `${short(value / 1024)} GiB`;
    if (unit === "percent") return `${short(value)} %`;
    if (unit === "GiB") return `${short(value)} GiB`;
    if (unit !== "bytes/s") return `${short(value)}/s`;
    for (const prefix of ["B", "KiB", "MiB"]) {
      if (value < 1024) return `${short(value)} ${prefix}/s`;
      value /= 1024;
    }
    return `${short(value)} GiB/s`;
  }

  /* Values without neighbours: no line is drawn to them, so they are shown as dots. */
  function alone(plot, series) {
    const values = plot.data[series];
    const known = (index) => values[index] !== null && values[index] !== undefined;
    return [...values.keys()].filter((index) => known(index) && !known(index - 1) && !known(index + 1));
  }

  function options(figure, names, unit, times) {
    const axis = { stroke: colour("--text-soft"), font: `11px ${token("--font")}`, ticks: { show: false }, grid: { stroke: colour("--line"), width: 1 } };
    const strokes = [colour("--accent"), colour("--warn")];
    return {
      width: figure.clientWidth,
      height: HEIGHT,
      padding: [8, 18, 0, 0],
      legend: { show: false },
      cursor: { y: false, points: { size: 6 }, drag: { x: true, y: false, setScale: false }, bind: { dblclick: () => () => { zoomOut(); return null; } } },
      scales: { x: { range: [times[0], Math.max(times.at(-1), times[0] + 1)] }, y: { range: (_, low, high) => [0, Math.max(high * 1.1, unit === "percent" ? 10 : unit === "MiB" ? 16 : 1)] } },
      axes: [
        { ...axis, grid: { show: false }, size: 32, gap: 10, space: 60, values: [[86400, "{D} {MMM}", null, null, null, null, null, null, 1], [60, "{HH}:{mm}", null, null, null, null, null, null, 1], [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 1]] },
        { ...axis, size: 68, space: 36, incrs: unit === "bytes/s" || unit === "MiB" ? POWERS : undefined, values: (_, ticks) => ticks.map((tick) => words(tick, unit)) },
      ],
      series: [{}, ...names.map((_, index) => ({ stroke: strokes[index], width: 1.5, fill: index ? undefined : `color-mix(in srgb, ${strokes[0]} 12%, transparent)`, points: { show: false, size: 5, filter: alone }, spanGaps: false }))],
      hooks: { setCursor: [(plot) => tell(figure, plot.cursor.idx)], setSelect: [zoom] },
    };
  }

  function tell(figure, index) {
    const found = figure.found;
    if (!found) return;
    const at = index ?? found.latest;
    const parts = found.columns.map((column, number) => `${words(column[at], found.unit)}${found.labels.length > 1 ? ` ${found.labels[number]}` : ""}`);
    const clock = index === null || index === undefined ? "" : `${new Date(found.times[at] * 1000).toLocaleString([], { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" })}: `;
    figure.querySelector("[data-now]").textContent = at < 0 ? "" : clock + parts.join(", ");
  }

  /* How many steps of a span lie before the beginning of what it is about. */
  function skipped(series) {
    if (!view.span) return 0;
    const count = Object.values(series.metrics)[0].values.length;
    const steps = Math.floor((card.dataset.since - Date.parse(series.start) / 1000) / series.step_seconds);
    return Math.max(0, Math.min(steps, count - card.dataset.minSteps));
  }

  /* Of "cpu_percent", or of one disk or NIC: "disks/<id>/disk_reads_per_second". */
  function column(series, name) {
    const [metric, device, kind] = name.split("/").reverse();
    const values = (kind ? series[kind][device]?.metrics : series.metrics)?.[metric].values;
    return values ? values.slice(skipped(series)) : new Array(Object.values(series.metrics)[0].values.length - skipped(series)).fill(null);
  }

  function draw(figure, series) {
    const names = figure.dataset.plot.split(" ");
    const columns = names.map((name) => column(series, name));
    const isKnown = columns.some((column) => column.some((value) => value !== null));
    figure.querySelector("[data-why]")?.toggleAttribute("hidden", isKnown);
    let canvas = figure.querySelector(".canvas");
    if (!isKnown) { canvas?.remove(); figure.querySelector(".legend")?.remove(); figure.found = null; return; }
    const begin = Date.parse(series.start) / 1000 + skipped(series) * series.step_seconds;
    const times = columns[0].map((_, index) => begin + index * series.step_seconds);
    const latest = times.findLastIndex((_, index) => columns.some((column) => column[index] !== null));
    const labels = figure.dataset.words.split(",");
    figure.found = { columns, times, latest, labels, unit: figure.dataset.unit };
    if (!canvas) {
      canvas = document.createElement("div");
      canvas.className = "canvas";
      canvas.setAttribute("role", "img");
      figure.append(canvas);
      if (labels.length > 1) {
        const legend = document.createElement("div");
        legend.className = "legend";
        labels.forEach((label, index) => {
          const line = document.createElement("span");
          line.className = ["first", "second"][index];
          line.textContent = label;
          legend.append(line);
        });
        figure.append(legend);
      }
    }
    tell(figure, null);
    canvas.setAttribute("aria-label", `${figure.querySelector("figcaption .strong").textContent}: ${figure.querySelector("[data-now]").textContent}. The table below has the numbers.`);
    canvas.replaceChildren();
    figure.plot = new window.uPlot(options(figure, names, figure.dataset.unit, times), [times, ...columns], canvas);
  }

  function drawAll() {
    if (!shown) return;
    const isMeasured = Object.values(shown.metrics).some((metric) => metric.values.some((value) => value !== null));
    card.querySelector("[data-nothing]")?.toggleAttribute("hidden", isMeasured);
    card.querySelector("[data-plots]").hidden = !isMeasured;
    for (const figure of card.querySelectorAll("[data-plot]")) if (figure.clientWidth) draw(figure, shown);
    for (const row of card.querySelectorAll("[data-line]")) tabulate(row);
    card.querySelector("[data-span-words]")?.replaceChildren(view.span ? spanWords() : `${local(view.from)} to ${view.to ? local(view.to) : "now"}`);
  }

  function spanWords() {
    return skipped(shown) ? "Since it was made" : `The last ${card.querySelector(`[data-choose-span="${view.span}"]`).textContent.trim().replace(/^1 /, "")}`;
  }

  function local(seconds) {
    return new Date(seconds * 1000).toLocaleString([], { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });
  }

  /* The row of a metric: latest, mean, highest, and the share of the time that was measured. */
  function tabulate(row) {
    const values = column(shown, row.dataset.line);
    const known = values.filter((value) => value !== null);
    const mean = known.reduce((sum, value) => sum + value, 0) / known.length;
    const told = known.length ? [known.at(-1), mean, Math.max(...known)].map((value) => words(value, row.dataset.unit)) : ["–", "–", "–"];
    [...told, `${Math.round((100 * known.length) / values.length)} %`].forEach((text, index) => { row.cells[index + 1].textContent = text; });
  }

  function query() {
    if (view.span) return new URLSearchParams({ span: view.span });
    const moments = { from: view.from, ...(view.to ? { to: view.to } : {}) };
    return new URLSearchParams(Object.entries(moments).map(([name, at]) => [name, new Date(at * 1000).toISOString().replace(".000", "")]));
  }

  async function look(isAsked = false) {
    clearTimeout(timer);
    if (view.span || !view.to) timer = setTimeout(look, AGAIN[view.span] ?? AGAIN_FOR_A_RANGE);
    if (!isAsked && (document.hidden || card.querySelector(".canvas:hover"))) return;
    const looked = view;
    try {
      const answer = await fetch(`${card.dataset.metrics}?${query()}`, { headers: { Accept: "application/json" } });
      const said = await answer.json();
      if (looked !== view) return;
      refused.hidden = answer.ok;
      if (answer.ok) { shown = said; drawAll(); } else refused.textContent = said.errors?.[0]?.message ?? said.title;
    } catch { /* the next look may succeed */ }
  }

  /* The address keeps what is looked at. */
  function choose(next) {
    view = next;
    const url = new URL(location.href);
    for (const name of ["span", "from", "to"]) url.searchParams.delete(name);
    for (const [name, value] of query()) url.searchParams.set(name, value);
    history.replaceState(history.state, "", url);
    mark();
    look(true);
  }

  function mark() {
    for (const each of card.querySelectorAll("[data-choose-span]")) {
      if (each.dataset.chooseSpan === view.span) each.setAttribute("aria-current", "true");
      else each.removeAttribute("aria-current");
    }
    range.toggleAttribute("data-chosen", !view.span);
    card.querySelector("[data-zoom-out]").hidden = Boolean(view.span) && !before.length;
  }

  function zoom(plot) {
    const { left, width } = plot.select;
    if (width < MIN_DRAG) return;
    const [begin, end] = [left, left + width].map((at) => Math.round(plot.posToVal(at, "x")));
    before.push(view);
    choose({ from: begin, to: Math.max(end, begin + MIN_SECONDS) });
  }

  function zoomOut() {
    const last = before.pop();
    if (last) choose(last);
    else if (!view.span) choose({ span: "1h" });
  }

  card.addEventListener("click", (event) => {
    if (event.target.closest("[data-zoom-out]")) zoomOut();
    const chosen = event.target.closest("[data-choose-span]");
    if (!chosen || event.metaKey || event.ctrlKey) return;
    event.preventDefault();
    before.length = 0;
    choose({ span: chosen.dataset.chooseSpan });
  });

  /* The form is filled in by the reader's own clock here; without this file it is in UTC. */
  const range = card.querySelector(".range");
  const form = range.querySelector("form");
  for (const words of form.querySelectorAll("[data-utc]")) words.remove();

  function written(seconds) {
    const at = new Date(seconds * 1000);
    return new Date(at - at.getTimezoneOffset() * 60000).toISOString().slice(0, 19);
  }

  range.addEventListener("toggle", () => {
    if (!range.open) return;
    const begin = shown ? Date.parse(shown.start) / 1000 + skipped(shown) * shown.step_seconds : Date.now() / 1000 - 3600;
    form.elements.from.value = written(view.span ? begin : view.from);
    form.elements.to.value = view.to ? written(view.to) : "";
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const [begin, end] = [form.elements.from, form.elements.to].map((field) => field.value && Date.parse(field.value) / 1000);
    form.elements.from.setCustomValidity(begin < (end || Date.now() / 1000) ? "" : "It has to be before the end.");
    if (!form.reportValidity()) return;
    range.open = false;
    before.push(view);
    choose({ from: begin, to: end || undefined });
  });
  form.addEventListener("input", () => form.elements.from.setCustomValidity(""));
  for (const group of card.querySelectorAll("[data-group]")) group.addEventListener("toggle", drawAll);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  let width = card.clientWidth;
  new ResizeObserver(() => {
    if (card.clientWidth !== width) { width = card.clientWidth; drawAll(); }
  }).observe(card);
  mark();
  look(true);
})();
