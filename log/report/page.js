// SPDX-License-Identifier: LGPL-2.1-or-later
// Draws what is in the element "data". Names are hostile: they become text, and nothing else.
"use strict";
(() => {
const DATA = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const LANES_AT_ONCE = 60, ROWS_AT_ONCE = 200, FUNCTIONS_AT_ONCE = 20, TIP_LINES = 8;
const CHANGE = "change", NOTE = "note", LOSS = "loss", MARK = 4; // px that marks of a kind share
const $ = id => document.getElementById(id);

// ---- elements

function make(tag, attributes, ...inside) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
  element.append(...inside);
  return element;
}

function draw(tag, attributes, ...inside) {
  const element = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
  element.append(...inside);
  return element;
}

function text(words) { return make("bdi", null, words); }

function pieces(line) {
  const made = [];
  for (let i = 0; i < line.length; i += 2)
    made.push(make("bdi", line[i] ? { class: `r-${DATA.roles[line[i]]}` } : null, line[i + 1]));
  return made;
}

function plain(line) { return line.filter((_, i) => i % 2).join(""); }

// ---- times: ms since DATA.base, shown in the local time of the host that made the page

const two = number => String(number).padStart(2, "0");

function zone(ms) {
  let found = DATA.zones[0] || [0, 0, "UTC"];
  for (const one of DATA.zones) if (one[0] <= DATA.base + ms) found = one;
  return found;
}

function parts(ms) {
  const date = new Date(Math.floor(DATA.base + ms + zone(ms)[1] * 1000));
  return {
    day: `${date.getUTCFullYear()}-${two(date.getUTCMonth() + 1)}-${two(date.getUTCDate())}`,
    minute: `${two(date.getUTCHours())}:${two(date.getUTCMinutes())}`,
    second: two(date.getUTCSeconds()),
    fraction: String(date.getUTCMilliseconds()).padStart(3, "0"),
  };
}

function clock(ms) {
  const { day, minute, second, fraction } = parts(ms);
  return `${day} ${minute}:${second}.${fraction}`;
}

function took(ns) {
  if (ns === null || ns === undefined) return "";
  if (ns < 1000) return `${Math.round(ns)}ns`;
  let unit = "ns";
  for (unit of ["us", "ms", "s"]) {
    ns /= 1000;
    if (ns < 999.5 || unit === "s") break;
  }
  return (ns < 9.95 ? ns.toFixed(1) : ns.toFixed(0)) + unit;
}

const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5,
  9e5, 18e5, 36e5, 72e5, 108e5, 216e5, 432e5, 864e5, 2 * 864e5, 7 * 864e5, 14 * 864e5, 30 * 864e5,
  91 * 864e5, 365 * 864e5, 3650 * 864e5];

function ticks(from, to, most) {
  const step = STEPS.find(one => (to - from) / one <= most) || 36500 * 864e5;
  const shift = DATA.base + zone(from)[1] * 1000, made = [];
  for (let at = Math.ceil((from + shift) / step) * step - shift; at <= to; at += step) {
    const { day, minute, second, fraction } = parts(at);
    const label = step >= 864e5 ? day : step >= 6e4 ? minute
      : step >= 1e3 ? `${minute}:${second}` : `${minute}:${second}.${fraction}`;
    made.push([at, minute === "00:00" && step < 864e5 ? day : label]);
    if (made.length > 50) break;
  }
  return made;
}

// ---- what there is, as rows by time

const rows = [];
DATA.calls.forEach(([time, ns, kind, domain, line]) =>
  rows.push({ time, ns, kind: DATA.kinds[kind], domain, line, look: DATA.kinds[kind] }));
DATA.changes.forEach(([time, domain, event, detail, line]) => {
  const crash = event === "crashed" || (event === "stopped" && detail === "crashed");
  const look = crash ? "crash" : event === "stopped" ? "end" : CHANGE;
  rows.push({ time, ns: null, kind: CHANGE, domain, line, look });
});
const isLoss = note => note[3] !== "other"; // what is missing in the record may change what is true
DATA.notes.forEach(note => rows.push({ time: note[0], ns: null, kind: isLoss(note) ? LOSS : NOTE, domain: -1,
  line: note[2], look: isLoss(note) ? LOSS : NOTE }));
rows.sort((a, b) => a.time - b.time);
const domains = DATA.domains;
domains.forEach((domain, index) => { domain.index = index; domain.rows = []; });
rows.forEach((row, index) => {
  row.index = index;
  if (row.domain >= 0) domains[row.domain].rows.push(row);
});
domains.forEach(domain => {
  domain.label = (domain.host ? `${domain.host}: ` : "") + domain.name;
  domain.words = [domain.label, domain.uuid || "", ...domain.former].join(" ").toLowerCase();
  const crashes = domain.rows.filter(row => row.look === "crash").length;
  const { denied, failed, endings, write } = domain.counts;
  domain.weight = crashes * 1e6 + denied * 1e4 + endings * 1e3 + failed * 100 + write;
});
// a little room at both ends
const room = Math.max((DATA.end) * 0.01, 0.5);
const WHOLE = [-room, DATA.end + room];
const state = {
  range: WHOLE, before: [], lanes: LANES_AT_ONCE, domain: null, order: "time", up: false,
  shown: ROWS_AT_ONCE, kinds: new Set([...DATA.kinds, CHANGE, LOSS]), functions: FUNCTIONS_AT_ONCE,
  function: 0, functionOrder: 4, chosen: null,
};

// ---- the tip

function tip(event, ...inside) {
  const box = $("tip");
  box.hidden = !inside.length;
  if (!inside.length) return;
  box.replaceChildren(...inside);
  const { width, height } = box.getBoundingClientRect();
  const left = Math.min(event.clientX + 14, innerWidth - width - 8);
  const top = event.clientY + 18 + height > innerHeight ? event.clientY - height - 12 : event.clientY + 18;
  box.style.left = `${Math.max(4, left)}px`;
  box.style.top = `${Math.max(4, top)}px`;
}

// ---- the timeline

const LANE = 26, AXIS = 20;
let width = 800;
const x = time => (time - state.range[0]) / (state.range[1] - state.range[0]) * width;
const at = px => state.range[0] + px / width * (state.range[1] - state.range[0]);
const r = number => Math.round(number * 10) / 10;

function clip(px) { return Math.max(-5, Math.min(width + 5, px)); }

function box(x0, x1, top, height) {
  return `M${r(clip(x0))} ${top}H${r(clip(Math.max(x1, x0 + 1)))}V${top + height}H${r(clip(x0))}Z`;
}

// one path for all boxes of a kind; those that would fall on the same pixel are one
function boxes(list, kind, top, height) {
  const drawn = {}, last = {};
  for (const one of list) {
    const [from, to] = [x(one[0]), one[1] === null ? width + 5 : x(one[1])];
    if (to < 0 || from > width) continue;
    const key = kind(one);
    if (to <= (last[key] ?? -9)) continue;
    last[key] = Math.max(to, from + 1);
    drawn[key] = (drawn[key] || "") + box(from, to, top, height);
  }
  return Object.entries(drawn).map(([key, d]) => draw("path", { class: key, d }));
}

function bars(list, bottom, height) {
  const columns = new Map();
  let most = 0;
  const wide = Math.max(1, DATA.slot / (state.range[1] - state.range[0]) * width);
  for (const [time, count] of list) {
    const px = Math.floor(x(time));
    if (px + wide < 0 || px > width) continue;
    const sum = (columns.get(px) || 0) + count;
    columns.set(px, sum);
    most = Math.max(most, sum);
  }
  let d = "";
  for (const [px, count] of columns) {
    const high = Math.max(1, Math.log1p(count) / Math.log1p(most) * height);
    d += box(px, px + Math.max(1, wide - 0.5), r(bottom - high), r(high));
  }
  return draw("path", { class: "activity", d });
}

const SHAPES = {
  write: px => `M${px - 3.5} 17h7l-3.5 -7z`,
  failed: px => `M${px - 1.5} 4h3v8h-3zM${px - 1.5} 14h3v3h-3z`,
  denied: px => `M${px - 4} 4h8v4.5h-8z`,
  end: px => `M${px} 1v18`,
  crash: px => `M${px - 4} 5l8 9m-8 0l8 -9M${px} 1v18`,
};
const MARK_CLASS = { write: "m-write", failed: "m-failed", denied: "m-denied", end: "m-end", crash: "m-crash" };

function marks(list) {
  const drawn = {}, last = {};
  for (const row of list) {
    if (!SHAPES[row.look] || row.time < state.range[0] || row.time > state.range[1]) continue;
    const px = r(x(row.time));
    if (px - (last[row.look] ?? -99) < MARK) continue;
    last[row.look] = px;
    drawn[row.look] = (drawn[row.look] || "") + SHAPES[row.look](px);
  }
  return ["end", "write", "failed", "denied", "crash"].filter(look => drawn[look])
    .map(look => draw("path", { class: MARK_CLASS[look], d: drawn[look] }));
}

function grid(height) {
  const d = ticks(...state.range, Math.floor(width / 90)).map(([time]) => `M${r(x(time))} 0V${height}`).join("");
  return draw("path", { class: "tick", d });
}

function lane(name, svg, counts, extra) {
  return make("div", { class: `lane ${extra || ""}` }, name, svg, counts);
}

function drawLanes() {
  const holder = $("lanes");
  holder.replaceChildren();
  const probe = lane(make("span"), make("span"), make("span"));
  holder.append(probe);
  width = Math.max(200, probe.children[1].getBoundingClientRect().width || 800);
  probe.remove();

  const axis = draw("svg", { width, height: AXIS, class: "time-axis" }, ...ticks(...state.range, Math.floor(width / 90))
    .map(([time, label]) => draw("text", { class: "axis", x: r(x(time)), y: 14, "text-anchor": "middle" }, label)));
  holder.append(lane(make("span", { class: "dim" }, zone(state.range[1])[2]), axis, make("span")));

  const gaps = DATA.notes.filter(note => note[3] === "gap"), points = DATA.notes.filter(note => note[3] === "lost");
  const all = draw("svg", { width, height: 44 }, grid(44), bars(DATA.all, 44, 30),
    ...boxes(gaps, () => "gap", 0, 44), ...boxes(points.map(([time]) => [time, time]), () => "lost", 0, 10));
  watch(all, null);
  holder.append(lane(make("span", { class: "name" }, "all calls, the record"), all, make("span")));

  const found = wanted();
  for (const domain of found.slice(0, state.lanes)) holder.append(laneOf(domain, gaps));
  more($("lanes-more"), found.length - state.lanes, LANES_AT_ONCE, "domains");
  const whole = state.range === WHOLE;
  $("zoom-out").disabled = $("zoom-all").disabled = whole;
  $("zoom-said").textContent = whole
    ? "drag over the timeline to look closer; click on a domain to see only what happened to it"
    : `${clock(state.range[0])} to ${clock(state.range[1])}`;
}

function wanted() {
  const words = $("domains-find").value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = domains.filter(domain => words.every(word => domain.words.includes(word)));
  const order = $("domains-order").value;
  const first = domain => domain.rows.length ? domain.rows[0].time : Infinity;
  const byName = (a, b) => a.label < b.label ? -1 : a.label > b.label ? 1 : 0;
  return found.sort((a, b) => (order === "weight" ? b.weight - a.weight : order === "first" ? first(a) - first(b) : 0)
    || byName(a, b));
}

function laneOf(domain, gaps) {
  const svg = draw("svg", { width, height: LANE }, grid(LANE),
    ...boxes(domain.states, one => `s-${one[2]}`, 9, 8),
    bars(domain.calls, LANE, 6), ...boxes(gaps, () => "gap", 0, LANE), ...marks(domain.rows));
  watch(svg, domain);
  const name = make("button", { class: "name", type: "button" }, text(domain.label));
  if (domain.former.length) name.append(make("span", { class: "dim" }, " was ", text(domain.former[domain.former.length - 1])));
  name.title = [domain.label, ...domain.former.map(one => `was ${one}`), domain.uuid || ""].join("\n");
  name.addEventListener("click", () => choose(state.domain === domain.index ? null : domain.index));
  const counts = make("span", { class: "counts" });
  for (const [key, sign] of [["write", "\u25b2"], ["failed", "!"], ["denied", "\u2298"], ["endings", "\u25a0"]])
    if (domain.counts[key]) counts.append(make("b", { class: `c-${key}`, title: TITLES[key] }, `${sign} ${domain.counts[key]}`));
  return lane(name, svg, counts, state.domain === domain.index ? "chosen" : "");
}

const TITLES = { write: "calls that changed something", failed: "failed calls", denied: "denied calls", endings: "times that it ended" };

function stateAt(domain, time) {
  const found = domain.states.filter(([from, to]) => from <= time && (to === null || time < to)).pop();
  return found ? DATA.states[found[2]] : "state not known";
}

function around(list, time) {
  const reach = (state.range[1] - state.range[0]) / width * 6;
  return list.filter(row => Math.abs(row.time - time) <= reach);
}

function watch(svg, domain) {
  svg.addEventListener("mousemove", event => {
    const time = at(event.clientX - svg.getBoundingClientRect().left);
    const inside = [make("div", { class: "dim" }, `${clock(time)}  `, ...(domain ? [text(domain.label), `, ${stateAt(domain, time)}`] : []))];
    const near = domain ? around(domain.rows, time) : [];
    for (const row of near.slice(0, TIP_LINES)) inside.push(make("div", { class: "what" }, ...pieces(row.line)));
    if (near.length > TIP_LINES) inside.push(make("div", { class: "dim" }, `and ${near.length - TIP_LINES} more`));
    const reach = (state.range[1] - state.range[0]) / width * 6;
    DATA.notes.filter(note => note[0] - reach <= time && time <= note[1] + reach).slice(0, TIP_LINES)
      .forEach(note => inside.push(make("div", { class: "what" }, ...pieces(note[2]))));
    tip(event, ...inside);
  });
  svg.addEventListener("mouseleave", event => tip(event));
  svg.addEventListener("mousedown", event => brush(event, svg, domain));
  svg.addEventListener("dblclick", () => zoom(WHOLE));
}

function brush(down, svg, domain) {
  const left = svg.getBoundingClientRect().left, holder = $("lanes");
  const shade = make("div", { id: "brush" });
  const px = event => Math.max(0, Math.min(width, event.clientX - left));
  const from = px(down);
  let to = from;
  const move = event => {
    to = px(event);
    if (!shade.isConnected && Math.abs(to - from) > 4) holder.append(shade);
    const offset = left - holder.getBoundingClientRect().left;
    shade.style.left = `${offset + Math.min(from, to)}px`;
    shade.style.width = `${Math.abs(to - from)}px`;
  };
  const up = event => {
    removeEventListener("mousemove", move);
    removeEventListener("mouseup", up);
    shade.remove();
    if (Math.abs(to - from) > 4) zoom([at(Math.min(from, to)), at(Math.max(from, to))]);
    else if (domain) {
      const near = around(domain.rows, at(from));
      choose(domain.index, near.length ? near[0] : null);
    }
  };
  addEventListener("mousemove", move);
  addEventListener("mouseup", up);
}

function zoom(range) {
  if (range !== WHOLE) state.before.push(state.range);
  else state.before = [];
  state.range = range[1] - range[0] < 0.002 ? [range[0] - 0.001, range[1] + 0.001] : range;
  state.shown = ROWS_AT_ONCE;
  drawLanes();
  drawRows();
}

function choose(domain, row) {
  state.domain = domain;
  state.shown = ROWS_AT_ONCE;
  state.chosen = row || null;
  if (row) { // it has to be among those that are shown
    const place = chosenRows().indexOf(row);
    if (place >= 0) state.shown = Math.max(state.shown, place + 20);
  }
  drawLanes();
  drawRows();
  const chosen = document.querySelector("#rows tr.chosen");
  if (chosen) chosen.scrollIntoView({ block: "center" });
}

function more(button, left, step, what) {
  button.hidden = left <= 0;
  button.textContent = `show ${Math.min(step, left)} more ${what} (${left} are not shown)`;
}

// ---- the list

function chosenRows() {
  const words = $("find").value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = rows.filter(row => {
    if (!state.kinds.has(row.kind)) return false;
    if (state.domain !== null && row.domain !== state.domain && row.kind !== LOSS && row.kind !== NOTE) return false;
    if (row.time < state.range[0] || row.time > state.range[1]) return false;
    if (!words.length) return true;
    row.words ??= `${plain(row.line)} ${row.domain >= 0 ? domains[row.domain].words : ""}`.toLowerCase();
    return words.every(word => row.words.includes(word));
  });
  const way = state.up ? 1 : -1;
  if (state.order === "took") found.sort((a, b) => way * ((a.ns ?? -1) - (b.ns ?? -1)));
  else if (!state.up) found.reverse();
  return found;
}

function drawRows() {
  const found = chosenRows(), body = $("rows");
  body.replaceChildren(...found.slice(0, state.shown).map(row => {
    const domain = row.domain >= 0 ? domains[row.domain] : null;
    const place = make("td", { class: "domain" }, domain ? text(domain.label) : "");
    if (domain) place.title = domain.label;
    return make("tr", { class: `k-${row.look}${row === state.chosen ? " chosen" : ""}` },
      make("td", { class: "time" }, clock(row.time)), make("td", { class: "number" }, took(row.ns)), place,
      make("td", { class: "what" }, ...pieces(row.line)));
  }));
  more($("rows-more"), found.length - state.shown, ROWS_AT_ONCE, "rows");
  $("calls-said").textContent = `${found.length} of ${rows.length}`;
  const chips = [];
  if (state.domain !== null) chips.push(chip(["only ", text(domains[state.domain].label)], () => choose(null)));
  if (state.range !== WHOLE) chips.push(chip(["only the time above"], () => zoom(WHOLE)));
  $("chips").replaceChildren(...chips);
  for (const head of document.querySelectorAll("#calls th[data-order]"))
    head.className = `${head.dataset.order === "took" ? "number " : ""}${head.dataset.order === state.order ? `ordered ${state.up ? "up" : ""}` : ""}`;
}

function chip(inside, undo) {
  const button = make("button", { type: "button", class: "chip" }, ...inside, " \u2715");
  button.addEventListener("click", undo);
  return button;
}

// ---- how long calls took

const stepBegin = step => { // ns; see duration_step in story.py
  const bits = step >> 1;
  return bits < 2 ? bits : 2 ** (bits - 1) * (step & 1 ? 1.5 : 1);
};
const HEADS = ["function", "calls", "failed", "denied", "total", "p50", "p95", "p99", "max", "spread"];

function spreadOf(one) {
  const sums = new Map();
  for (const [, step, count] of one.cells) sums.set(step, (sums.get(step) || 0) + count);
  return sums;
}

function spreadChart(one, low, high) {
  const sums = spreadOf(one), most = Math.max(...sums.values(), 1), wide = 150 / (high - low + 1);
  let d = "";
  for (const [step, count] of sums) {
    const tall = Math.max(1, Math.sqrt(count / most) * 16);
    const from = (step - low) * wide;
    d += `M${r(from)} ${r(17 - tall)}h${r(Math.max(1, wide - 0.5))}V17h-${r(Math.max(1, wide - 0.5))}Z`;
  }
  return draw("svg", { width: 150, height: 18, role: "img", "aria-label": "how often it took how long" },
    draw("path", { class: "spread", d }));
}

function drawFunctions() {
  const list = [...DATA.functions], by = state.functionOrder;
  const value = one => by === 0 ? 0 : one.numbers ? one.numbers[by - 1] ?? -1 : -1;
  list.sort((a, b) => value(b) - value(a) || (a.name < b.name ? -1 : 1));
  const steps = DATA.functions.flatMap(one => one.cells.map(cell => cell[1]));
  const low = steps.reduce((a, b) => Math.min(a, b), 200), high = steps.reduce((a, b) => Math.max(a, b), 0);
  $("functions-head").replaceChildren(...HEADS.map((word, index) => {
    const head = make("th", { class: index && word !== "spread" ? "number" : "" }, word === "spread" && steps.length
      ? `spread, ${took(stepBegin(low))} to ${took(stepBegin(high + 1))}` : word);
    if (word === "spread") return head;
    head.dataset.order = index;
    head.tabIndex = 0;
    if (by === index) head.classList.add("ordered");
    press(head, () => { state.functionOrder = index; drawFunctions(); });
    return head;
  }));
  $("functions").replaceChildren(...list.slice(0, state.functions).map(one => {
    const button = make("button", { type: "button" }, text(one.name));
    button.addEventListener("click", () => { state.function = DATA.functions.indexOf(one); drawFunctions(); drawPlot(); });
    const numbers = [0, 1, 2, 3, 4, 5, 6, 7].map(index => {
      const number = one.numbers ? one.numbers[index] : undefined;
      const shown = index < 3 ? number ?? "" : took(number);
      const kind = index === 1 && number ? "c-failed" : index === 2 && number ? "c-denied" : "";
      return make("td", { class: `number ${kind}` }, String(shown));
    });
    const row = make("tr", { class: DATA.functions[state.function] === one ? "chosen" : "" },
      make("td", { class: "function" }, button), ...numbers, make("td", null, spreadChart(one, low, high)));
    return row;
  }));
  more($("functions-more"), list.length - state.functions, FUNCTIONS_AT_ONCE, "functions");
}

function rank(sums, share) {
  const steps = [...sums.keys()].sort((a, b) => a - b);
  let left = Math.ceil([...sums.values()].reduce((a, b) => a + b, 0) * share);
  for (const step of steps) if ((left -= sums.get(step)) <= 0) return step;
  return steps[steps.length - 1];
}

function drawPlot() {
  const one = DATA.functions[state.function], holder = $("plot");
  if (!one || !one.cells.length) return holder.replaceChildren();
  const whole = Math.max(320, holder.getBoundingClientRect().width || 1000), left = 64, right = 120, high = 200;
  const steps = one.cells.map(cell => cell[1]);
  let low = steps.reduce((a, b) => Math.min(a, b)), top = steps.reduce((a, b) => Math.max(a, b)) + 1;
  const lacking = Math.max(0, 10 - (top - low)); // so that what took the same time is no tower
  low = Math.max(0, low - (lacking >> 1));
  top += (lacking + 1) >> 1;
  const inner = whole - left - right, tall = high / (top - low);
  const times = new Map();
  for (const [time, step, count] of one.cells) {
    const column = times.get(time) || times.set(time, new Map()).get(time);
    column.set(step, (column.get(step) || 0) + count);
  }
  const px = time => left + (time + room) / (DATA.end + 2 * room) * inner;
  const py = step => 8 + high - (step - low) * tall;
  const wide = Math.max(2, DATA.slot / (DATA.end + 2 * room) * inner - 0.5);
  const most = one.cells.reduce((a, cell) => Math.max(a, cell[2]), 1);
  const levels = ["", "", "", "", ""];
  for (const [time, step, count] of one.cells) {
    const level = most === 1 ? 4 : Math.min(4, Math.floor(Math.log(count) / Math.log(most) * 4.99));
    levels[level] += `M${r(px(time))} ${r(py(step + 1))}h${r(wide)}v${r(Math.max(1, tall - 0.5))}h-${r(wide)}Z`;
  }
  const lines = { p50: "", p95: "" };
  for (const time of [...times.keys()].sort((a, b) => a - b))
    for (const [key, share] of [["p50", 0.5], ["p95", 0.95]]) {
      const line = lines[key];
      lines[key] += `${line ? "L" : "M"}${r(px(time) + wide / 2)} ${r(py(rank(times.get(time), share) + 0.5))}`;
    }
  const sums = spreadOf(one), widest = Math.max(...sums.values());
  let spread = "";
  for (const [step, count] of sums)
    spread += `M${whole - right + 8} ${r(py(step + 1))}h${r(Math.max(1, count / widest * (right - 16)))}v${r(Math.max(1, tall - 1))}H${whole - right + 8}Z`;
  const labels = [];
  for (let step = low + (low & 1); step <= top; step += Math.max(2, 2 * Math.round((top - low) / 16)))
    labels.push(draw("text", { class: "axis", x: left - 6, y: r(py(step) + 4), "text-anchor": "end" }, took(stepBegin(step))),
      draw("path", { class: "tick", d: `M${left} ${r(py(step))}H${whole - right}` }));
  const days = ticks(-room, DATA.end + room, Math.floor(inner / 90)).map(([time, label]) =>
    draw("text", { class: "axis", x: r(px(time)), y: high + 24, "text-anchor": "middle" }, label));
  holder.replaceChildren(
    make("div", { class: "legend" }, make("strong", null, text(one.name)),
      sign("p50", "M0 6h16", "half of the calls took at most"), sign("p95", "M0 6h16", "95 % took at most"),
      sign("h-3", "M3 1h10v10h-10z", "calls, the darker the more"), sign("spread", "M0 3h16v6h-16z", "all of them")),
    draw("svg", { width: whole, height: high + 30, role: "img", "aria-label": "durations over time" }, ...labels, ...days,
      ...levels.map((d, level) => draw("path", { class: `h-${level}`, d })),
      draw("path", { class: "p95", d: lines.p95 }), draw("path", { class: "p50", d: lines.p50 }),
      draw("path", { class: "spread", d: spread })));
}

function sign(kind, d, words) {
  return make("span", null, draw("svg", { width: 16, height: 12 }, draw("path", { class: kind, d })), words);
}

// ---- begin

function press(element, act) {
  element.addEventListener("click", act);
  element.addEventListener("keydown", event => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); act(); } });
}

function soon(act) {
  let waiting = 0;
  return () => { clearTimeout(waiting); waiting = setTimeout(act, 120); };
}

function begin() {
  $("timeline").hidden = $("calls").hidden = $("latency").hidden = false;
  const legend = DATA.states.map((word, index) => sign(`s-${index}`, "M0 2h16v8h-16z", word));
  legend.push(sign("activity", "M0 8h16v4h-16z", "calls, also reads"), sign("m-write", "M4.5 10h7l-3.5 -7z", "changed something"),
    sign("m-failed", "M6.5 0h3v7h-3zM6.5 9h3v3h-3z", "failed"), sign("m-denied", "M4 3h8v4.5h-8z", "denied"),
    sign("m-end", "M8 0v12", "ended"), sign("m-crash", "M4 2l8 8m-8 0l8 -8", "crashed"),
    sign("gap", "M0 0h16v12h-16z", "nothing recorded"), sign("lost", "M6 0h4v8h-4z", "calls lost: states may be old"));
  $("legend").replaceChildren(...legend, make("span", null, "no colour: not known"));
  for (const [kind, words] of [["write", "changes by calls"], ["failed", "failed"], ["denied", "denied"], [CHANGE, "what happened to domains"], [LOSS, "gaps and losses"], [NOTE, "other notes"]]) {
    const check = make("input", { type: "checkbox" });
    check.checked = state.kinds.has(kind);
    check.addEventListener("change", () => {
      if (check.checked) state.kinds.add(kind); else state.kinds.delete(kind);
      state.shown = ROWS_AT_ONCE;
      drawRows();
    });
    $("kinds").append(make("label", null, check, ` ${words} `));
  }
  $("domains-find").addEventListener("input", soon(() => { state.lanes = LANES_AT_ONCE; drawLanes(); }));
  $("domains-order").addEventListener("change", drawLanes);
  $("find").addEventListener("input", soon(() => { state.shown = ROWS_AT_ONCE; drawRows(); }));
  $("zoom-all").addEventListener("click", () => zoom(WHOLE));
  $("zoom-out").addEventListener("click", () => {
    const before = state.before.pop() || WHOLE;
    zoom(before);
    if (before !== WHOLE) state.before.pop();
  });
  $("lanes-more").addEventListener("click", () => { state.lanes += LANES_AT_ONCE; drawLanes(); });
  $("rows-more").addEventListener("click", () => { state.shown += ROWS_AT_ONCE; drawRows(); });
  $("functions-more").addEventListener("click", () => { state.functions += FUNCTIONS_AT_ONCE; drawFunctions(); });
  for (const head of document.querySelectorAll("#calls th[data-order]"))
    press(head, () => {
      state.up = state.order === head.dataset.order && !state.up;
      state.order = head.dataset.order;
      drawRows();
    });
  addEventListener("resize", soon(() => { drawLanes(); drawPlot(); }));
  drawLanes();
  drawRows();
  drawFunctions();
  drawPlot();
  document.documentElement.dataset.drawn = "yes";
}

begin();
})();
