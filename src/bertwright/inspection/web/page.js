"use strict";
// Draws the page from the data block "content"; every text of a user becomes a text node, never HTML.
(() => {
const WORDS = /* words */ {};
const content = JSON.parse(document.getElementById("content").textContent);
const DISTANCES = ["special", "before", "-4", "-3", "-2", "-1", "0", "1", "2", "3", "4", "after"];
const state = {
  language: (navigator.languages || [navigator.language]).find(l => /^(zh|en)/i.test(l)) || "en",
  model: 0, beside: content.models.length > 1 && !content.endpoint ? 1 : -1, text: 0, own: null,
  hidden: new Set(), step: -1, layer: -1, head: [0, 0], from: -1, dim: true, draw: 0, why: 0,
  method: "gradients", compare: 1, threshold: 0, key: "",
};
state.language = /^zh/i.test(state.language) ? "zh" : "en";

// --- words and elements -------------------------------------------------------------------------------------------
function say(key, ...values) {
  return (WORDS[state.language][key] ?? key).replace(/\{(\d)\}/g, (_, n) => values[Number(n)]);
}
function el(name, given = {}, ...inner) {
  const svg = ["svg", "line", "circle", "text", "rect", "polyline", "title"].includes(name);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(given)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "width" && !svg && name !== "canvas") made.style.width = value;
    else if (key === "back") made.style.background = value;
    else if (key === "columns") made.style.gridTemplateColumns = value;
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== undefined && value !== null) made.setAttribute(key, value);
  }
  made.append(...inner.flat(Infinity).filter(one => one !== null && one !== undefined));
  return made;
}
const percent = value => (100 * value).toFixed(value > 0 && value < 0.0995 ? 1 : 0) + "%";
const signed = value => (value > 0 ? "+" : value < 0 ? "\u2212" : "") + Math.abs(value).toFixed(2);
const count = value => value.toLocaleString(state.language);
function colour(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }
function table(header, rows, caption) {
  return el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": caption },
    el("table", {}, el("caption", { class: "hide" }, caption),
      el("thead", {}, el("tr", {}, header.map(one => el("th", { scope: "col" }, one)))),
      el("tbody", {}, rows.map(row => el("tr", {}, row.map((cell, at) =>
        at === 0 ? el("th", { scope: "row" }, cell) : el("td", { class: typeof cell === "string" && /^[+\u2212]?\d[\d.,]*%?$/.test(cell) ? "number" : null }, cell)))))));
}
function bars(rows) {
  const largest = Math.max(1e-9, ...rows.map(row => Math.abs(row.size ?? row.value)));
  const scale = rows.some(row => row.size !== undefined) ? largest : 1;
  return el("div", { class: "bars" }, rows.map(row => [
    el("span", { class: row.right ? "right" : null }, row.name, row.right ? " \u2713" : ""),
    el("span", { class: "track", "aria-hidden": "true" },
      el("span", { class: row.value < 0 ? "bar minus" : "bar", width: `${100 * Math.min(1, Math.abs(row.size ?? row.value) / scale)}%` })),
    el("span", { class: "number" }, row.shown ?? percent(row.value))]));
}

// --- what is looked at --------------------------------------------------------------------------------------------
const shown = () => [state.model, state.beside].filter((one, at, all) => one >= 0 && all.indexOf(one) === at);
const reading = model => (state.own ? state.own[model] : content.models[model].readings[state.text]);
const about = model => content.models[model].about;
const bytes = new Map();
function numbers(packed) {
  if (!bytes.has(packed)) bytes.set(packed, Uint8Array.from(atob(packed), one => one.charCodeAt(0)));
  return bytes.get(packed);
}
function weight(found, size, heads, layer, head, row, column) {
  return numbers(found)[((layer * heads + head) * size + row) * size + column] / 255;
}
function clamp(value, most) { return Math.max(0, Math.min(value, most)); }
function layerOf(model) { return state.layer < 0 ? about(model).layers : clamp(state.layer, about(model).layers); }

async function ask(body) {
  const answer = await fetch(content.endpoint, {
    method: "POST", headers: { "Content-Type": "application/json", ...(state.key ? { Authorization: "Bearer " + state.key } : {}) }, body: JSON.stringify(body) });
  const found = await answer.json();
  if (!answer.ok || found.error) throw new Error(String(found.error || answer.status));
  return found;
}
async function look(text, second) {
  const own = {};
  for (const model of shown()) own[model] = await ask({ text, second: second || null, model: about(model).name, seed: 0 });
  state.own = own;
}

// --- sections: each is drawn into an element of its own -------------------------------------------------------------
function shownIn(name) { return shown().filter(model => SECTIONS[name][1](about(model), reading(model))); }
function columns(draw, name) {
  const models = name ? shownIn(name) : shown();
  return el("div", { class: "columns" }, models.map(model => el("div", {},
    shown().length > 1 ? el("h3", {}, about(model).name) : null, draw(reading(model), about(model), model))));
}
function surface(found, word) { return found.texts[word[2]].slice(word[3], word[4]); }
function maskedPlaces(found) {
  const places = new Set(found.masks);
  for (const number of state.hidden) if (found.words[number]) for (let at = found.words[number][0]; at < found.words[number][1]; at++) places.add(at);
  return [...places].sort((a, b) => a - b);
}
function keyNow() { return [...state.hidden].sort((a, b) => a - b).join(","); }

function fillSection() {
  const [main] = shownIn("fill"), first = reading(main);
  const chosen = el("ul", { class: "words" }, first.words.map((word, number) => {
    const own = first.masks.includes(word[0]);
    return el("li", {}, own ? el("span", { class: "chip gone" }, surface(first, word)) : el("button", {
      type: "button", "aria-pressed": String(state.hidden.has(number)), onclick: event => {
        if (!state.hidden.delete(number)) state.hidden.add(number);
        event.target.setAttribute("aria-pressed", String(state.hidden.has(number)));
        guess();
      } }, surface(first, word)));
  }));
  const steps = about(main).steps;
  const place = el("div", { "aria-live": "polite" });
  const name = at => (at >= steps.length || at < 0 ? say("step.end") : say("step.n", count(steps[at])));
  const slider = steps.length ? el("div", { class: "row" }, el("label", {}, say("step"), el("input", {
    type: "range", min: 0, max: steps.length, value: state.step < 0 ? steps.length : state.step,
    "aria-valuetext": name(state.step), oninput: event => {
      state.step = Number(event.target.value) === steps.length ? -1 : Number(event.target.value);
      event.target.setAttribute("aria-valuetext", name(state.step));
      event.target.nextSibling.textContent = name(state.step);
      guess();
    } }), el("output", {}, name(state.step)))) : null;
  async function guess() {
    const places = maskedPlaces(first), key = keyNow();
    if (content.endpoint && key.includes(",") && !(key in first.guesses)) {
      place.replaceChildren(say("waiting"));
      try {
        for (const model of shownIn("fill")) {
          const [text, second] = hiddenTexts(reading(model));
          reading(model).guesses[key] = (await ask({ text, second: second ?? null, model: about(model).name, seed: 0 })).guesses[""];
        }
      } catch (error) { return place.replaceChildren(el("p", { class: "error", role: "alert" }, error.message)); }
    }
    place.replaceChildren(places.length ? columns((found, of) => guessBars(found, of, key, maskedPlaces(found)), "fill") : el("p", {}, say("nomask")));
  }
  guess();
  return [el("p", { class: "quiet" }, say("fill.help")), chosen, slider,
    steps.length ? el("p", { class: "quiet" }, say("step.help")) : null, place];
}
function hiddenTexts(found) {
  const texts = [...found.texts];
  for (const number of [...state.hidden].sort((a, b) => b - a)) {
    const [begin, end, text, from, to] = found.words[number];
    texts[text] = texts[text].slice(0, from) + Array(end - begin).fill("[MASK]").join(" ") + texts[text].slice(to);
  }
  return texts;
}
function guessBars(found, of, key, places) {
  const step = state.step, at = step >= 0 && step < of.steps.length ? found.steps[step] : found.guesses;
  const every = at[key];
  if (!every) return el("p", {}, say("more"));
  return every.map((words, number) => {
    const was = found.masks.includes(places[number]) ? null : found.tokens[places[number]];
    return [el("h3", {}, say("guess", number + 1), was === null ? "" : ` (${say("was", was)})`),
      bars(words.map(([name, value]) => ({ name, value, right: name === was }))), learned(found, of, key, number)];
  });
}
function learned(found, of, key, number) {
  if (!found.steps.length || !found.steps[0][key] || !found.guesses[key]) return null;
  const [word] = found.guesses[key][number][0];
  const along = [...found.steps, found.guesses].map(one => (one[key][number].find(([name]) => name === word) || [word, 0])[1]);
  const width = 300, height = 70, x = at => 8 + at * (width - 16) / (along.length - 1), y = value => height - 8 - value * (height - 16);
  const label = say("learned", word) + ": " + along.map(percent).join(", ");
  return [el("svg", { class: "plot", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label },
    el("title", {}, label),
    along.slice(1).map((value, at) => el("line", { x1: x(at), y1: y(along[at]), x2: x(at + 1), y2: y(value) })),
    along.map((value, at) => el("circle", { class: "mine", cx: x(at), cy: y(value), r: at === (state.step < 0 ? along.length - 1 : state.step) ? 5 : 3 }))),
    el("p", { class: "quiet" }, say("learned", word))];
}

function nextSection() {
  return [el("p", { class: "quiet" }, say("next.help")), columns((found, of) => found.next === undefined ? el("p", {}, say("needpair")) : [
    el("p", { class: "text" }, found.texts[0]), el("p", { class: "text" }, found.texts[1]),
    bars([{ name: of.tells_order ? say("of.in_order") : say("next.yes"), value: found.next },
      ...(of.tells_order ? [] : [{ name: say("next.no"), value: 1 - found.next }])])], "next")];
}

function startOf(found) { return new Set(found.words.map(word => word[0])); }
function chip(found, at, starts, under, kind, name) {
  const classes = ["chip", found.special[at] ? "special" : "", starts.has(at) ? "start" : "", found.unknown.includes(at) ? "unknown" : "", kind || ""];
  return el("li", { class: classes.filter(Boolean).join(" ") }, name ?? found.tokens[at], under === undefined ? null : el("small", {}, under));
}
function tokensSection() {
  return [el("p", { class: "quiet" }, say("tokens.help")), columns(found => {
    const starts = startOf(found);
    return [el("p", {}, say("tokens.count", count(found.tokens.length), count(found.words.length), count(found.unknown.length))),
      el("ul", { class: "words" }, found.tokens.map((_, at) => chip(found, at, starts,
        found.unknown.includes(at) ? say("unknown") : `${found.ids[at]}`))),
      found.cut.filter(Boolean).map(cut => [el("p", { class: "quiet" }, say("cut")),
        el("ul", { class: "words" }, cut.map(word => el("li", { class: "chip start" }, word)))])];
  })];
}

function pairSection() {
  return [el("p", { class: "quiet" }, say("pair.help")), columns(found => {
    const word = new Map();
    found.words.forEach((one, number) => { for (let at = one[0]; at < one[1]; at++) word.set(at, number); });
    return table([say("position"), say("token"), say("segment"), say("word")], found.tokens.map((token, at) =>
      [String(at), token, found.types[at] ? "B (1)" : "A (0)", word.has(at) ? surface(found, found.words[word.get(at)]) : ""]), say("pair"));
  })];
}

function drawsSection() {
  const place = el("div", { "aria-live": "polite" });
  const all = reading(shownIn("draws")[0]).draws.length;
  function draw() {
    place.replaceChildren(el("p", {}, say("draw.n", state.draw + 1, all)), columns(found => {
      const kinds = new Map(found.draws[state.draw].map(([at, kind, token]) => [at, [kind, token]]));
      const starts = startOf(found), look = { mask: "gone", random: "swapped", kept: "kept" }, sums = { mask: 0, random: 0, kept: 0 };
      found.draws.forEach(one => one.forEach(([, kind]) => { sums[kind] += 1; }));
      const sum = sums.mask + sums.random + sums.kept, ordinary = found.special.filter(one => !one).length;
      return [el("ul", { class: "words" }, found.clean.map((token, at) => kinds.has(at)
        ? chip(found, at, starts, `${say("draw." + kinds.get(at)[0])}; ${say("was", token)}`, look[kinds.get(at)[0]], kinds.get(at)[1])
        : chip(found, at, starts, undefined, "", token))),
        el("p", { class: "quiet" }, say("draw.sum", found.draws.length, sum, percent(sum / (found.draws.length * found.tokens.length)),
          percent(sums.mask / sum), percent(sums.random / sum), percent(sums.kept / sum)))];
    }, "draws"));
  }
  draw();
  return [el("p", { class: "quiet" }, say("draws.help")), el("button", { type: "button", onclick: () => {
    state.draw = (state.draw + 1) % all; draw(); } }, say("again")), place];
}

function paint(canvas, size, value) {
  canvas.width = canvas.height = size;
  const pen = canvas.getContext("2d"), image = pen.createImageData(size, size), [r, g, b] = colour("--tint").split(" ").map(Number);
  for (let at = 0; at < size * size; at++) image.data.set([r, g, b, Math.round(255 * value(Math.floor(at / size), at % size) ** 0.7)], 4 * at);
  pen.putImageData(image, 0, 0);
}
function attentionSection() {
  const place = el("div");
  function draw() { place.replaceChildren(columns(oneAttention)); }
  function oneAttention(found, of) {
    const size = found.tokens.length, layer = clamp(state.head[0], of.layers - 1), head = clamp(state.head[1], of.heads - 1);
    const special = at => found.special[at], shade = (value, at) => (state.dim && special(at) ? 0.15 * value : value);
    const of_ = (l, h, q, k) => weight(found.attention, size, of.heads, l, h, q, k);
    const grid = el("div", { class: "heads", columns: `max-content repeat(${of.heads}, minmax(28px, 76px))`, role: "group", "aria-label": say("attention") });
    for (let l = 0; l < of.layers; l++) {
      grid.append(el("span", {}, `${say("layer")} ${l + 1}`));
      for (let h = 0; h < of.heads; h++) {
        const canvas = el("canvas", { "aria-hidden": "true" });
        paint(canvas, size, (q, k) => shade(of_(l, h, q, k), k));
        const chosen = l === layer && h === head;
        grid.append(el("button", { type: "button", "aria-pressed": String(chosen), "aria-label": say("head.n", l + 1, h + 1),
          "data-head": `${l},${h}`, onclick: () => { state.head = [l, h]; draw(); refocus(`[data-head="${l},${h}"]`); } }, canvas));
      }
    }
    return [grid, el("h3", {}, say("head.n", layer + 1, head + 1)), flow(found, size, (q, k) => of_(layer, head, q, k), shade),
      table([say("token"), say("looks"), say("received")], found.tokens.map((token, q) => {
        const best = found.tokens.map((_, k) => k).sort((a, b) => of_(layer, head, q, b) - of_(layer, head, q, a)).slice(0, 3);
        const received = found.tokens.reduce((sum, _, other) => sum + of_(layer, head, other, q), 0) / size;
        return [token, best.map(k => `${found.tokens[k]} ${percent(of_(layer, head, q, k))}`).join(", "), percent(received)];
      }), say("head.n", layer + 1, head + 1))];
  }
  function flow(found, size, of_, shade) {
    const high = 30.4, lines = [], from = state.from < size ? state.from : -1;
    const most = from < 0 ? 1 : Math.max(...found.tokens.map((_, k) => shade(of_(from, k), k)), 1e-9);
    for (let q = 0; q < size; q++) for (let k = 0; k < size; k++) {
      const value = shade(of_(q, k), k) / most;
      if (value > 0.03 && (from < 0 || from === q))
        lines.push(el("line", { x1: 0, y1: (q + 0.5) * high, x2: 100, y2: (k + 0.5) * high, "stroke-opacity": value.toFixed(2), "vector-effect": "non-scaling-stroke" }));
    }
    return el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": say("attention") }, el("div", { class: "flow" },
      el("div", { class: "side left" }, found.tokens.map((token, q) => el("button", { type: "button", "aria-pressed": String(state.from === q),
        class: found.special[q] ? "special" : null, "aria-label": `${token} ${say("from")}`, "data-from": q,
        onclick: () => { state.from = state.from === q ? -1 : q; draw(); refocus(`[data-from="${q}"]`); } }, token))),
      el("svg", { viewBox: `0 0 100 ${size * high}`, height: size * high, preserveAspectRatio: "none", "aria-hidden": "true" }, lines),
      el("div", { class: "side" }, found.tokens.map((token, k) => {
        const made = el("span", { class: found.special[k] ? "special" : null }, token);
        if (from >= 0) made.style.background = `rgb(${colour("--tint")} / ${(0.4 * shade(of_(from, k), k) / most).toFixed(2)})`;
        return made;
      }))));
  }
  function refocus(selector) { place.querySelector(selector)?.focus(); }
  draw();
  return [el("p", { class: "quiet" }, say("attention.help")), el("div", { class: "row" }, el("label", {}, el("input", { type: "checkbox",
    checked: state.dim, onchange: event => { state.dim = event.target.checked; draw(); } }), say("dim"))), place];
}

function distanceName(name) {
  return ["special", "before", "after", "0"].includes(name) ? say("d." + name) : name < 0 ? say("d.-", -name) : say("d.+", name);
}
function distanceSection() {
  return [el("p", { class: "quiet" }, say("distance.help")), columns((found, of, model) => {
    const every = state.own ? [found] : content.models[model].readings;
    const mean = (l, h, kind) => every.reduce((sum, one) => sum + one.distance[l][h][kind], 0) / every.length;
    return table([say("layer"), ...Array.from({ length: of.heads }, (_, h) => `${say("head")} ${h + 1}`)],
      Array.from({ length: of.layers }, (_, l) => [String(l + 1), ...Array.from({ length: of.heads }, (_, h) => {
        const shares = DISTANCES.map((_, kind) => mean(l, h, kind)), best = shares.indexOf(Math.max(...shares));
        return [el("svg", { class: "mini", viewBox: "0 0 96 28", "aria-hidden": "true" }, shares.map((share, kind) =>
          el("rect", { class: "bar", x: kind * 8, y: 28 - 28 * share, width: 7, height: 28 * share }))),
        `${distanceName(DISTANCES[best])} ${percent(shares[best])}`];
      })]), say("distance"));
  })];
}

function statesSection() {
  const place = el("div");
  const most = Math.max(...shown().map(model => about(model).layers));
  function draw() { place.replaceChildren(columns(oneMap)); }
  function oneMap(found, of, model) {
    const layer = layerOf(model), words = of.reference, x = value => 260 + 235 * clampTo(value), y = value => 170 - 150 * clampTo(value);
    const dots = words.map[layer].map((point, at) => [el("circle", { class: "dot", cx: x(point[0]), cy: y(point[1]), r: 2 }),
      el("text", { class: "ghost", x: x(point[0]) + 4, y: y(point[1]) - 3 }, words.tokens[at])]);
    const mine = found.map[layer].map((point, at) => found.special[at] ? null : [el("circle", { class: "mine", cx: x(point[0]), cy: y(point[1]), r: 4 }),
      el("text", { x: x(point[0]) + 6, y: y(point[1]) + 4, "font-weight": 700 }, found.tokens[at])]);
    const ordinary = found.tokens.map((_, at) => at).filter(at => !found.special[at]);
    return [el("svg", { class: "plot", viewBox: "0 0 560 340", role: "img", "aria-label": say("map", layer) }, dots, mine),
      el("p", { class: "quiet" }, `\u25cf ${say("here")}, \u2022 ${say("others")}`),
      table([say("token"), say("near")], ordinary.map(at => [found.tokens[at],
        found.near[layer][at].map(([number, cosine]) => `${words.tokens[number]} ${cosine.toFixed(2)}`).join(", ")]), say("near"))];
  }
  function clampTo(value) { return Math.max(-1.08, Math.min(1.08, value)); }
  draw();
  return [el("p", { class: "quiet" }, say("states.help")), el("div", { class: "row" }, el("label", {}, say("layer"), el("input", {
    type: "range", min: 0, max: most, value: state.layer < 0 ? most : state.layer, oninput: event => {
      state.layer = Number(event.target.value); event.target.nextSibling.textContent = event.target.value; draw(); redraw("similarity"); } }),
    el("output", {}, String(state.layer < 0 ? most : state.layer)))), place];
}

function layersSection() {
  return [el("p", { class: "quiet" }, say("layers.help")), columns(found => found.layers.length ? found.layers.map(one => [
    el("h3", {}, say("of", one.of)), table([say("layer"), say("p"), say("rank"), say("best")], one.p.map((p, layer) => [String(layer), percent(p),
      count(one.rank[layer]), one.words[layer].map(([word, value]) => `${word} ${percent(value)}`).join(", ")]), say("of", one.of))])
    : el("p", {}, say("nomask")), "layers")];
}

function similaritySection() {
  const place = el("div"), tokens = reading(state.model).tokens;
  function draw() {
    place.replaceChildren(columns((found, of, model) => {
      const size = found.tokens.length, layer = layerOf(model), row = clamp(state.compare, size - 1);
      const cosine = (a, b) => 2 * weight(found.similarity, size, 1, layer, 0, a, b) - 1;
      const canvas = el("canvas", { class: "matrix", role: "img", "aria-label": say("matrix") });
      paint(canvas, size, (a, b) => Math.max(0, cosine(a, b)));
      return [el("h3", {}, `${say("layer")} ${layer}`), canvas,
        bars(found.tokens.map((name, at) => ({ name, value: cosine(row, at), shown: cosine(row, at).toFixed(2) })))];
    }));
  }
  draw();
  return [el("p", { class: "quiet" }, say("similarity.help")), el("div", { class: "row" }, el("label", {}, say("compare"), el("select", {
    onchange: event => { state.compare = Number(event.target.value); draw(); } }, tokens.map((token, at) =>
    el("option", { value: at, selected: at === state.compare }, `${at} ${token}`))))), place];
}

function whySection() {
  const place = el("div");
  const named = one => (["next", "in_order"].includes(one.of) ? say("of." + one.of) : one.of);
  function draw() {
    place.replaceChildren(columns(found => {
      const every = found.why || [];
      if (!every.length) return el("p", {}, say("nothing"));
      const one = every[clamp(state.why, every.length - 1)];
      return [el("p", {}, say("why.sum", named(one), say("unit." + one.unit), signed(one.value), signed(one.masked))),
        bars(one.words.map(word => ({ name: word.word, value: word[state.method], size: word[state.method], shown: signed(word[state.method]) })))];
    }, "why"));
  }
  draw();
  const every = reading(shownIn("why")[0]).why || [];
  return [el("p", { class: "quiet" }, say("why.help")), el("div", { class: "row" },
    el("label", {}, say("method"), el("select", { onchange: event => { state.method = event.target.value; draw(); } },
      ["gradients", "occlusion"].map(name => el("option", { value: name, selected: name === state.method }, say(name))))),
    every.length > 1 ? el("label", {}, say("explained"), el("select", { onchange: event => { state.why = Number(event.target.value); draw(); } },
      every.map((one, at) => el("option", { value: at, selected: at === state.why }, named(one))))) : null), place];
}

function marked(text, spans) {
  const inner = [];
  let begin = 0;
  for (const one of [...spans].sort((a, b) => a.start - b.start)) {
    if (one.start < begin) continue;
    inner.push(text.slice(begin, one.start), el("mark", { class: one.faint ? "faint" : null }, text.slice(one.start, one.end),
      el("small", {}, ` ${one.label} ${percent(one.probability)}`)));
    begin = one.end;
  }
  return el("p", { class: "text" }, inner, text.slice(begin));
}
function taskSection() {
  const place = el("div");
  const hasSpans = shown().some(model => reading(model).prediction && ("entities" in reading(model).prediction || "answer" in reading(model).prediction));
  function draw() {
    place.replaceChildren(columns((found, of) => {
      const one = found.prediction;
      if (!one) return el("p", {}, say("nothing"));
      if ("entities" in one) return marked(found.texts[0], one.entities.map(e => ({ ...e, label: e.type })).filter(e => e.probability >= state.threshold));
      if ("tags" in one) return table([say("word"), say("task"), say("p")], one.tags.map(t => [t.word, t.tag, percent(t.probability)]), say("task"));
      if ("answer" in one) {
        const sure = one.answer && one.probability >= state.threshold;
        const spans = [...(one.answer ? [{ ...one, label: "", faint: !sure }] : []), ...one.others.map(o => ({ ...o, label: "", faint: true }))];
        return [el("p", {}, found.texts[0]), marked(found.texts[1], spans.filter(s => s.start < s.end)),
          el("p", { class: "right" }, sure ? `${one.answer} (${percent(one.probability)})` : say("noanswer")),
          of.threshold === null ? null : el("p", { class: "quiet" }, say("own.threshold", of.threshold.toFixed(2)))];
      }
      if ("probabilities" in one) return bars(Object.entries(one.probabilities).map(([name, value]) => ({ name, value,
        right: one.label === name || (one.labels || []).includes(name) })));
      return table([say("task"), ""], Object.entries(one).filter(([, value]) => typeof value !== "object").map(([name, value]) => [name, String(value)]), say("task"));
    }, "task"));
  }
  draw();
  return [hasSpans ? el("div", { class: "row" }, el("label", {}, say("threshold"), el("input", { type: "range", min: 0, max: 100, value: 100 * state.threshold,
    "aria-valuetext": percent(state.threshold), oninput: event => { state.threshold = event.target.value / 100; event.target.nextSibling.textContent = percent(state.threshold);
      event.target.setAttribute("aria-valuetext", percent(state.threshold)); draw(); } }), el("output", {}, percent(state.threshold)))) : null, place];
}

function alikeSection() {
  const place = el("div", { "aria-live": "polite" });
  const ranked = (texts, values) => bars(texts.map((name, at) => ({ name, value: values[at], shown: values[at].toFixed(3) })).sort((a, b) => b.value - a.value));
  place.append(columns((found, of, model) => ranked(content.models[model].texts.map(one => one.join(" | ")), found.alike)));
  const list = content.endpoint ? el("textarea", { rows: 4, id: "list" }) : null;
  return [el("p", { class: "quiet" }, say("alike.help")), list && el("label", {}, say("paste"), list), list && el("button", { type: "button", onclick: async () => {
    const others = list.value.split("\n").map(one => one.trim()).filter(Boolean);
    if (!others.length) return;
    place.replaceChildren(say("waiting"));
    try {
      const found = {};
      for (const model of shown()) found[model] = (await ask({ text: reading(model).texts[0], others, model: about(model).name })).alike;
      place.replaceChildren(columns((_, of, model) => ranked(others, found[model])));
    } catch (error) { place.replaceChildren(el("p", { class: "error", role: "alert" }, error.message)); }
  } }, say("go")), place];
}

// --- the page -------------------------------------------------------------------------------------------------------
const SECTIONS = {
  task: [taskSection, of => of.task !== null], fill: [fillSection, of => of.fills_masks], next: [nextSection, of => of.tells_pairs],
  tokens: [tokensSection, () => true], pair: [pairSection, (_, found) => found.texts.length > 1], draws: [drawsSection, of => of.fills_masks],
  attention: [attentionSection, () => true], distance: [distanceSection, () => true], states: [statesSection, () => true],
  layers: [layersSection, of => of.fills_masks], similarity: [similaritySection, () => true],
  why: [whySection, (_, found) => (found.why || []).length > 0], alike: [alikeSection, () => true],
};
function redraw(name) {
  const old = document.getElementById(name);
  if (old) old.replaceWith(section(name));
}
function section(name) {
  const title = name === "next" && about(state.model).tells_order ? say("order") : say(name);
  return el("section", { id: name, "aria-labelledby": `title-${name}` }, el("h2", { id: `title-${name}` }, title), SECTIONS[name][0]());
}
function fits(name) { return shownIn(name).length > 0; }

function textForm() {
  const model = content.models[state.model];
  const error = el("div", { "aria-live": "assertive" });
  const form = [];
  if (content.models.length > 1) for (const role of ["model", "beside"]) form.push(el("label", {}, say(role), el("select", { onchange: async event => {
    state[role] = Number(event.target.value);
    state.own = null;
    if (content.endpoint) await submit(); else renew();
  } }, role === "beside" ? el("option", { value: -1 }, say("none")) : null, content.models.map((one, at) =>
    el("option", { value: at, selected: at === state[role] }, one.about.name)))));
  form.push(el("label", {}, say("choose"), el("select", { id: "choose", onchange: async event => {
    state.text = Number(event.target.value);
    state.own = null;
    if (content.endpoint) { [text.value, second.value] = [...model.texts[state.text], ""]; await submit(); } else renew("choose");
  } }, model.texts.map((one, at) => el("option", { value: at, selected: at === state.text && !state.own }, one.join(" | "))))));
  const now = state.own ? state.asked : model.texts[state.text];
  const text = el("textarea", { rows: 2, id: "own" }, now[0]), second = el("textarea", { rows: 1, id: "second" }, now[1] || "");
  async function submit() {
    error.replaceChildren(say("waiting"));
    try {
      state.asked = [text.value, second.value];
      await look(text.value, second.value);
      renew();
    } catch (problem) { error.replaceChildren(el("p", { class: "error", role: "alert" }, problem.message)); }
  }
  const own = content.endpoint ? el("form", { onsubmit: event => { event.preventDefault(); submit(); } },
    el("label", {}, say("own"), text), el("label", {}, say("second"), second), el("div", { class: "row" }, el("button", { type: "submit" }, say("look")),
      el("label", {}, say("key"), el("input", { type: "password", autocomplete: "off", value: state.key, oninput: event => { state.key = event.target.value; } }))))
    : el("p", { class: "quiet" }, say("offline"));
  return el("section", { id: "text", "aria-labelledby": "title-text" }, el("h2", { id: "title-text" }, say("text")), el("div", { class: "row" }, form), own, error);
}
function renew(focus) {
  state.hidden.clear();
  state.from = -1;
  state.compare = Math.min(1, reading(state.model).tokens.length - 1);
  state.draw = 0;
  state.why = 0;
  page();
  if (focus) document.getElementById(focus)?.focus();
}
function page() {
  document.documentElement.lang = state.language === "zh" ? "zh-CN" : "en";
  const names = shown().map(model => about(model).name).join(" | "), ready = reading(state.model) !== undefined;
  document.title = say("title", names);
  const kept = ready ? Object.keys(SECTIONS).filter(fits) : [];
  document.body.replaceChildren(
    el("a", { class: "skip", href: "#text" }, say("skip")),
    el("header", {}, el("h1", {}, say("title", names)), el("button", { type: "button", id: "language", lang: state.language === "zh" ? "en" : "zh-CN",
      onclick: () => { state.language = state.language === "zh" ? "en" : "zh"; page(); document.getElementById("language").focus(); } }, say("language"))),
    el("nav", { "aria-label": say("sections") }, el("ul", {}, kept.map(name => el("li", {}, el("a", { href: "#" + name }, say(name)))))),
    el("main", {}, shown().map(model => { const of = about(model); return el("p", { class: "quiet" },
      `${shown().length > 1 ? of.name + ": " : ""}${say("about", of.layers, of.heads, count(of.width), count(of.parameters), count(of.vocabulary))}`); }),
    textForm(), kept.map(section)));
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", page);
page();
if (content.endpoint && !content.models[0].readings.length) document.querySelector("#text form").requestSubmit();
})();
