// Sections about texts: masked words, next sentences, tokens, pairs, masks as training draws them.
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
