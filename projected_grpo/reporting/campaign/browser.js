"use strict";
// Filters and shows the rollouts that browser.py packed into the page. The list holds elements for what is visible alone.

const ROW = 52; // pixels of a row, as in style.css
const SPARE = 6; // rows beyond the visible ones
const element = (id) => document.getElementById(id);
const list = element("list"), rows = element("rows"), pane = element("rollout"), count = element("count");
const selects = [...document.querySelectorAll("select[data-column]")];
const fromStep = element("from-step"), toStep = element("to-step");

let data = null;
let shown = new Uint32Array(0); // places of the rollouts that pass the filters
let chosen = 0; // place in `shown`

async function unpack() {
  const packed = Uint8Array.from(atob(element("rollouts").textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  data = await new Response(stream).json();
  for (const name of Object.keys(data.codes)) data.codes[name] = Uint32Array.from(data.codes[name]);
  data.step = Uint32Array.from(data.step);
}

function filter() {
  const tests = selects.filter((select) => select.value !== "").map((select) => [data.codes[select.dataset.column], Number(select.value)]);
  const first = fromStep.value === "" ? 0 : Number(fromStep.value);
  const last = toStep.value === "" ? Infinity : Number(toStep.value);
  const passing = new Uint32Array(data.step.length);
  let n = 0;
  for (let i = 0; i < data.step.length; i++) {
    if (data.step[i] < first || data.step[i] > last) continue;
    if (tests.every(([codes, code]) => codes[i] === code)) passing[n++] = i;
  }
  shown = passing.subarray(0, n);
  count.dataset.shown = n;
  count.textContent = `${n.toLocaleString("en")} of ${data.step.length.toLocaleString("en")} rollouts pass the filters`;
  rows.style.height = `${n * ROW}px`;
  list.scrollTop = 0;
  choose(0);
}

function choose(place) {
  chosen = Math.max(0, Math.min(place, shown.length - 1));
  const top = chosen * ROW;
  if (top < list.scrollTop) list.scrollTop = top;
  if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
  drawRows();
  pane.replaceChildren(...(shown.length ? rollout(shown[chosen]) : [make("p", "", "No rollout passes the filters.")]));
}

function drawRows() {
  const first = Math.max(0, Math.floor(list.scrollTop / ROW) - SPARE);
  const last = Math.min(shown.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + SPARE);
  const visible = [];
  for (let place = first; place < last; place++) visible.push(row(place));
  rows.replaceChildren(...visible);
  if (first <= chosen && chosen < last) list.setAttribute("aria-activedescendant", `row-${chosen}`);
  else list.removeAttribute("aria-activedescendant");
}

function row(place) {
  const i = shown[place];
  const line = make("div", "row");
  line.id = `row-${place}`;
  line.setAttribute("role", "option");
  line.setAttribute("aria-selected", place === chosen);
  line.setAttribute("aria-setsize", shown.length);
  line.setAttribute("aria-posinset", place + 1);
  line.style.top = `${place * ROW}px`;
  line.append(...tags(i), make("div", "where", `${named("arm", i)} · seed ${data.seed[i]} · step ${data.step[i]} · ${named("mode", i)}`));
  line.addEventListener("click", () => choose(place));
  return line;
}

function rollout(i) {
  const head = make("header", "");
  head.append(...tags(i), make("span", "", `reward ${number("reward", i)}`), make("span", "name", data.id[i]));
  const cuts = data.numbers.t_low[i] === null ? "no cuts" : `keep at or under ${number("t_low", i)}, route at or over ${number("t_high", i)}`;
  const mode = named("mode", i);
  const facts = `${named("arm", i)} · seed ${data.seed[i]} · step ${data.step[i]} · sampled ${data.sampled_with[i]} · ${cuts}`;
  const task = make("div", "task", data.tasks[data.codes.task[i]] + " ");
  task.append(make("span", "hint", mode === "gt_only" ? "[no hint]" : `[hint ${mode}]`));
  return [head, make("div", "where", facts), task, program(i)];
}

function program(i) {
  const text = data.codes.text[i];
  const marks = new Map(data.marks[text]);
  const block = make("pre", "program");
  block.tabIndex = 0;
  data.texts[text].replace(/\n$/, "").split("\n").forEach((code, index) => {
    const modes = (marks.get(index + 1) || []).map((mode) => data.names.mode[mode]);
    const line = make(modes.length ? "mark" : "span", modes.includes(named("mode", i)) ? "line shown-mode" : "line");
    line.append(make("span", "code", code + "\n"));
    if (modes.length) line.append(make("span", "loophole", modes.join(", ")));
    block.append(line);
  });
  return block;
}

function tags(i) {
  const label = named("label", i), zone = named("zone", i);
  const score = data.numbers.score[i] === null ? "no score" : `score ${number("score", i)}`;
  return [make("span", `verdict ${label.replace(" ", "-")}`, label), make("span", `tag ${zone.replace(" ", "-")}`, zone), make("span", "score", score)];
}

function named(column, i) {
  return data.names[column][data.codes[column][i]];
}

function number(name, i) {
  return data.numbers[name][i].toFixed(2).replace("-", "\u2212");
}

function make(tag, classes, text) {
  const made = document.createElement(tag);
  if (classes) made.className = classes;
  if (text !== undefined) made.textContent = text;
  return made;
}

const page = () => Math.max(1, Math.floor(list.clientHeight / ROW) - 1);
const KEYS = {
  ArrowDown: () => chosen + 1,
  ArrowUp: () => chosen - 1,
  PageDown: () => chosen + page(),
  PageUp: () => chosen - page(),
  Home: () => 0,
  End: () => shown.length - 1,
};

unpack().then(() => {
  const form = document.querySelector("form.controls");
  form.addEventListener("change", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(filter)); // after the fields have their first values again
  list.addEventListener("scroll", drawRows);
  new ResizeObserver(drawRows).observe(list);
  list.addEventListener("keydown", (event) => {
    if (!(event.key in KEYS) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    choose(KEYS[event.key]());
  });
  filter();
});
