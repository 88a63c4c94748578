// Sections about what is inside: attention, distances, hidden states, layers, similarity of positions.
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
