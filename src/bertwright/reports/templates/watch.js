// Draws the figures of runs as SVG curves, and asks for new ones every few seconds where the page is live.
"use strict";
(() => {
  const LIVE = document.body.dataset.live === "yes", EVERY = 3000;
  const COLOURS = ["#3b78c2", "#c2592e", "#2e8b57", "#9055b8", "#b08400", "#c23b78", "#1a8a94", "#77797c"];
  const DASHES = ["", "7 3", "2 3", "9 3 2 3", "4 6", "12 4"];
  const WIDTH = 480, HEIGHT = 290, LEFT = 58, RIGHT = 10, TOP = 10, BOTTOM = 36;
  const SVG = "http://www.w3.org/2000/svg";
  const at = (id) => document.getElementById(id);
  let data = { panels: [], runs: [] }, along = "steps", smooth = 1;
  const hidden = new Set(), readings = new Map();

  function make(name, attributes = {}, ...children) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children.map(String));
    return element;
  }
  function draw(parent, name, attributes, text) {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
  }
  function short(value) {
    if (value === null || value === undefined) return "";
    const size = Math.abs(value);
    if (size >= 1e9) return +(value / 1e9).toPrecision(3) + "B";
    if (size >= 1e6) return +(value / 1e6).toPrecision(3) + "M";
    if (size >= 1e4) return +(value / 1e3).toPrecision(3) + "k";
    if (size !== 0 && size < 1e-3) return value.toExponential(1);
    return String(+value.toPrecision(4));
  }
  function colour(run) { return COLOURS[data.runs.indexOf(run) % COLOURS.length]; }

  // Mean of up to `smooth` values up to each, empty ones left out.
  function smoothed(values) {
    if (smooth === 1) return values;
    return values.map((value, place) => {
      if (value === null) return null;
      const known = values.slice(Math.max(0, place - smooth + 1), place + 1).filter((one) => one !== null);
      return known.reduce((sum, one) => sum + one, 0) / known.length;
    });
  }
  // All curves of a picture: run, name, held out or not, and points [x, y].
  function curvesOf(title) {
    const found = [];
    for (const run of data.runs)
      for (const part of ["training", "held_out"])
        for (const [name, values] of Object.entries(run[part].curves[title] || {})) {
          const shown = part === "training" ? smoothed(values) : values, x = run[part][along];
          const points = shown.map((y, place) => [x[place], y]).filter(([a, b]) => a !== null && b !== null);
          if (points.length) found.push({ run, name, heldOut: part === "held_out", points });
        }
    return found;
  }
  function ticks(low, high, log) {
    if (log && high / low > 8) {
      const found = [];
      for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
        for (const digit of high / low > 200 ? [1] : [1, 2, 5]) {
          const value = digit * 10 ** power;
          if (value >= low * 0.999 && value <= high * 1.001) found.push(value);
        }
      if (found.length > 1) return found;
    }
    const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((one) => one * power >= rough);
    const found = [];
    for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-6; value += step) found.push(+value.toPrecision(10));
    return found;
  }
  function spread(values, log) {
    let low = Math.min(...values), high = Math.max(...values);
    if (low === high) { low -= Math.abs(low) * 0.1 || 0.5; high += Math.abs(high) * 0.1 || 0.5; }
    if (log) return [low, high];
    const margin = (high - low) * 0.04;
    return [low >= 0 ? Math.max(0, low - margin) : low - margin, high + margin];
  }

  function picture(panel) {
    const title = panel.title, every = curvesOf(title);
    if (!every.length) return null;
    const keyOf = (curve) => title + "/" + curve.name;
    const shown = every.filter((curve) => !hidden.has(keyOf(curve)) && !hidden.has("run/" + curve.run.name));
    const names = [...new Set(every.map((curve) => curve.name))];
    const one = data.runs.length === 1;
    const stroke = (curve) => one ? COLOURS[names.indexOf(curve.name) % COLOURS.length] : colour(curve.run);
    const dash = (curve) => one ? "" : DASHES[names.indexOf(curve.name) % DASHES.length];
    const figure = make("figure", { tabindex: 0, "data-title": title });
    const caption = make("figcaption");
    caption.append(make("h3", {}, title));
    for (const name of names) {
      const key = title + "/" + name, button = make("button", { type: "button", "aria-pressed": String(!hidden.has(key)), "data-key": key });
      const swatch = document.createElementNS(SVG, "svg");
      swatch.setAttribute("viewBox", "0 0 24 6"); swatch.setAttribute("aria-hidden", "true"); swatch.style.cssText = "width:24px;height:6px;display:inline-block;margin-right:4px";
      draw(swatch, "line", { x1: 0, y1: 3, x2: 24, y2: 3, "stroke-width": 2.5, stroke: one ? COLOURS[names.indexOf(name) % COLOURS.length] : "currentColor", "stroke-dasharray": one ? "" : DASHES[names.indexOf(name) % DASHES.length] });
      button.append(swatch, name.replaceAll("_", " "));
      button.addEventListener("click", () => { hidden.has(key) ? hidden.delete(key) : hidden.add(key); render(); });
      caption.append(button);
    }
    figure.append(caption);
    const reading = make("p", { class: "reading", "aria-live": "polite" });
    if (!shown.length) { reading.textContent = "All curves of this picture are switched off."; figure.append(reading); return figure; }
    const log = panel.log && shown.every((curve) => curve.points.every(([, y]) => y > 0));
    const entropies = title === "Loss (nats)" ? [...new Set(data.runs.map((run) => run.entropy).filter((value) => value))] : [];
    const [x0, x1] = spread(shown.flatMap((curve) => curve.points.map(([x]) => x)), true);
    const [y0, y1] = spread([...shown.flatMap((curve) => curve.points.map(([, y]) => y)), ...entropies], log);
    const scale = (value) => log ? Math.log(value) : value;
    const px = (x) => LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT);
    const py = (y) => HEIGHT - BOTTOM - (scale(y) - scale(y0)) / (scale(y1) - scale(y0)) * (HEIGHT - TOP - BOTTOM);
    const latest = shown.map((curve) => `${one ? "" : curve.run.name + " "}${curve.name.replaceAll("_", " ")}${curve.heldOut ? " held out" : ""} ${short(curve.points.at(-1)[1])}`);
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`); svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", `${title} along ${along}; last: ${latest.join("; ")}`);
    for (const value of ticks(y0, y1, log)) {
      draw(svg, "line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: py(value), y2: py(value) });
      draw(svg, "text", { x: LEFT - 6, y: py(value) + 4, "text-anchor": "end" }, short(value));
    }
    for (const value of ticks(x0, x1, false)) draw(svg, "text", { x: px(value), y: HEIGHT - BOTTOM + 16, "text-anchor": "middle" }, short(value));
    draw(svg, "text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 4, "text-anchor": "middle" }, along);
    for (const value of entropies) {
      draw(svg, "line", { class: "cursor", x1: LEFT, x2: WIDTH - RIGHT, y1: py(value), y2: py(value), "stroke-dasharray": "5 4" });
      draw(svg, "text", { x: WIDTH - RIGHT, y: py(value) - 4, "text-anchor": "end" }, "unigram entropy");
    }
    for (const curve of shown) {
      const path = curve.points.map(([x, y]) => `${px(x).toFixed(1)},${py(y).toFixed(1)}`).join(" ");
      draw(svg, "polyline", { points: path, fill: "none", stroke: stroke(curve), "stroke-dasharray": dash(curve), "stroke-width": curve.heldOut ? 2 : 1.2, opacity: curve.heldOut ? 1 : 0.75 });
      if (curve.heldOut || curve.points.length === 1)
        for (const [x, y] of curve.points.length > 60 ? [curve.points.at(-1)] : curve.points) draw(svg, "circle", { cx: px(x), cy: py(y), r: 2.4, fill: stroke(curve) });
    }
    const cursor = draw(svg, "line", { class: "cursor", y1: TOP, y2: HEIGHT - BOTTOM, x1: -9, x2: -9 });
    figure.append(svg, reading);

    // Values of all curves nearest to a place; the place is kept while the picture is drawn anew.
    function read(x) {
      readings.set(title, x);
      cursor.setAttribute("x1", px(x)); cursor.setAttribute("x2", px(x));
      reading.textContent = `${short(x)} ${along}: ` + shown.map((curve) => {
        const near = curve.points.reduce((best, point) => Math.abs(point[0] - x) < Math.abs(best[0] - x) ? point : best);
        return `${one ? "" : curve.run.name + " "}${curve.name.replaceAll("_", " ")}${curve.heldOut ? " (held out)" : ""} ${short(near[1])}`;
      }).join(", ");
    }
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect(), x = (event.clientX - box.left) / box.width * WIDTH;
      read(Math.min(x1, Math.max(x0, x0 + (x - LEFT) / (WIDTH - LEFT - RIGHT) * (x1 - x0))));
    });
    figure.addEventListener("keydown", (event) => {
      if (event.target !== figure) return;
      const places = [...new Set(shown.flatMap((curve) => curve.points.map(([x]) => x)))].sort((a, b) => a - b);
      const now = readings.get(title) ?? x1;
      const jump = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
      if (event.key === "Home") read(places[0]);
      else if (event.key === "End") read(places.at(-1));
      else if (jump) {
        const here = places.reduce((best, x, place) => Math.abs(x - now) < Math.abs(places[best] - now) ? place : best, 0);
        read(places[Math.min(places.length - 1, Math.max(0, here + jump))]);
      } else return;
      event.preventDefault();
    });
    if (readings.has(title)) read(Math.min(x1, Math.max(x0, readings.get(title))));
    return figure;
  }

  function table(headers, rows) {
    const found = make("table"), head = make("tr");
    for (const name of headers) head.append(make("th", { scope: "col" }, name));
    found.append(head);
    for (const row of rows) {
      const line = make("tr");
      for (const cell of row) line.append(cell);
      found.append(line);
    }
    return found;
  }
  function renderRuns() {
    const rows = data.runs.map((run) => {
      const name = make("td"), key = "run/" + run.name;
      const button = make("button", { type: "button", "aria-pressed": String(!hidden.has(key)), "data-key": key });
      const swatch = make("span", { class: "swatch", "aria-hidden": "true" });
      swatch.style.background = colour(run);
      button.append(swatch, run.name);
      button.addEventListener("click", () => { hidden.has(key) ? hidden.delete(key) : hidden.add(key); render(); });
      name.append(button);
      const left = run.state === "trains" && run.left !== null ? run.left.toFixed(1) : "";
      return [name, make("td", {}, run.task), make("td", {}, run.state), ...[run.step.toLocaleString("en"), short(run.tokens), run.minutes.toFixed(1), left].map((text) => make("td", { class: "n" }, text))];
    });
    at("runs").replaceChildren(table(["run", "task", "state", "step", "tokens", "minutes", "minutes left"], rows));
    for (const run of data.runs)
      if (run.check) at("runs").append(make("p", { class: run.check.normal ? "check" : "check wrong" }, data.runs.length > 1 ? run.name + ": " : "", run.check.text));
  }
  function renderSamples() {
    at("samples").replaceChildren();
    for (const run of data.runs)
      for (const sample of run.samples) {
        const text = make("p", {}, data.runs.length > 1 ? run.name + ": " : "", sample.text, " ");
        text.append(make("span", { class: "p" }, "(was: " + sample.label + ")"));
        const rows = sample.rows.map(([step, predictions]) => [make("td", { class: "n" }, "step " + step.toLocaleString("en")), ...predictions.map(([word, probability]) => {
          const cell = make("td", word === sample.label ? { class: "right" } : {}, word, " ");
          cell.append(make("span", { class: "p" }, Math.round(100 * probability) + "%"));
          return cell;
        })]);
        at("samples").append(text, table([], rows));
      }
    at("samples").parentElement.hidden = !at("samples").childElementCount;
  }
  function render() {
    const focused = document.activeElement, key = focused?.dataset?.key, title = focused?.dataset?.title;
    renderRuns();
    at("curves").replaceChildren(...data.panels.map(picture).filter((one) => one));
    renderSamples();
    const again = key ? `[data-key="${CSS.escape(key)}"]` : title ? `[data-title="${CSS.escape(title)}"]` : "";
    if (again) document.querySelector(again)?.focus({ preventScroll: true });
  }

  at("controls").addEventListener("submit", (event) => event.preventDefault());
  at("controls").addEventListener("input", (event) => {
    if (event.target.name === "along") { along = event.target.value; readings.clear(); }
    if (event.target.id === "smooth") { smooth = Number(event.target.value); at("smooth-value").textContent = smooth; }
    render();
  });
  let before = "";
  async function ask() {
    try {
      const answer = await fetch("runs.json", { cache: "no-cache" });
      if (!answer.ok) throw new Error("status " + answer.status);
      const text = await answer.text();
      if (text !== before) { before = text; data = JSON.parse(text); render(); }
      at("news").textContent = data.runs.some((run) => run.state === "trains") ? "A run trains; this page follows it." : "No run trains at the moment; this page follows when one does.";
    } catch (error) {
      at("news").textContent = "The server does not answer (" + error.message + "); what is shown is the last it said.";
    }
    setTimeout(ask, document.hidden ? 10 * EVERY : EVERY);
  }
  if (LIVE) ask();
  else {
    data = JSON.parse(at("figures").textContent);
    at("news").textContent = "Written once; bertwright watch shows runs live.";
    render();
  }
})();
