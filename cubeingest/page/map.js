// The map: regions on a canvas, coloured by state or painted with their pixels, with coasts; and which part of it is shown.

const canvas = byId("map");
const pen = canvas.getContext("2d");
const bounds = {
  left: grid.x[0], right: grid.x[nColumns], bottom: Math.min(grid.y[0], grid.y[nRows]), top: Math.max(grid.y[0], grid.y[nRows]),
};
const FILLS = {};
const MARK_PX = 9;
const LABEL_PX = 62;
const MAX_ZOOM_PX = 400;
let palette = {};
let hovered = null;
let lit = null;
let drawn = 0;

function readPalette() {
  const style = getComputedStyle(document.documentElement);
  const names = [...STATES, "sea", "coast", "ink", "accent", "paper", "seam"];
  palette = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  for (const name of STATES) FILLS[name] = makeFill(name);
}

/** A state's fill: its colour, and for some a pattern, so that no one has to tell them apart by colour. */
function makeFill(name) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 8;
  const ink = tile.getContext("2d");
  ink.fillStyle = palette[name];
  ink.fillRect(0, 0, 8, 8);
  ink.strokeStyle = palette.ink;
  ink.globalAlpha = name === "failed" ? 0.9 : 0.28;
  ink.beginPath();
  if (name === "pending" || name === "failed") {
    for (const x of [-8, 0, 8]) { ink.moveTo(x, 8); ink.lineTo(x + 8, 0); }
  }
  if (name === "failed") {
    for (const x of [-8, 0, 8]) { ink.moveTo(x, 0); ink.lineTo(x + 8, 8); }
  }
  if (name === "virtual") ink.rect(2, 2, 4, 4);
  if (name === "empty") ink.arc(4, 4, 1, 0, 7);
  if (name === "fresh") { ink.moveTo(0, 4); ink.lineTo(8, 4); }
  ink.stroke();
  return pen.createPattern(tile, "repeat");
}

const size = () => ({ width: canvas.clientWidth, height: canvas.clientHeight });

function fitScale() {
  const { width, height } = size();
  return Math.min((width - 16) / (bounds.right - bounds.left), (height - 16) / (bounds.top - bounds.bottom));
}

/** Centre and CSS pixels per CRS unit of what is shown. */
function viewNow() {
  const view = state.view || { x: (bounds.left + bounds.right) / 2, y: (bounds.bottom + bounds.top) / 2, zoom: 1 };
  return { x: view.x, y: view.y, scale: fitScale() * view.zoom };
}

function toScreen(x, y) {
  const view = viewNow();
  const { width, height } = size();
  return [width / 2 + (x - view.x) * view.scale, height / 2 - (y - view.y) * view.scale];
}

function toPlace(px, py) {
  const view = viewNow();
  const { width, height } = size();
  return [view.x + (px - width / 2) / view.scale, view.y - (py - height / 2) / view.scale];
}

function clampView(x, y, zoom) {
  const region = Math.abs(grid.x[1] - grid.x[0]);
  const most = Math.max(1, MAX_ZOOM_PX / (region * fitScale()));
  const z = Math.min(most, Math.max(1, zoom));
  if (z <= 1.0001) return null;
  const clamp = (v, low, high) => Math.min(high, Math.max(low, v));
  return { x: clamp(x, bounds.left, bounds.right), y: clamp(y, bounds.bottom, bounds.top), zoom: z };
}

function zoomBy(factor, px = size().width / 2, py = size().height / 2) {
  const zoom = (state.view ? state.view.zoom : 1) * factor;
  const [x, y] = toPlace(px, py);
  const now = viewNow();
  const next = clampView(now.x, now.y, zoom);
  const ratio = next ? now.scale / (fitScale() * next.zoom) : 1;
  update({ view: next && clampView(x + (now.x - x) * ratio, y + (now.y - y) * ratio, zoom) });
}

function panBy(dx, dy) {
  if (!state.view) return;
  const view = viewNow();
  update({ view: clampView(state.view.x - dx / view.scale, state.view.y + dy / view.scale, state.view.zoom) });
}

/** Index of the region between evenly spaced edges that holds a coordinate, or -1. */
function indexAt(edges, value) {
  const i = Math.floor((value - edges[0]) / (edges[1] - edges[0]));
  const last = edges.length - 2;
  const clamped = Math.min(last, Math.max(0, i));
  const [a, b] = [edges[clamped], edges[clamped + 1]];
  return value >= Math.min(a, b) && value <= Math.max(a, b) ? clamped : -1;
}

function regionAt(px, py) {
  const [x, y] = toPlace(px, py);
  const [iy, ix] = [indexAt(grid.y, y), indexAt(grid.x, x)];
  return iy < 0 || ix < 0 ? null : { iy, ix };
}

/** Half-open range of indices whose cells are on the screen. */
function visible(edges, from, to) {
  const step = edges[1] - edges[0];
  const ends = [(from - edges[0]) / step, (to - edges[0]) / step].sort((a, b) => a - b);
  return [Math.max(0, Math.floor(ends[0])), Math.min(edges.length - 1, Math.ceil(ends[1]))];
}

function drawSoon() {
  if (!drawn) drawn = requestAnimationFrame(draw);
}

function draw() {
  drawn = 0;
  const { width, height } = size();
  const ratio = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.fillStyle = palette.sea;
  pen.fillRect(0, 0, width, height);
  drawRegions();
  drawCoast();
  drawLabels();
  if (hovered) outline(hovered, palette.ink, 1.5);
  if (state.region) outline(state.region, palette.accent, 3);
}

/** Screen edges of rows and columns that are visible, whole pixels so that seams are even. */
function layOut() {
  const [west, north] = toPlace(0, 0);
  const [east, south] = toPlace(size().width, size().height);
  const [x0, x1] = visible(grid.x, west, east);
  const [y0, y1] = visible(grid.y, north, south);
  const xs = [];
  const ys = [];
  for (let i = x0; i <= x1; i += 1) xs.push(toScreen(grid.x[i], 0)[0]);
  for (let i = y0; i <= y1; i += 1) ys.push(toScreen(0, grid.y[i])[1]);
  return { x0, y0, xs, ys };
}

function drawRegions() {
  const { x0, y0, xs, ys } = layOut();
  const variable = current();
  const frame = currentFrame();
  const cell = Math.abs(toScreen(grid.x[1], 0)[0] - toScreen(grid.x[0], 0)[0]);
  const gap = cell > 6 ? 1 : cell > 3 ? 0.5 : 0;
  const step = Math.max(1, Math.floor(0.7 / Math.max(cell, 1e-6)));
  const picture = state.pixels ? pictureOf(variable, frame) : null;
  for (let code = 0; code < STATES.length; code += 1) {
    if (code === OUTSIDE) continue;
    pen.fillStyle = cell >= MARK_PX ? FILLS[STATES[code]] : palette[STATES[code]];
    for (let j = 0; j + 1 < ys.length; j += step) {
      for (let i = 0; i + 1 < xs.length; i += step) {
        const slot = slotOf(frame, y0 + j, x0 + i);
        if (variable.states[slot] !== code) continue;
        pen.globalAlpha = lit && !lit.has(slot) ? 0.16 : 1;
        const [a, b] = [xs[i], xs[Math.min(i + step, xs.length - 1)]];
        const [c, d] = [ys[j], ys[Math.min(j + step, ys.length - 1)]];
        pen.fillRect(a, Math.min(c, d), b - a - gap, Math.abs(d - c) - gap);
      }
    }
  }
  pen.globalAlpha = 1;
  if (picture) drawPicture(picture, variable, frame, { x0, y0, xs, ys });
  if (cell >= MARK_PX) drawFlags(variable, frame, { x0, y0, xs, ys });
}

/** Pixels, over the regions that hold some. */
function drawPicture(picture, variable, frame, { x0, y0, xs, ys }) {
  pen.imageSmoothingEnabled = false;
  const { missing } = variable.legend || {};
  for (let j = 0; j + 1 < ys.length; j += 1) {
    for (let i = 0; i + 1 < xs.length; i += 1) {
      const slot = slotOf(frame, y0 + j, x0 + i);
      if (!PIXELS.includes(variable.states[slot])) continue;
      pen.globalAlpha = lit && !lit.has(slot) ? 0.16 : 1;
      const part = partOf(picture, y0 + j, x0 + i);
      const [top, bottom] = [Math.min(ys[j], ys[j + 1]), Math.max(ys[j], ys[j + 1])];
      const box = [xs[i], top, xs[i + 1] - xs[i], bottom - top];
      if (missing) {
        pen.fillStyle = missing;
        pen.fillRect(...box);
      }
      pen.drawImage(picture.image, part.x, part.y, part.width, part.height, ...box);
    }
  }
  pen.globalAlpha = 1;
}

/** A small corner where overviews are behind. */
function drawFlags(variable, frame, { x0, y0, xs, ys }) {
  if (!variable.stale) return;
  for (let j = 0; j + 1 < ys.length; j += 1) {
    for (let i = 0; i + 1 < xs.length; i += 1) {
      if (variable.stale[slotOf(frame, y0 + j, x0 + i)]) corner(xs[i + 1], Math.min(ys[j], ys[j + 1]));
    }
  }
}

function corner(x, y) {
  pen.fillStyle = palette.paper;
  pen.beginPath();
  pen.moveTo(x - 1, y);
  pen.lineTo(x - 8, y);
  pen.lineTo(x - 1, y + 7);
  pen.fill();
}

function drawCoast() {
  if (!data.coast) return;
  const scale = Math.max(bounds.right - bounds.left, bounds.top - bounds.bottom) / data.coast.steps;
  pen.strokeStyle = palette.coast;
  pen.globalAlpha = 0.7;
  pen.lineWidth = 0.8;
  pen.lineJoin = "round";
  pen.beginPath();
  for (const line of data.coast.lines) {
    let [x, y] = line;
    pen.moveTo(...toScreen(bounds.left + x * scale, bounds.bottom + y * scale));
    for (let i = 2; i < line.length; i += 2) {
      x += line[i];
      y += line[i + 1];
      pen.lineTo(...toScreen(bounds.left + x * scale, bounds.bottom + y * scale));
    }
  }
  pen.stroke();
  pen.globalAlpha = 1;
}

function drawLabels() {
  const { x0, y0, xs, ys } = layOut();
  if (xs.length < 2 || xs[1] - xs[0] < LABEL_PX || (xs.length - 1) * (ys.length - 1) > 1500) return;
  const { width, height } = size();
  pen.font = `500 11px ${getComputedStyle(document.body).fontFamily}`;
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.lineWidth = 3;
  pen.strokeStyle = palette.paper;
  pen.fillStyle = palette.ink;
  for (let j = 0; j + 1 < ys.length; j += 1) {
    for (let i = 0; i + 1 < xs.length; i += 1) {
      if (current().states[slotOf(currentFrame(), y0 + j, x0 + i)] === OUTSIDE) continue;
      const [left, right] = [Math.max(0, xs[i]), Math.min(width, xs[i + 1])];
      const [top, bottom] = [Math.min(ys[j], ys[j + 1]), Math.max(ys[j], ys[j + 1])];
      const y = (Math.max(0, top) + Math.min(height, bottom)) / 2;
      const text = regionId(y0 + j, x0 + i);
      if (pen.measureText(text).width > right - left - 6) continue;
      pen.strokeText(text, (left + right) / 2, y);
      pen.fillText(text, (left + right) / 2, y);
    }
  }
}

function outline({ iy, ix }, colour, thickness) {
  const [x0, y0] = toScreen(grid.x[ix], grid.y[iy]);
  const [x1, y1] = toScreen(grid.x[ix + 1], grid.y[iy + 1]);
  pen.lineWidth = thickness + 2;
  pen.strokeStyle = palette.paper;
  pen.strokeRect(x0, Math.min(y0, y1), x1 - x0, Math.abs(y1 - y0));
  pen.lineWidth = thickness;
  pen.strokeStyle = colour;
  pen.strokeRect(x0, Math.min(y0, y1), x1 - x0, Math.abs(y1 - y0));
}

// ---- pictures -------------------------------------------------------------------------------------------

const pictures = new Map();

/** The picture of a variable's frame and its step, or null: there is none, or it is being decoded, and all is drawn again when it is. */
function pictureOf(variable, frame) {
  const [step, uri] = variable.pictures[frame] || [];
  if (!uri) return null;
  if (!pictures.has(uri)) {
    const image = new Image();
    pictures.set(uri, image);
    image.addEventListener("load", () => update({}));
    image.src = uri;
  }
  const image = pictures.get(uri);
  return image.complete && image.naturalWidth ? { image, step } : null;
}

/** Where a region lies in a picture: rows and columns of the cube, thinned, with the northernmost row first. */
function partOf({ image, step }, iy, ix) {
  const [x, from, to] = [grid.columns[ix], grid.rows[iy], grid.rows[iy + 1]].map((n) => n / step);
  return { x, y: rowsGoUp ? image.naturalHeight - to : from, width: grid.columns[ix + 1] / step - x, height: to - from };
}

function startMap() {
  readPalette();
  const shape = (bounds.right - bounds.left) / (bounds.top - bounds.bottom);
  canvas.style.aspectRatio = String(Math.min(2.6, Math.max(0.9, shape)));
  new ResizeObserver(drawSoon).observe(canvas);
  watchers.push((changes) => {
    if ("commits" in changes || "variable" in changes) lit = state.commits.length ? slotsOfCommits(current(), state.commits) : null;
    canvas.classList.toggle("zoomed", Boolean(state.view));
    drawSoon();
  });
}
