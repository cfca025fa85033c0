// The values at a point: drawn along an axis, and as a table.
"use strict";

let point = null;
let pointAsked = null;

function choosePoint(at) {
  state.point = toCrs(at);
  showPoint();
  saveSoon();
}

function closePoint() {
  state.point = point = null;
  marker?.remove();
  marker = null;
  byId("panel").hidden = true;
  saveSoon();
}

async function showPoint() {
  const at = fromCrs(state.point);
  marker?.remove();
  marker = L.circleMarker(at, { radius: 6, weight: 2.5, color: "var(--accent)", fillColor: "var(--paper)", fillOpacity: 0.6, interactive: false }).addTo(map);
  pointAsked?.abort();
  pointAsked = new AbortController();
  const [x, y] = state.point;
  try {
    point = await askJson(versioned(`api/point/${cube.snapshot}/${state.lattice}/${part(state.variable)}?x=${x}&y=${y}&index=${indexOf()}`), pointAsked.signal);
    showPanel();
  } catch (error) {
    lose(error);
  }
}

function showPanel() {
  if (!state.point || !point || point.variable !== state.variable) return;
  const own = lattice();
  const head = el("div", { class: "head" }, el("h2", {}, point.title), el("button", { type: "button", class: "quiet close", "aria-label": "close", onclick: closePoint }, "×"));
  const place = [placeText(point.where, own)];
  if (point.where.region) place.push(`region ${point.where.region}`);
  if (point.where.cell !== undefined) place.push(`cell ${point.where.cell}`);
  const body = [el("small", {}, place.join(" · "))];
  if (point.outside) body.push(el("p", {}, "This lies outside the cube."));
  else body.push(...valueParts());
  for (const note of point.notes) body.push(el("p", { class: "hint" }, note));
  if (point.pending.length) body.push(el("p", { class: "hint" }, `${point.pending.length} of ${point.values.length} values are not ingested`));
  byId("panel").replaceChildren(head, ...body);
  byId("panel").hidden = false;
}

const classOf = (value) => point.classes[String(value)];
const nameOf = (value, at = -1) => (value !== null ? classOf(value)?.name || tell(value) : point.pending.includes(at) ? "not ingested" : "no data");

function keyOf(value) {
  const found = value === null ? null : classOf(value);
  if (!found) return "";
  return keyIn(found.colour);
}

/** Places along an axis of the point's values, and how far apart neighbours are in the list of all. */
function strides() {
  const sizes = point.axes.map((a) => a.labels.length);
  return sizes.map((_, n) => sizes.slice(n + 1).reduce((a, b) => a * b, 1));
}

/** Where the axis positions that are shown are among the point's values, which may be fewer. */
const nowAt = () => point.axes.map((a) => Math.max(0, a.labels.indexOf(axisOf(a.name).labels[positionOf(a.name)])));

function valueParts() {
  const step = strides();
  const now = nowAt();
  const place = now.reduce((sum, at, n) => sum + at * step[n], 0);
  const value = point.values[place];
  const label = point.axes.map((a, n) => (/^[\d.]{1,3}$/.test(a.labels[now[n]]) ? `${a.name} ` : "") + a.labels[now[n]]).join(", ");
  const big = el("p", { class: "value" }, keyOf(value), nameOf(value, place), value !== null && point.units ? el("small", {}, point.units) : "", label ? el("small", { class: "hint" }, label) : "");
  if (!point.axes.length) return [big];
  const along = point.axes.reduce((best, a, n) => (a.labels.length > point.axes[best].labels.length ? n : best), 0);
  const classes = Object.keys(point.classes).length > 0;
  const out = [big];
  const few = point.values.length <= 40;
  if (point.axes[along].labels.length > 1 && point.values.some((v) => v !== null)) out.push(classes ? strip(along, step, now) : chart(along, step, now));
  if (classes && few) out.push(table(along));
  else out.push(el("details", { open: few && point.axes[along].labels.length <= 1 }, el("summary", {}, `all ${point.values.length} values`), table(along)));
  return out;
}

function table(along) {
  const rows = [];
  const step = strides();
  const now = nowAt();
  const n = Math.min(point.values.length, MOST_ROWS);
  for (let i = 0; i < n; i += 1) {
    const places = step.map((s, k) => Math.floor(i / s) % point.axes[k].labels.length);
    const heads = places.map((p, k) => el("th", { scope: "row" }, k === along ? el("button", { type: "button", onclick: () => goTo(places) }, point.axes[k].labels[p]) : point.axes[k].labels[p]));
    rows.push(el("tr", { class: places.every((p, k) => p === now[k]) ? "now" : null }, ...heads, el("td", {}, keyOf(point.values[i]), nameOf(point.values[i], i))));
  }
  const head = el("thead", {}, el("tr", {}, ...point.axes.map((a) => el("th", { scope: "col" }, a.name)), el("th", { scope: "col" }, point.units || "value")));
  const more = point.values.length > n ? el("p", { class: "hint" }, `and ${point.values.length - n} more`) : "";
  return el("div", {}, el("table", { class: "values" }, head, el("tbody", {}, ...rows)), more);
}

function goTo(places) {
  places.forEach((p, k) => setPosition(point.axes[k].name, axisOf(point.axes[k].name).labels.indexOf(point.axes[k].labels[p])));
}

/** Even, round numbers over a range. */
function ticksOf(low, high) {
  const raw = (high - low) / 5 || 1;
  const size = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((k) => k * size).find((s) => s >= raw);
  const out = [];
  const first = Math.ceil(low / step);
  for (let k = 0; k <= 10; k += 1) {
    const t = (first + k) * step;
    if (t <= high + step * 1e-9) out.push(Number(t.toPrecision(12)));
  }
  return [...new Set(out)];
}

/** The classes along the longest axis as a strip of colours. */
function strip(along, step, now) {
  const wide = 320, high = 26;
  const labels = point.axes[along].labels;
  const base = now.reduce((sum, at, n) => sum + (n === along ? 0 : at * step[n]), 0);
  const each = wide / labels.length;
  const picture = el("svg", { viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label": `${point.title} along ${point.axes[along].name}` });
  labels.forEach((label, i) => {
    const v = point.values[base + i * step[along]];
    const bar = el("rect", { x: i * each, y: 4, width: Math.max(0.5, each - (each > 6 ? 1 : 0)), height: high - 8, class: v === null ? "none" : null, onclick: () => goTo(now.map((p, n) => (n === along ? i : p))) }, el("title", {}, `${label}: ${nameOf(v, base + i * step[along])}`));
    if (v !== null) bar.style.fill = classOf(v)?.colour || "#888";
    bar.style.cursor = "pointer";
    picture.append(bar);
  });
  picture.append(el("rect", { class: "frame", x: now[along] * each, y: 1, width: Math.max(2, each - 1), height: high - 2, rx: 2 }));
  return picture;
}

/** Lines along the longest axis, one for each position on the others; the one that is shown stands out. */
function chart(along, step, now) {
  const wide = 320, high = 150, left = 44, right = 8, top = 8, bottom = 22;
  const labels = point.axes[along].labels;
  let [low, most] = [Infinity, -Infinity];
  for (const v of point.values) if (v !== null) [low, most] = [Math.min(low, v), Math.max(most, v)];
  const least = Math.max(Math.abs(low), Math.abs(most)) * 1e-9; // less than that cannot be drawn
  if (most - low <= least) {
    const around = low === 0 ? 1 : Math.max(Math.abs(low) * 0.1, 1);
    [low, most] = [low - around, most + around];
  }
  const room = (most - low) * 0.06;
  [low, most] = [low - room, most + room];
  const x = (i) => left + (labels.length > 1 ? (i / (labels.length - 1)) * (wide - left - right) : (wide - left - right) / 2);
  const y = (v) => top + (1 - (v - low) / (most - low)) * (high - top - bottom);
  const picture = el("svg", { viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label": `${point.title} along ${point.axes[along].name}` });
  for (const t of ticksOf(low, most)) {
    picture.append(el("line", { class: "grid", x1: left, x2: wide - right, y1: y(t), y2: y(t) }), el("text", { x: left - 6, y: y(t) + 4, "text-anchor": "end" }, tell(t)));
  }
  const letters = labels.reduce((longest, l) => Math.max(longest, l.length), 0);
  const each = Math.max(1, Math.ceil((labels.length * (letters + 2) * 6.2) / (wide - left - right)));
  for (let i = 0; i < labels.length; i += each) {
    const anchor = i + each >= labels.length && x(i) > wide - letters * 3.5 ? "end" : "middle";
    picture.append(el("text", { x: x(i), y: high - 6, "text-anchor": anchor }, labels[i]));
  }
  const others = point.values.length / labels.length;
  const base = now.reduce((sum, at, n) => sum + (n === along ? 0 : at * step[n]), 0);
  const starts = [];
  for (let i = 0; i < point.values.length && starts.length < Math.min(others, 60); i += 1) if (Math.floor(i / step[along]) % labels.length === 0 && i !== base) starts.push(i);
  for (const start of [...starts, base]) {
    let d = "";
    let pen = "M";
    labels.forEach((_, i) => {
      const v = point.values[start + i * step[along]];
      if (v === null) pen = "M";
      else {
        d += `${pen}${x(i).toFixed(1)} ${y(v).toFixed(1)}`;
        pen = "L";
      }
    });
    picture.append(el("path", { class: start === base ? "line now" : "line", d }));
  }
  picture.append(el("line", { class: "here", x1: x(now[along]), x2: x(now[along]), y1: top, y2: high - bottom }));
  labels.forEach((label, i) => {
    const v = point.values[base + i * step[along]];
    if (v !== null && (labels.length <= 60 || i === now[along])) picture.append(el("circle", { class: "dot", cx: x(i), cy: y(v), r: i === now[along] ? 4 : 2.2 }));
    const half = (wide - left - right) / Math.max(1, labels.length - 1) / 2;
    if (labels.length > 400) return;
    const hit = el("rect", { class: "hit", x: x(i) - half, y: top, width: 2 * half, height: high - top - bottom, onclick: () => goTo(now.map((p, n) => (n === along ? i : p))) }, el("title", {}, `${label}: ${nameOf(v)}`));
    picture.append(hit);
  });
  return picture;
}
