// The map: regions on a canvas, coloured by state or painted with their pixels, with coasts; and which part of it is shown.

const canvas = byId("map");
const pen = canvas.getContext("2d");
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
  const most = Math.max(1, MAX_ZOOM_PX / (regionWidth * fitScale()));
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
  const [left, bottom, right, top] = data.coast.bounds;
  const scale = Math.max(right - left, top - bottom) / data.coast.steps;
  pen.strokeStyle = palette.coast;
  pen.globalAlpha = 0.7;
  pen.lineWidth = 0.8;
  pen.lineJoin = "round";
  pen.beginPath();
  for (const line of data.coast.lines) {
    let [x, y] = line;
    pen.moveTo(...toScreen(left + x * scale, bottom + y * scale));
    for (let i = 2; i < line.length; i += 2) {
      x += line[i];
      y += line[i + 1];
      pen.lineTo(...toScreen(left + x * scale, bottom + y * scale));
    }
  }
  pen.stroke();
  pen.globalAlpha = 1;
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
