// A grid of rectangles: where its regions lie, and how they are drawn.

const nRows = grid.y.length - 1;
const nColumns = grid.x.length - 1;
const rowsGoUp = grid.y[nRows] > grid.y[0];
const bounds = {
  left: grid.x[0], right: grid.x[nColumns], bottom: Math.min(grid.y[0], grid.y[nRows]), top: Math.max(grid.y[0], grid.y[nRows]),
};
const regionWidth = Math.abs(grid.x[1] - grid.x[0]);

function regionId(iy, ix) {
  return grid.ids.map((piece) => (typeof piece === "string" ? piece : piece[1][piece[0] === "y" ? iy : ix])).join("");
}

function regionBounds(iy, ix) {
  const [x0, x1, y0, y1] = [grid.x[ix], grid.x[ix + 1], grid.y[iy], grid.y[iy + 1]];
  return { left: x0, right: x1, bottom: Math.min(y0, y1), top: Math.max(y0, y1) };
}

/** Rows of a table that says where a region is: a name, its range, what is there. */
function regionPlace(iy, ix) {
  const box = regionBounds(iy, ix);
  const [yName, xName] = grid.dims;
  return [
    [xName, [box.left, box.right], `pixels ${grid.columns[ix]}:${grid.columns[ix + 1]}`],
    [yName, [box.bottom, box.top], `pixels ${grid.rows[iy]}:${grid.rows[iy + 1]}`],
  ];
}

/** The region beside another; ``up`` is towards greater y, wherever rows start. */
function neighbour({ iy, ix }, right, up) {
  const limit = (v, n) => Math.min(n - 1, Math.max(0, v));
  return { iy: limit(iy + up * (rowsGoUp ? 1 : -1), nRows), ix: limit(ix + right, nColumns) };
}

/** Pixels of a small map, and the number of the region that one of them stands for. */
function miniatureShape() {
  const step = Math.max(1, Math.ceil(Math.max(nRows, nColumns) / 160));
  const [width, height] = [Math.ceil(nColumns / step), Math.ceil(nRows / step)];
  return { width, height, placeOf: (i, j) => (rowsGoUp ? height - 1 - j : j) * step * nColumns + i * step };
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

/** Where a region lies in a picture: rows and columns of the cube, thinned, with the northernmost row first. */
function partOf({ image, step }, iy, ix) {
  const [x, from, to] = [grid.columns[ix], grid.rows[iy], grid.rows[iy + 1]].map((n) => n / step);
  return { x, y: rowsGoUp ? image.naturalHeight - to : from, width: grid.columns[ix + 1] / step - x, height: to - from };
}
