// The page: its sections in order, the form for texts, and the start.
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
    el("header", {}, el("h1", {}, say("title", names)), el("div", { class: "row" }, content.runs ? el("a", { href: content.runs }, say("runs")) : null, el("button", { type: "button", id: "language", lang: state.language === "zh" ? "en" : "zh-CN",
      onclick: () => { state.language = state.language === "zh" ? "en" : "zh"; page(); document.getElementById("language").focus(); } }, say("language")))),
    el("nav", { "aria-label": say("sections") }, el("ul", {}, kept.map(name => el("li", {}, el("a", { href: "#" + name }, say(name)))))),
    el("main", {}, shown().map(model => { const of = about(model); return el("p", { class: "quiet" },
      `${shown().length > 1 ? of.name + ": " : ""}${say("about", of.layers, of.heads, count(of.width), count(of.parameters), count(of.vocabulary))}`); }),
    textForm(), kept.map(section)));
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", page);
page();
if (content.endpoint && !content.models[0].readings.length) document.querySelector("#text form").requestSubmit();
