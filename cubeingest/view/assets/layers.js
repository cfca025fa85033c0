// The map: pixels and lines on it as tiles, and where on it a place is.
"use strict";

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

/** Tiles whose zoom is always a whole number; Leaflet's own `redraw` asks for tiles of the map's zoom, which may lie between. */
const Tiles = L.GridLayer.extend({
  redraw() {
    if (this._map) {
      this._removeAllTiles();
      this._resetView();
    }
    return this;
  },
});

const Pixels = Tiles.extend({
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

const Lines = Tiles.extend({
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

/** What a map is made for: with another of these its pixels lie elsewhere. */
const shapeOf = (own) => `${own.name} ${own.shape} ${own.step} ${own.origin}`;

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
  map.made = shapeOf(own);
  frame = L.rectangle([[0, 0], own.shape], { fill: false, weight: 1, color: "var(--edge)", opacity: 0.5, interactive: false }).addTo(map);
  map.setMaxBounds(L.latLngBounds([[0, 0], own.shape]).pad(0.6));
  map.on("moveend", saveSoon);
  map.on("movestart", () => (map.whole = false));
  map.on("resize", () => map.whole && showAll());
  map.on("click dragstart", () => {
    remark = "";
    showAlert();
  });
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
  map.whole = true; // until it is moved
}

const toCrs = (at, own = lattice()) => [own.origin[0] + at.lng * own.step[0], own.origin[1] + at.lat * own.step[1]];
const fromCrs = ([x, y], own = lattice()) => L.latLng((y - own.origin[1]) / own.step[1], (x - own.origin[0]) / own.step[0]);

function degrees(value, [positive, negative], digits) {
  const rounded = Number(value.toFixed(digits));
  return `${Math.abs(rounded).toFixed(digits)}°${rounded === 0 ? "" : rounded > 0 ? positive : negative}`;
}

function placeText(where, own) {
  const digits = Math.min(7, Math.max(2, 1 + Math.ceil(-Math.log10(Math.abs(own.geographic ? own.step[0] : own.step[0] / 111195)))));
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
    const place = await askJson(versioned(`api/place/${cube.snapshot}/${own.name}?x=${x}&y=${y}`));
    if (own === lattice()) byId("where").textContent = placeText({ x, y, ...place }, own);
  } catch {
    byId("where").textContent = placeText({ x, y }, own);
  } finally {
    asking = false;
    if (wanted !== at) showWhere(wanted);
  }
}
