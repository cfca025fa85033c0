// The map of a cube: tiles, axis positions, versions, and values at a point. State is kept in the address, so that a link shows the same.
"use strict";

const byId = (id) => document.getElementById(id);
const VERSION = document.body.dataset.version;
const POLL_MS = Number(document.body.dataset.poll) * 1000;
const FEW_LABELS = 6;
const OVERZOOM = 5;
const MOST_ROWS = 400;

const state = { ref: "", variable: "", positions: {}, lattice: "", point: null, coast: true, regions: false };
let refs = null;
let cube = null;
let map = null;
let pixels = null;
let lines = {};
let frame = null;
let marker = null;

/** An element; children that are text become text, never HTML. */
function el(tag, attributes = {}, ...children) {
  const svg = ["svg", "path", "line", "text", "circle", "rect", "title", "g"].includes(tag);
  const out = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) out.addEventListener(name.slice(2), value);
    else if (value === true) out.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) out.setAttribute(name, value);
  }
  out.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return out;
}

const part = encodeURIComponent;
const variable = () => cube.variables.find((v) => v.name === state.variable);
const lattice = () => cube.lattices.find((l) => l.name === state.lattice);
const axisOf = (name) => cube.axes.find((a) => a.name === name);
const indexOf = (v = variable()) => v.axes.map((name) => state.positions[name] || 0).join(".") || "-";
const tell = (n) => (Number.isInteger(n) ? String(n) : String(Number(n.toPrecision(6))));

// ---- asking the server ----------------------------------------------------------------------------------------------

class Refusal extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function ask(path, signal) {
  let answer;
  try {
    answer = await fetch(path, { signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal("The viewer does not answer: is cubeingest view still running?", 0);
  }
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    throw new Refusal(told.error || `the server answered ${answer.status}`, answer.status);
  }
  return answer;
}

const askJson = async (path, signal) => (await ask(path, signal)).json();
const versioned = (path) => `${path}?v=${part(VERSION)}`;

// ---- what went wrong, and trying again ------------------------------------------------------------------------------

let broken = "";
let waitMs = 1000;
let timer = 0;

/** Say what is wrong, and look again after a while, ever less often. */
function lose(error) {
  if (error.name === "AbortError") return;
  if (!(error instanceof Refusal)) console.error(error);
  broken = error.message;
  showAlert();
  schedule(waitMs);
}

function schedule(ms) {
  clearTimeout(timer);
  timer = setTimeout(poll, ms);
}

/** Ask where branches point to now; follow the one that is shown, and draw again what failed. */
async function poll() {
  if (document.hidden && !broken) return schedule(POLL_MS);
  const wasBroken = broken;
  try {
    await readRefs();
    broken = "";
    const id = snapshotOf(state.ref);
    if (!cube || id !== cube.snapshot) await openSnapshot(id);
    else if (wasBroken) redraw();
    waitMs = wasBroken ? Math.min(waitMs * 2, 60000) : 1000;
    showAlert();
    schedule(POLL_MS);
  } catch (error) {
    waitMs = Math.min(waitMs * 1.5, 10000);
    lose(error);
  }
}

function redraw() {
  pixels?.redraw();
  for (const layer of Object.values(lines)) layer.redraw();
  showLegend();
  if (state.point) showPoint();
}

function showAlert() {
  const notes = pixels ? pixels.notes() : { costly: 0, thinned: 0, blank: false };
  const says = broken || (notes.costly ? "Too much to read at this zoom: zoom in, or run `cubeingest overviews`." : notes.thinned ? "Coarser here than it could be: `cubeingest overviews` makes it sharp." : notes.blank ? `No data here${variable().axes.length ? ` at ${placeNames()}` : ""}.` : "");
  const box = byId("alert");
  box.hidden = !says;
  box.className = broken ? "failed" : "";
  box.replaceChildren(...says.split("`").map((text, i) => (i % 2 ? el("code", {}, text) : text)));
}

/** The axis values that are shown, in words. */
const placeNames = () => variable().axes.map((name) => `${name} ${axisOf(name).labels[state.positions[name] || 0]}`).join(", ");

// ---- layers ---------------------------------------------------------------------------------------------------------

/** Level, row and column of a tile as the server counts them; null where the lattice has none. */
function placeOf(coords, own) {
  const level = -coords.z;
  const row = own.step[1] < 0 ? coords.y : -1 - coords.y;
  const size = 256 * 2 ** level;
  const there = row >= 0 && coords.x >= 0 && row * size < own.shape[0] && coords.x * size < own.shape[1];
  return there ? `${level}/${row}/${coords.x}` : null;
}

/** A tile where there is none. */
function nothing(done) {
  const tile = el("div");
  setTimeout(() => done(null, tile));
  return tile;
}

const tileOptions = (own) => ({
  tileSize: L.point(own.tile[1], own.tile[0]), minNativeZoom: -own.top, maxNativeZoom: 0, minZoom: -own.top - 3, maxZoom: OVERZOOM, keepBuffer: 1, updateWhenZooming: false,
});

const Pixels = L.GridLayer.extend({
  initialize(path, own) {
    L.setOptions(this, tileOptions(own));
    this._path = path;
    this._own = own;
    this._said = new Map();
    this.on("tileunload", (event) => {
      event.tile.abort?.abort();
      this._said.delete(event.tile);
    });
  },
  createTile(coords, done) {
    const place = placeOf(coords, this._own);
    if (place === null) return nothing(done);
    const image = el("img", { alt: "", draggable: "false" });
    image.abort = new AbortController();
    ask(versioned(`${this._path}/${place}.png`), image.abort.signal)
      .then(async (answer) => {
        const note = answer.headers.get("X-Cubeingest-Note") || "";
        const url = URL.createObjectURL(await answer.blob());
        if (note) this._said.set(image, note.split(" ")[0]);
        image.onload = () => {
          URL.revokeObjectURL(url);
          done(null, image);
        };
        image.src = url;
      })
      .catch((error) => {
        if (error.name === "AbortError") return;
        lose(error);
        done(error, image);
      });
    return image;
  },
  // A little larger than they are: where the zoom is no whole number, browsers leave gaps between tiles.
  _initTile(tile) {
    L.GridLayer.prototype._initTile.call(this, tile);
    tile.style.width = `${this._own.tile[1] + 0.5}px`;
    tile.style.height = `${this._own.tile[0] + 0.5}px`;
  },
  notes() {
    const said = [...this._said.values()];
    const tiles = [...document.querySelectorAll("img.leaflet-tile")].filter((tile) => this.getContainer()?.contains(tile));
    return { blank: tiles.length > 0 && said.filter((n) => n === "blank").length === tiles.length, costly: said.filter((n) => n === "costly").length, thinned: said.filter((n) => n === "thinned").length };
  },
});

const Lines = L.GridLayer.extend({
  initialize(kind, path, own) {
    L.setOptions(this, { ...tileOptions(own), className: `lines ${kind}` });
    Object.assign(this, { _kind: kind, _path: path, _own: own });
    this.on("tileunload", (event) => event.tile.abort?.abort());
  },
  createTile(coords, done) {
    const place = placeOf(coords, this._own);
    if (place === null) return nothing(done);
    const canvas = el("canvas");
    canvas.abort = new AbortController();
    askJson(versioned(`${this._path}/${place}.json`), canvas.abort.signal)
      .then((found) => {
        this._draw(canvas, found);
        done(null, canvas);
      })
      .catch((error) => {
        if (error.name === "AbortError") return;
        lose(error);
        done(error, canvas);
      });
    return canvas;
  },
  _draw(canvas, found) {
    const magnified = 2 ** Math.max(0, this._map ? this._map.getZoom() : 0);
    const k = Math.min(8, Math.max(1, window.devicePixelRatio || 1) * magnified);
    const [high, wide] = this._own.tile;
    canvas.width = wide * k;
    canvas.height = high * k;
    const pen = canvas.getContext("2d");
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    pen.scale((k * wide) / 256, (k * high) / 256);
    pen.lineWidth = 1 / magnified;
    pen.lineJoin = "round";
    pen.strokeStyle = colour(this._kind === "coast" ? "--coast" : "--edge");
    pen.globalAlpha = this._kind === "coast" ? 0.75 : 0.7;
    pen.beginPath();
    for (const line of found.lines) {
      for (let i = 0; i < line.length; i += 2) pen[i ? "lineTo" : "moveTo"](line[i], line[i + 1]);
    }
    pen.stroke();
    pen.globalAlpha = 1;
    pen.font = `500 ${12 / magnified}px system-ui, sans-serif`;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.lineWidth = 3 / magnified;
    pen.strokeStyle = colour("--paper");
    pen.fillStyle = colour("--ink");
    for (const [x, y, text] of found.labels) {
      pen.strokeText(text, x, y);
      pen.fillText(text, x, y);
    }
  },
});

/** Show the pixels that are meant now; those of before stay until they are there. */
function showPixels() {
  const own = lattice();
  const path = `tiles/${cube.snapshot}/${own.name}/${part(state.variable)}/${indexOf()}`;
  if (pixels && pixels._path === path) return;
  const old = pixels;
  pixels = new Pixels(path, own);
  const fresh = pixels;
  fresh.on("loading", () => document.body.classList.add("busy"));
  fresh.on("load", () => {
    if (old && map.hasLayer(old)) old.remove();
    if (fresh === pixels) {
      document.body.classList.remove("busy");
      document.body.dataset.shown = path;
    }
    showAlert();
    showPoint.next?.();
  });
  // Of several that wait, only the last two are kept: what was shown, and what will be.
  map.eachLayer((layer) => layer instanceof Pixels && layer !== old && layer.remove());
  fresh.addTo(map);
}

function showLines() {
  for (const kind of ["coast", "regions"]) {
    const path = `${kind}/${cube.snapshot}/${state.lattice}`;
    if (lines[kind] && (!state[kind] || lines[kind]._path !== path)) {
      lines[kind].remove();
      delete lines[kind];
    }
    if (state[kind] && !lines[kind]) {
      lines[kind] = new Lines(kind, path, lattice());
      lines[kind].setZIndex(kind === "coast" ? 400 : 410).addTo(map);
    }
  }
}

/** A map of one lattice; its "latitudes" are rows, its "longitudes" columns of pixels. */
function makeMap() {
  const own = lattice();
  map?.remove();
  pixels = frame = marker = null;
  lines = {};
  const aspect = own.tile[0] / own.tile[1];
  const crs = L.extend({}, L.CRS.Simple, { transformation: new L.Transformation(1, 0, own.step[1] < 0 ? aspect : -aspect, 0) });
  map = L.map("map", {
    crs, minZoom: -own.top - 2, maxZoom: OVERZOOM, zoomSnap: 0.25, zoomControl: false, attributionControl: false, wheelPxPerZoomLevel: 90, fadeAnimation: false,
  });
  L.control.zoom({ position: "topright" }).addTo(map);
  map.made = `${own.name} ${own.shape} ${own.step}`;
  frame = L.rectangle([[0, 0], own.shape], { fill: false, weight: 1, color: "var(--edge)", opacity: 0.5, interactive: false }).addTo(map);
  map.setMaxBounds(L.latLngBounds([[0, 0], own.shape]).pad(0.6));
  map.on("moveend", saveSoon);
  map.on("zoomend", () => {
    const zoom = map.getZoom();
    byId("map").classList.toggle("sharp", zoom > 0.5);
    if (Math.max(zoom, map.before || 0) > 0) for (const layer of Object.values(lines)) layer.redraw();
    map.before = zoom;
  });
  map.on("mousemove", (event) => showWhere(event.latlng));
  map.on("mouseout", () => byId("where").replaceChildren());
  map.on("click", (event) => choosePoint(event.latlng));
  map.getContainer().addEventListener("keydown", (event) => {
    if (event.key === "Enter") choosePoint(map.getCenter());
    if (event.key === "Escape") closePoint();
  });
}

function showAll() {
  const [y0, x0, y1, x1] = lattice().view;
  map.fitBounds([[y0, x0], [y1, x1]], { padding: [12, 12], animate: false });
}

// ---- places ---------------------------------------------------------------------------------------------------------

const toCrs = (at, own = lattice()) => [own.origin[0] + at.lng * own.step[0], own.origin[1] + at.lat * own.step[1]];
const fromCrs = ([x, y], own = lattice()) => L.latLng((y - own.origin[1]) / own.step[1], (x - own.origin[0]) / own.step[0]);

function degrees(value, [positive, negative], digits) {
  const rounded = Number(value.toFixed(digits));
  return `${Math.abs(rounded).toFixed(digits)}°${rounded === 0 ? "" : rounded > 0 ? positive : negative}`;
}

function placeText(where, own) {
  const digits = Math.min(7, Math.max(2, Math.ceil(-Math.log10(Math.abs(own.geographic ? own.step[0] : own.step[0] / 111195)))));
  const out = [];
  if (where.lon !== null && where.lon !== undefined) out.push(`${degrees(where.lat, ["N", "S"], digits)} ${degrees(where.lon, ["E", "W"], digits)}`);
  if (!own.geographic && (own.name === "grid" || !out.length)) {
    const places = Math.max(0, Math.ceil(-Math.log10(Math.abs(own.step[0]))));
    out.push(`${where.x.toFixed(places)}, ${where.y.toFixed(places)} (${own.crs})`);
  }
  return out.join(" · ");
}

const turned = (lon) => ((((lon + 180) % 360) + 360) % 360) - 180;
let asking = false;
let wanted = null;

/** Longitude and latitude below the pointer; of a projected CRS the server knows them. */
async function showWhere(at) {
  const own = lattice();
  const [x, y] = toCrs(at, own);
  if (own.geographic) {
    byId("where").textContent = Math.abs(y) > 90 ? "" : placeText({ x, y, lon: turned(x), lat: y }, own);
    return;
  }
  wanted = at;
  if (asking) return;
  asking = true;
  try {
    const place = await askJson(`api/place/${cube.snapshot}/${own.name}?x=${x}&y=${y}`);
    if (own === lattice()) byId("where").textContent = placeText({ x, y, ...place }, own);
  } catch {
    byId("where").textContent = placeText({ x, y }, own);
  } finally {
    asking = false;
    if (wanted !== at) showWhere(wanted);
  }
}

// ---- controls -------------------------------------------------------------------------------------------------------

const shortTime = (text) => text.slice(0, 16).replace("T", " ");

function snapshotOf(ref) {
  return refs.branches[ref] || refs.tags[ref] || ref;
}

async function readRefs() {
  refs = await askJson(`api/refs?branch=${part(state.ref || "")}`);
  if (!state.ref) state.ref = refs.first;
  showRefs();
}

function showRefs() {
  const options = (names) => names.map((name) => el("option", { value: name, selected: name === state.ref }, name));
  const groups = [el("optgroup", { label: "branches" }, ...options(Object.keys(refs.branches)))];
  if (Object.keys(refs.tags).length) groups.push(el("optgroup", { label: "tags" }, ...options(Object.keys(refs.tags))));
  const named = refs.branches[state.ref] || refs.tags[state.ref];
  const commits = refs.history.map((c) => ({ value: c.snapshot, text: `${shortTime(c.time)} ${c.message}`.slice(0, 80) }));
  if (!named && !commits.some((c) => c.value === state.ref)) commits.unshift({ value: state.ref, text: state.ref });
  if (commits.length) groups.push(el("optgroup", { label: "commits" }, ...commits.map((c) => el("option", { value: c.value, selected: c.value === state.ref }, c.text))));
  const key = JSON.stringify([refs.branches, refs.tags, commits, state.ref]);
  if (showRefs.key === key) return;
  showRefs.key = key;
  byId("ref").replaceChildren(...groups);
  byId("ref").value = state.ref;
}

function showControls() {
  document.title = `${cube.name}: ${variable().title}`;
  byId("name").textContent = cube.name;
  const option = (value, text, now) => el("option", { value, selected: value === now }, text);
  byId("variables").hidden = cube.variables.length < 2;
  byId("variable").replaceChildren(...cube.variables.map((v) => option(v.name, v.title === v.name ? v.name : `${v.name}: ${v.title}`.slice(0, 60), state.variable)));
  byId("lattices").hidden = cube.lattices.length < 2;
  byId("lattice").replaceChildren(...cube.lattices.map((l) => option(l.name, l.title, state.lattice)));
  byId("coast").checked = state.coast;
  byId("regions").checked = state.regions;
  byId("axes").replaceChildren(...variable().axes.map(axisControl));
}

function axisControl(name) {
  const { labels } = axisOf(name);
  const now = state.positions[name] || 0;
  const play = labels.length > 2 ? el("button", { type: "button", class: "play", "aria-label": `play ${name}`, "aria-pressed": "false", onclick: (event) => togglePlay(name, event.currentTarget) }, "▶") : "";
  if (labels.length <= FEW_LABELS && labels.join("").length <= 40) {
    const chips = labels.map((label, i) => el("label", {}, el("input", { type: "radio", name: `axis ${name}`, value: i, checked: i === now, onchange: () => setPosition(name, i) }), label));
    return el("fieldset", { class: "axis", "data-axis": name }, el("legend", {}, name), el("div", { class: "chips" }, ...chips, play));
  }
  const output = el("output", {}, labels[now]);
  const input = el("input", { type: "range", min: 0, max: labels.length - 1, value: now, "aria-label": name, "aria-valuetext": labels[now], oninput: () => setPosition(name, Number(input.value)) });
  const step = (by) => setPosition(name, (state.positions[name] + by + labels.length) % labels.length);
  return el("fieldset", { class: "axis", "data-axis": name },
    el("legend", {}, name, output),
    el("div", { class: "slider" },
      el("button", { type: "button", "aria-label": `${name}: one back`, onclick: () => step(-1) }, "‹"), input,
      el("button", { type: "button", "aria-label": `${name}: one on`, onclick: () => step(1) }, "›"), play));
}

function setPosition(name, position) {
  state.positions[name] = position;
  const field = document.querySelector(`.axis[data-axis="${CSS.escape(name)}"]`);
  const label = axisOf(name).labels[position];
  const slider = field?.querySelector("input[type=range]");
  if (slider) {
    slider.value = position;
    slider.setAttribute("aria-valuetext", label);
    field.querySelector("output").textContent = label;
  }
  const chip = field?.querySelector(`input[type=radio][value="${position}"]`);
  if (chip) chip.checked = true;
  clearTimeout(setPosition.timer);
  setPosition.timer = setTimeout(() => {
    showPixels();
    showLegend();
    showPanel();
    saveSoon();
  }, 60);
}

/** Go along an axis, each value once what was before is there. */
function togglePlay(name, button) {
  const stop = () => {
    showPoint.next = null;
    clearTimeout(togglePlay.timer);
    button.textContent = "▶";
    button.setAttribute("aria-pressed", "false");
  };
  if (button.getAttribute("aria-pressed") === "true") return stop();
  button.textContent = "❚❚";
  button.setAttribute("aria-pressed", "true");
  const on = () => {
    clearTimeout(togglePlay.timer);
    togglePlay.timer = setTimeout(() => {
      if (!button.isConnected) return stop();
      setPosition(name, (state.positions[name] + 1) % axisOf(name).labels.length);
    }, 700);
  };
  showPoint.next = on;
  on();
  return undefined;
}

async function showLegend() {
  const box = byId("legend");
  let told;
  try {
    told = await askJson(versioned(`api/legend/${cube.snapshot}/${part(state.variable)}/${indexOf()}`));
  } catch (error) {
    return lose(error);
  }
  const title = el("h2", {}, told.title, told.units ? el("small", {}, ` ${told.units}`) : "");
  let body;
  if (told.kind === "range") {
    const ramp = el("div", { class: "ramp" });
    ramp.style.background = `linear-gradient(to right, ${told.ramp.join(", ")})`;
    const low = ["min", "both"].includes(told.extend) ? "≤ " : "";
    const high = ["max", "both"].includes(told.extend) ? "≥ " : "";
    body = [ramp, el("div", { class: "ends" }, el("span", {}, low + tell(told.low)), el("span", {}, high + tell(told.high)))];
  } else {
    const rows = told.classes.map((c) => {
      const key = el("i", { class: "key" });
      key.style.background = c.colour;
      return el("li", {}, key, c.name);
    });
    body = [rows.length ? el("ul", { class: "classes" }, ...rows) : el("p", { class: "hint" }, "no data here yet"), told.more ? el("p", { class: "hint" }, `and ${told.more} more`) : ""];
  }
  box.replaceChildren(title, ...body.filter(Boolean), ...told.warnings.map((w) => el("p", { class: "hint" }, w)));
  box.hidden = false;
  return undefined;
}

// ---- the point ------------------------------------------------------------------------------------------------------

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
    point = await askJson(`api/point/${cube.snapshot}/${state.lattice}/${part(state.variable)}?x=${x}&y=${y}&index=${indexOf()}`, pointAsked.signal);
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
  const key = el("i", { class: "key" });
  key.style.background = found.colour;
  return key;
}

/** Places along an axis of the point's values, and how far apart neighbours are in the list of all. */
function strides() {
  const sizes = point.axes.map((a) => a.labels.length);
  return sizes.map((_, n) => sizes.slice(n + 1).reduce((a, b) => a * b, 1));
}

/** Where the axis positions that are shown are among the point's values, which may be fewer. */
const nowAt = () => point.axes.map((a) => Math.max(0, a.labels.indexOf(axisOf(a.name).labels[state.positions[a.name] || 0])));

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
  for (let t = Math.ceil(low / step) * step; t <= high + step * 1e-9; t += step) out.push(Number(t.toPrecision(12)));
  return out;
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
  const held = point.values.filter((v) => v !== null);
  let [low, most] = [Math.min(...held), Math.max(...held)];
  if (low === most) [low, most] = [low - 1, most + 1];
  const room = (most - low) * 0.06;
  [low, most] = [low - room, most + room];
  const x = (i) => left + (labels.length > 1 ? (i / (labels.length - 1)) * (wide - left - right) : (wide - left - right) / 2);
  const y = (v) => top + (1 - (v - low) / (most - low)) * (high - top - bottom);
  const picture = el("svg", { viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label": `${point.title} along ${point.axes[along].name}` });
  for (const t of ticksOf(low, most)) {
    picture.append(el("line", { class: "grid", x1: left, x2: wide - right, y1: y(t), y2: y(t) }), el("text", { x: left - 6, y: y(t) + 4, "text-anchor": "end" }, tell(t)));
  }
  const letters = Math.max(...labels.map((l) => l.length));
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
    const hit = el("rect", { class: "hit", x: x(i) - half, y: top, width: 2 * half, height: high - top - bottom, onclick: () => goTo(now.map((p, n) => (n === along ? i : p))) }, el("title", {}, `${label}: ${nameOf(v)}`));
    if (labels.length <= 400) picture.append(hit);
  });
  return picture;
}

// ---- the address ----------------------------------------------------------------------------------------------------

let written = null;

function saveSoon() {
  clearTimeout(saveSoon.timer);
  saveSoon.timer = setTimeout(() => {
    if (!cube || !map) return;
    const words = new URLSearchParams();
    if (state.ref !== refs.first) words.set("ref", state.ref);
    if (cube.variables.length > 1) words.set("variable", state.variable);
    for (const name of variable().axes) words.set(name, axisOf(name).labels[state.positions[name] || 0]);
    if (cube.lattices.length > 1) words.set("seen", state.lattice);
    const digits = (n) => Number(n.toPrecision(9));
    words.set("at", [...toCrs(map.getCenter()).map(digits), Number(map.getZoom().toFixed(2))].join(","));
    if (state.point) words.set("point", state.point.map((n) => Number(n.toPrecision(12))).join(","));
    if (!state.coast) words.set("coast", "no");
    if (state.regions) words.set("regions", "yes");
    written = words.toString();
    history.replaceState(null, "", `#${written}`);
  }, 150);
}

const numbers = (text, n) => {
  const out = (text || "").split(",").map(Number);
  return text && out.length === n && out.every(Number.isFinite) ? out : null;
};

/** Take over what the address says, as far as the cube has it; the place on the map, or null. */
function readHash() {
  const words = new URLSearchParams(location.hash.slice(1));
  state.coast = words.get("coast") !== "no";
  state.regions = words.get("regions") === "yes";
  if (cube) {
    const has = (list, name) => list.some((item) => item.name === name);
    if (has(cube.variables, words.get("variable"))) state.variable = words.get("variable");
    if (has(cube.lattices, words.get("seen"))) state.lattice = words.get("seen");
    for (const axis of cube.axes) {
      const at = axis.labels.indexOf(words.get(axis.name));
      if (at >= 0) state.positions[axis.name] = at;
    }
  }
  state.point = numbers(words.get("point"), 2);
  return numbers(words.get("at"), 3);
}

// ---- start ----------------------------------------------------------------------------------------------------------

/** Show another snapshot; what was chosen stays chosen as far as it has it. */
async function openSnapshot(id, place = null) {
  const fresh = await askJson(versioned(`api/cube/${part(id)}`));
  const labels = cube ? Object.fromEntries(cube.axes.map((a) => [a.name, a.labels[state.positions[a.name] || 0]])) : {};
  const before = cube && map ? { centre: toCrs(map.getCenter()), zoom: map.getZoom() } : null;
  const first = !cube;
  cube = fresh;
  if (!variable()) state.variable = cube.variables[0].name;
  if (!lattice()) state.lattice = cube.lattices[0].name;
  for (const axis of cube.axes) {
    const known = axis.labels.indexOf(labels[axis.name]);
    state.positions[axis.name] = known >= 0 ? known : variable().first[axis.name] || 0;
  }
  const at = first ? readHash() : place;
  render(at ? { centre: at.slice(0, 2), zoom: at[2] } : before);
}

function render(view) {
  const own = lattice();
  if (!map || map.made !== `${own.name} ${own.shape} ${own.step}`) {
    makeMap();
    if (view) map.setView(fromCrs(view.centre), Math.min(OVERZOOM, Math.max(-own.top - 2, view.zoom)), { animate: false });
    else showAll();
    map.fire("zoomend");
  }
  showControls();
  showRefs();
  showPixels();
  showLines();
  showLegend();
  if (state.point) showPoint();
  else byId("panel").hidden = true;
  saveSoon();
}

async function chooseRef(ref) {
  state.ref = ref;
  try {
    await readRefs();
    await openSnapshot(snapshotOf(ref));
    broken = "";
    showAlert();
  } catch (error) {
    lose(error);
  }
}

function start() {
  byId("ref").addEventListener("change", (event) => chooseRef(event.target.value));
  byId("variable").addEventListener("change", (event) => {
    state.variable = event.target.value;
    point = null;
    render(null);
  });
  byId("lattice").addEventListener("change", (event) => {
    state.lattice = event.target.value;
    state.point = point = null;
    render(null);
  });
  for (const kind of ["coast", "regions"]) {
    byId(kind).addEventListener("change", (event) => {
      state[kind] = event.target.checked;
      showLines();
      saveSoon();
    });
  }
  byId("all").addEventListener("click", () => map && showAll());
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("fold").addEventListener("click", () => fold(!byId("controls").hidden));
  if (window.matchMedia("(max-width: 44rem)").matches) fold(true);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => Object.values(lines).forEach((layer) => layer.redraw()));
  window.addEventListener("hashchange", async () => {
    if (location.hash.slice(1) === written || !cube) return;
    const words = new URLSearchParams(location.hash.slice(1));
    const ref = words.get("ref") || refs.first;
    if (ref !== state.ref) await chooseRef(ref);
    const at = readHash();
    point = null;
    if (map && at) map.setView(fromCrs(at), at[2], { animate: false });
    render(at ? { centre: at.slice(0, 2), zoom: at[2] } : null);
  });
  document.addEventListener("visibilitychange", () => !document.hidden && schedule(0));
  state.ref = new URLSearchParams(location.hash.slice(1)).get("ref") || "";
  poll();
}

function fold(closed) {
  byId("controls").hidden = closed;
  byId("fold").setAttribute("aria-expanded", String(!closed));
}

start();
