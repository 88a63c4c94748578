// Sections about predictions: reasons, tasks, similar texts.
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
