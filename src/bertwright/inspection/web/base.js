// What all sections need: words of both languages, elements, and the numbers of the data block.
// Every text of a user becomes a text node, never HTML.
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

// Words and elements.
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

// What is looked at.
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
function shownIn(name) { return shown().filter(model => SECTIONS[name][1](about(model), reading(model))); }
function columns(draw, name) {
  const models = name ? shownIn(name) : shown();
  return el("div", { class: "columns" }, models.map(model => el("div", {},
    shown().length > 1 ? el("h3", {}, about(model).name) : null, draw(reading(model), about(model), model))));
}
function surface(found, word) { return found.texts[word[2]].slice(word[3], word[4]); }
