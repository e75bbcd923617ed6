/* Plots of what an instance or a host uses. Colours come from the design's tokens, so they follow the theme; gaps stay gaps.
   Without this file the same numbers are in the table below. */
"use strict";

(() => {
  const card = document.getElementById("metrics");
  if (!card || !window.uPlot) return;
  const AGAIN = { "1h": 10000, "1d": 60000, "30d": 900000 };
  const HEIGHT = 150;
  const POWERS = Array.from({ length: 44 }, (_, power) => 2 ** power);
  let span = card.dataset.span;
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
      cursor: { y: false, points: { size: 6 }, drag: { setScale: false } },
      scales: { x: { range: [times[0], times.at(-1)] }, y: { range: (_, low, high) => [0, Math.max(high * 1.1, unit === "percent" ? 10 : unit === "MiB" ? 16 : 1)] } },
      axes: [
        { ...axis, grid: { show: false }, size: 32, gap: 10, space: 60, values: [[86400, "{D} {MMM}", null, null, null, null, null, null, 1], [60, "{HH}:{mm}", null, null, null, null, null, null, 1]] },
        { ...axis, size: 68, space: 36, incrs: unit === "bytes/s" || unit === "MiB" ? POWERS : undefined, values: (_, ticks) => ticks.map((tick) => words(tick, unit)) },
      ],
      series: [{}, ...names.map((_, index) => ({ stroke: strokes[index], width: 1.5, fill: index ? undefined : `color-mix(in srgb, ${strokes[0]} 12%, transparent)`, points: { show: false, size: 5, filter: alone }, spanGaps: false }))],
      hooks: { setCursor: [(plot) => tell(figure, plot.cursor.idx)] },
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

  function draw(figure, series) {
    const names = figure.dataset.plot.split(" ");
    const columns = names.map((name) => series.metrics[name].values);
    const isKnown = columns.some((column) => column.some((value) => value !== null));
    figure.querySelector("[data-why]")?.toggleAttribute("hidden", isKnown);
    let canvas = figure.querySelector(".canvas");
    if (!isKnown) { canvas?.remove(); figure.querySelector(".legend")?.remove(); figure.found = null; return; }
    const begin = Date.parse(series.start) / 1000;
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
    for (const figure of card.querySelectorAll("[data-plot]")) draw(figure, shown);
  }

  async function look() {
    clearTimeout(timer);
    timer = setTimeout(look, AGAIN[span]);
    if (document.hidden || card.querySelector(".canvas:hover")) return;
    try {
      const answer = await fetch(`${card.dataset.metrics}?span=${span}`, { headers: { Accept: "application/json" } });
      if (answer.ok) { shown = await answer.json(); drawAll(); }
    } catch { /* the next look may succeed */ }
  }

  card.addEventListener("click", (event) => {
    const chosen = event.target.closest("[data-choose-span]");
    if (!chosen || event.metaKey || event.ctrlKey) return;
    event.preventDefault();
    span = chosen.dataset.chooseSpan;
    const url = new URL(location.href);
    url.searchParams.set("span", span);
    history.replaceState(history.state, "", url);
    for (const each of card.querySelectorAll("[data-choose-span]")) {
      if (each === chosen) each.setAttribute("aria-current", "true");
      else each.removeAttribute("aria-current");
    }
    look();
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  let width = card.clientWidth;
  new ResizeObserver(() => {
    if (card.clientWidth !== width) { width = card.clientWidth; drawAll(); }
  }).observe(card);
  look();
})();
