// A grid of HEALPix cells (nested): where its regions lie on a map of longitudes and latitudes, and how they are drawn.
//
// In the plane of the projection a region is a square that stands on a corner; x is the longitude over 45 degrees where |y| <= 1, and beyond that meridians run
// straight to the pole of their quadrant, at odd x. What latitude a y has depends on the ellipsoid: the page has a table of it.

const nRows = 1;
const nColumns = grid.parents ? grid.parents.length : 12 * 4 ** grid.order;
const rowsGoUp = false;
const bounds = { left: grid.box[0], bottom: grid.box[1], right: grid.box[2], top: grid.box[3] };
const regionWidth = 58.6 / 2 ** grid.order;
const HALF = 1 / 2 ** grid.order;
const OUTLINE_PARTS = grid.order > 5 ? 1 : grid.order > 3 ? 3 : 8;
const RASTER_PX = 5;
const AT_ONCE = 100;
const columnOf = grid.parents ? new Map(grid.parents.map((parent, ix) => [parent, ix])) : null;

const parentOf = (ix) => (grid.parents ? grid.parents[ix] : ix);

function regionId(iy, ix) {
  return String(parentOf(ix));
}

/** Every second bit of a number, from a place on. */
function everySecondBit(number, from) {
  let out = 0;
  for (let bit = 0; bit < grid.order; bit += 1) out += (Math.floor(number / 2 ** (2 * bit + from)) % 2) * 2 ** bit;
  return out;
}

/** Centre of a region in the plane, and the x of the middle of its base cell. */
function squareOf(ix) {
  const each = 4 ** grid.order;
  const parent = parentOf(ix);
  const base = Math.floor(parent / each);
  const [i, j] = [everySecondBit(parent % each, 0), everySecondBit(parent % each, 1)];
  const row = Math.floor(base / 4);
  const quadrant = 2 * (base % 4) + (row === 1 ? 0 : 1);
  return { x: quadrant + (i - j) * HALF, y: -row + (i + j + 1) * HALF, quadrant };
}

/** Latitude of a y between -2 and 2, and back. */
function latitudeOf(y) {
  const at = ((y + 2) / 4) * (grid.latitudes.length - 1);
  const i = Math.min(grid.latitudes.length - 2, Math.max(0, Math.floor(at)));
  return grid.latitudes[i] + (at - i) * (grid.latitudes[i + 1] - grid.latitudes[i]);
}

function heightOf(latitude) {
  let [low, high] = [0, grid.latitudes.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (grid.latitudes[middle] <= latitude) low = middle;
    else high = middle;
  }
  const part = (latitude - grid.latitudes[low]) / (grid.latitudes[high] - grid.latitudes[low]);
  return (4 * (low + part)) / (grid.latitudes.length - 1) - 2;
}

/** Outline of a region as longitudes, whole and from the left edge of the map on, and latitudes; one that touches a pole runs along it. */
function makeOutline(ix) {
  const { x, y, quadrant } = squareOf(ix);
  const corners = [[x, y - HALF], [x + HALF, y], [x, y + HALF], [x - HALF, y]];
  const out = [];
  corners.forEach(([ax, ay], n) => {
    const [bx, by] = corners[(n + 1) % 4];
    for (let k = 0; k <= OUTLINE_PARTS; k += 1) {
      // Beside a corner at a pole, which has no longitude, that of the edge that leads there.
      const t = k / OUTLINE_PARTS;
      const [px, py] = [ax + (bx - ax) * t, ay + (by - ay) * t];
      const down = 2 - Math.abs(py);
      const lean = down > 1e-9 ? (px - quadrant) / Math.min(1, down) : Math.sign((ax + bx) / 2 - quadrant);
      out.push([45 * (quadrant + lean), latitudeOf(py)]);
    }
  });
  const middle = out.reduce((sum, [longitude]) => sum + longitude, 0) / out.length;
  const turn = 360 * Math.floor((middle - bounds.left) / 360);
  return out.map(([longitude, latitude]) => [Math.round((longitude - turn) * 1e9) / 1e9, latitude]);
}

const outlines = new Map();

function outlineOf(ix) {
  if (!outlines.has(ix)) {
    const points = makeOutline(ix);
    const [xs, ys] = [points.map((p) => p[0]), points.map((p) => p[1])];
    outlines.set(ix, { points, left: Math.min(...xs), right: Math.max(...xs), bottom: Math.min(...ys), top: Math.max(...ys) });
  }
  return outlines.get(ix);
}

function regionBounds(iy, ix) {
  const { left, right, bottom, top } = outlineOf(ix);
  const turn = left >= 180 ? 360 : 0;
  return { left: left - turn, right: right - turn, bottom, top };
}

/** Rows of a table that says where a region is: a name, its range, what is there. */
function regionPlace(iy, ix) {
  const box = regionBounds(iy, ix);
  const n = grid.cells;
  return [
    ["longitude", [box.left, box.right], `a cell of order ${grid.order}`],
    ["latitude", [box.bottom, box.top], `${grid.dims[0]} ${ix * n}:${(ix + 1) * n}`],
  ];
}

/** Column of the region at a longitude and latitude, or -1. */
function columnAt(longitude, latitude) {
  if (Math.abs(latitude) > 90) return -1;
  const u = ((((longitude % 360) + 360) % 360) / 45) % 8;
  const y = heightOf(latitude);
  const n = 2 ** grid.order;
  const down = 2 - Math.abs(y);
  const quadrant = 2 * Math.floor(u / 2) + 1;
  const x = down < 1 ? quadrant + (u - quadrant) * down : u;
  // Along the two diagonals base cells are whole numbers wide.
  for (let base = 0; base < 12; base += 1) {
    const row = Math.floor(base / 4);
    const middle = 2 * (base % 4) + (row === 1 ? 0 : 1);
    for (const turn of [-8, 0, 8]) {
      const [dx, dy] = [x + turn - middle, y + row];
      const [i, j] = [Math.floor(((dx + dy) / 2) * n), Math.floor(((dy - dx) / 2) * n)];
      if (i < 0 || j < 0 || i >= n || j >= n) continue;
      let within = 0;
      for (let bit = 0; bit < grid.order; bit += 1) within += ((i >> bit) & 1) * 4 ** bit + ((j >> bit) & 1) * 2 * 4 ** bit;
      const parent = base * n * n + within;
      return columnOf ? columnOf.get(parent) ?? -1 : parent;
    }
  }
  return -1;
}

function regionAt(px, py) {
  const [x, y] = toPlace(px, py);
  if (x < bounds.left || x > bounds.right || y < bounds.bottom || y > bounds.top) return null;
  const ix = columnAt(x, y);
  return ix < 0 ? null : { iy: 0, ix };
}

/** The region beside another, or of a grid that lacks it the nearest one on that side; ``up`` is to the north. */
function neighbour({ ix }, right, up) {
  const middleOf = ({ left, right: end, bottom, top }) => [(left + end) / 2, (bottom + top) / 2];
  const box = regionBounds(0, ix);
  const [x, y] = middleOf(box);
  const [wide, high] = [(box.right - box.left) * 0.75, (box.top - box.bottom) * 0.75];
  const best = columnAt(x + right * wide, Math.max(-89.9, Math.min(89.9, y + up * high)));
  let least = Infinity;
  for (let other = 0; best < 0 && columnOf && other < nColumns; other += 1) {
    const [ox, oy] = middleOf(regionBounds(0, other));
    const [dx, dy] = [((((ox - x + 180) % 360) + 360) % 360) - 180, oy - y];
    const [ahead, aside] = right ? [dx * right, Math.abs(dy)] : [dy * up, Math.abs(dx)];
    if (ahead > 0 && ahead + 2 * aside < least) {
      least = ahead + 2 * aside;
      ix = other;
    }
  }
  return { iy: 0, ix: best < 0 ? ix : best };
}

let smallMap = null;

/** Pixels of a small map, and the number of the region that one of them stands for, or -1. */
function miniatureShape() {
  if (!smallMap) {
    const [across, up] = [bounds.right - bounds.left, bounds.top - bounds.bottom];
    const scale = 160 / Math.max(across, up);
    const [width, height] = [across, up].map((v) => Math.max(1, Math.round(v * scale)));
    const places = [];
    for (let j = 0; j < height; j += 1) {
      for (let i = 0; i < width; i += 1) places.push(columnAt(bounds.left + (across * (i + 0.5)) / width, bounds.top - (up * (j + 0.5)) / height));
    }
    smallMap = { width, height, placeOf: (i, j) => places[j * width + i] };
  }
  return smallMap;
}

/** Calls ``each`` with the columns of the regions that are on the screen, and the turn of the globe to draw them in. */
function eachVisible(each) {
  const [west, north] = toPlace(0, 0);
  const [east, south] = toPlace(size().width, size().height);
  for (let ix = 0; ix < nColumns; ix += 1) {
    const box = outlineOf(ix);
    if (box.top < south || box.bottom > north || box.bottom >= bounds.top || box.top <= bounds.bottom) continue;
    for (const turn of [-360, 0, 360]) {
      const [left, right] = [Math.max(box.left + turn, bounds.left), Math.min(box.right + turn, bounds.right)];
      if (left < right && left <= east && right >= west) each(ix, turn);
    }
  }
}

function trace(ix, turn) {
  outlineOf(ix).points.forEach(([x, y], n) => {
    const place = toScreen(x + turn, y);
    if (n) pen.lineTo(...place);
    else pen.moveTo(...place);
  });
  pen.closePath();
}

/** What is drawn while ``draw`` runs stays within the map. */
function clipped(drawIt) {
  const [x0, y0] = toScreen(bounds.left, bounds.top);
  const [x1, y1] = toScreen(bounds.right, bounds.bottom);
  pen.save();
  pen.beginPath();
  pen.rect(x0, y0, x1 - x0, y1 - y0);
  pen.clip();
  drawIt();
  pen.restore();
}

let raster = { key: "" };

/** The column of the region at each pixel of the map, or -1, as long as the map shows the same part. */
function rasterNow() {
  const { width, height } = size();
  const [left, top] = toScreen(bounds.left, bounds.top).map((v) => Math.max(0, Math.round(v)));
  const [right, bottom] = toScreen(bounds.right, bounds.bottom);
  const [columns, rows] = [Math.round(Math.min(width, right)) - left, Math.round(Math.min(height, bottom)) - top];
  const view = viewNow();
  const key = [view.x, view.y, view.scale, width, height].join();
  if (raster.key !== key) {
    const places = new Int32Array(Math.max(0, columns * rows));
    for (let j = 0; j < rows; j += 1) {
      for (let i = 0; i < columns; i += 1) places[j * columns + i] = columnAt(...toPlace(left + i + 0.5, top + j + 0.5));
    }
    raster = { key, places, left, top, columns, rows };
  }
  return raster;
}

/** Red, green and blue of a CSS colour. */
function parseColour(colour) {
  const ink = document.createElement("canvas").getContext("2d");
  ink.fillStyle = colour;
  ink.fillRect(0, 0, 1, 1);
  return ink.getImageData(0, 0, 1, 1).data;
}

/** Regions of a few pixels, pixel by pixel: so many outlines would take a browser a minute. */
function drawSmall(variable, frame) {
  const { places, left, top, columns, rows } = rasterNow();
  if (!(columns > 0 && rows > 0)) return;
  const image = document.createElement("canvas");
  [image.width, image.height] = [columns, rows];
  const ink = image.getContext("2d");
  const pixels = ink.createImageData(columns, rows);
  const colours = STATES.map((name) => parseColour(palette[name]));
  places.forEach((ix, n) => {
    const slot = ix < 0 ? -1 : slotOf(frame, 0, ix);
    const code = slot < 0 ? OUTSIDE : variable.states[slot];
    if (code === OUTSIDE) return;
    pixels.data.set(colours[code].subarray(0, 3), 4 * n);
    pixels.data[4 * n + 3] = lit && !lit.has(slot) ? 41 : 255;
  });
  ink.putImageData(pixels, 0, 0);
  pen.imageSmoothingEnabled = false;
  pen.drawImage(image, left, top);
}

function drawRegions() {
  const variable = current();
  const frame = currentFrame();
  const wide = regionWidth * viewNow().scale;
  if (wide < RASTER_PX) {
    drawSmall(variable, frame);
    return;
  }
  const byFill = new Map();
  eachVisible((ix, turn) => {
    const slot = slotOf(frame, 0, ix);
    const code = variable.states[slot];
    if (code === OUTSIDE) return;
    const key = `${code} ${lit && !lit.has(slot) ? 0.16 : 1}`;
    if (!byFill.has(key)) byFill.set(key, []);
    byFill.get(key).push([ix, turn]);
  });
  clipped(() => {
    for (const [key, regions] of byFill) {
      const [code, alpha] = key.split(" ").map(Number);
      pen.globalAlpha = alpha;
      pen.fillStyle = wide >= MARK_PX ? FILLS[STATES[code]] : palette[STATES[code]];
      pen.lineWidth = wide > 12 ? 1 : 0.5;
      pen.strokeStyle = palette.sea;
      for (let n = 0; n < regions.length; n += AT_ONCE) {
        pen.beginPath();
        for (const region of regions.slice(n, n + AT_ONCE)) trace(...region);
        pen.fill();
        pen.stroke();
      }
    }
  });
  pen.globalAlpha = 1;
  if (variable.stale && wide >= MARK_PX) {
    eachVisible((ix, turn) => {
      const box = outlineOf(ix);
      if (variable.stale[slotOf(frame, 0, ix)]) corner(...toScreen(box.right + turn, box.top));
    });
  }
}

function drawLabels() {
  if (regionWidth * viewNow().scale < LABEL_PX) return;
  pen.font = `500 11px ${getComputedStyle(document.body).fontFamily}`;
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.lineWidth = 3;
  pen.strokeStyle = palette.paper;
  pen.fillStyle = palette.ink;
  eachVisible((ix, turn) => {
    if (current().states[slotOf(currentFrame(), 0, ix)] === OUTSIDE) return;
    const box = outlineOf(ix);
    const [x, y] = toScreen((box.left + box.right) / 2 + turn, (box.bottom + box.top) / 2);
    pen.strokeText(regionId(0, ix), x, y);
    pen.fillText(regionId(0, ix), x, y);
  });
}

function outline({ ix }, colour, thickness) {
  clipped(() => {
    for (const [width, style] of [[thickness + 2, palette.paper], [thickness, colour]]) {
      pen.lineWidth = width;
      pen.strokeStyle = style;
      pen.beginPath();
      for (const turn of [-360, 0, 360]) trace(ix, turn);
      pen.stroke();
    }
  });
}

/** There are no pictures of cells on a page. */
function partOf() {
  return null;
}
