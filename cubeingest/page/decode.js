// The page's data, unpacked: what packing.py has put together is taken apart.

const MARKS = "\u0001\u0002\u0003\u0004\u0005\u0006\u0007\u0008";

const nRegions = nRows * nColumns;
const STATES = [...Object.values(data.letters), "virtual"]; // the last is "done" of a slot that refers to tiles
const codeOf = (name) => STATES.indexOf(name);
const OUTSIDE = codeOf("outside");
const PIXELS = ["done", "virtual"].map(codeOf);
const HELD = ["done", "virtual", "empty"].map(codeOf);

function unpackTexts(packed) {
  const out = [];
  for (let i = 0; i < packed.length; i += 1) {
    const shared = typeof packed[i] === "number" ? packed[i++] : 0;
    out.push((out.length ? out[out.length - 1].slice(0, shared) : "") + packed[i]);
  }
  return out;
}

function unpackRuns(text, letters, length) {
  const out = new Uint8Array(length);
  let at = 0;
  for (const [, letter, count] of text.matchAll(/([a-z-])(\d*)/g)) {
    const n = count ? Number(count) : 1;
    out.fill(letters.indexOf(letter), at, at + n);
    at += n;
  }
  return out;
}

const texts = unpackTexts(data.texts);

function unpackVariable(raw) {
  const axes = raw.axes.map((n) => data.axes[n]);
  const shape = axes.map((axis) => axis.labels.length);
  const nFrames = shape.reduce((a, b) => a * b, 1);
  const flag = (text) => (text ? unpackRuns(text, "-x", nFrames * nRegions) : null);
  const states = unpackRuns(raw.states, Object.keys(data.letters).join(""), nFrames * nRegions);
  flag(raw.virtual)?.forEach((refers, slot) => {
    if (refers && states[slot] === codeOf("done")) states[slot] = codeOf("virtual");
  });
  return { ...raw, axes, shape, nFrames, states, stale: flag(raw.stale), rows: null };
}

const variables = data.variables.map(unpackVariable);

/** Place of a region's id, or null. */
function findRegion(id) {
  for (let iy = 0; iy < nRows; iy += 1) {
    for (let ix = 0; ix < nColumns; ix += 1) if (regionId(iy, ix) === id) return { iy, ix };
  }
  return null;
}

/** Number of a variable's frame: one set of axis blocks. */
function frameOf(variable, blocks) {
  return variable.axes.reduce((n, axis, i) => n * variable.shape[i] + (blocks[axis.name] || 0), 0);
}

/** Blocks by axis of a frame. */
function blocksOf(variable, frame) {
  const out = {};
  for (let i = variable.axes.length - 1; i >= 0; i -= 1) {
    out[variable.axes[i].name] = frame % variable.shape[i];
    frame = Math.floor(frame / variable.shape[i]);
  }
  return out;
}

function frameLabel(variable, frame) {
  const blocks = blocksOf(variable, frame);
  return variable.axes.map((axis) => axis.labels[blocks[axis.name]]).join(" ");
}

/** What of a frame its picture is of, if not of all: the first value of each axis block. */
function firstLabel(variable, frame) {
  const blocks = blocksOf(variable, frame);
  const label = variable.axes.map((axis) => (axis.first || axis.labels)[blocks[axis.name]]).join(" ");
  return label === frameLabel(variable, frame) ? "" : label;
}

const slotOf = (frame, iy, ix) => (frame * nRows + iy) * nColumns + ix;

/** Row of each slot's record, -1 where there is none. */
function recordRows(variable) {
  if (!variable.rows) {
    variable.rows = new Int32Array(variable.states.length).fill(-1);
    let row = 0;
    variable.states.forEach((state, slot) => {
      if (HELD.includes(state)) variable.rows[slot] = row++;
    });
  }
  return variable.rows;
}

function expandHref(pattern, variable, slot) {
  const place = slot % nRegions;
  const frame = Math.floor(slot / nRegions);
  const blocks = blocksOf(variable, frame);
  let out = pattern;
  data.axes.forEach((axis, n) => {
    if (n + 1 < MARKS.length && axis.name in blocks) out = out.replaceAll(MARKS[n + 1], () => axis.labels[blocks[axis.name]]);
  });
  return out.replaceAll(MARKS[0], () => regionId(Math.floor(place / nColumns), place % nColumns));
}

const asList = (value) => (Array.isArray(value) ? value : [value]);

/** What the ledger says of a slot, or null. */
function recordOf(variable, slot) {
  const columns = variable.records;
  const row = columns ? recordRows(variable)[slot] : -1;
  if (row < 0 || columns.run[row] === null) return null;
  const [sizes, stamps] = [asList(columns.size[row]), asList(columns.stamp[row])];
  const sources = asList(columns.href[row]).map((n, i) => ({ href: expandHref(texts[n], variable, slot), size: sizes[i], stamp: stamps[i] }));
  return {
    sources, nSources: columns.sources[0][row] || sources.length,
    checksum: columns.checksum[row], reading: texts[columns.reading[row]], how: texts[columns.how[row]],
    time: columns.time[row], run: texts[columns.run[row]], commit: columns.commit[row],
  };
}

/** Slots of a variable that came with one of some commits, as a set. */
function slotsOfCommits(variable, commits) {
  const out = new Set();
  if (!variable.records) return out;
  recordRows(variable).forEach((row, slot) => {
    if (row >= 0 && commits.includes(variable.records.commit[row])) out.add(slot);
  });
  return out;
}

/** Slots by state in one frame. */
function countFrame(variable, frame) {
  const counts = new Array(STATES.length).fill(0);
  for (let slot = frame * nRegions; slot < (frame + 1) * nRegions; slot += 1) counts[variable.states[slot]] += 1;
  return counts;
}
