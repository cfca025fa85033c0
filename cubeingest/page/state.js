// What is looked at, kept in the address so that a reload or a link shows the same; and small helpers of the page.

const state = { variable: 0, blocks: {}, region: null, pixels: false, commits: [], view: null };
const watchers = [];

const byId = (id) => document.getElementById(id);
const current = () => variables[state.variable];
const currentFrame = () => frameOf(current(), state.blocks);

/** An element; children that are text become text, never HTML. */
function el(tag, attributes = {}, ...children) {
  const out = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) out.addEventListener(name.slice(2), value);
    else if (value === true) out.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) out.setAttribute(name, value);
  }
  out.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return out;
}

function update(changes) {
  Object.assign(state, changes);
  for (const watcher of watchers) watcher(changes);
  saveSoon();
}

function writeHash() {
  const words = new URLSearchParams();
  if (variables.length > 1) words.set("variable", current().name);
  for (const axis of current().axes) words.set(axis.name, axis.labels[state.blocks[axis.name] || 0]);
  if (state.region) words.set("region", regionId(state.region.iy, state.region.ix));
  if (state.pixels) words.set("kind", "pixels");
  if (state.commits.length === 1) words.set("snapshot", data.commits.snapshot[state.commits[0]]);
  if (state.view) words.set("at", [state.view.x, state.view.y, state.view.zoom].map((n) => Number(n.toPrecision(7))).join(","));
  return words.toString();
}

function readHash() {
  const words = new URLSearchParams(location.hash.slice(1));
  const variable = Math.max(0, variables.findIndex((v) => v.name === words.get("variable")));
  const blocks = {};
  for (const axis of data.axes) blocks[axis.name] = Math.max(0, axis.labels.indexOf(words.get(axis.name)));
  const [x, y, zoom] = (words.get("at") || "").split(",").map(Number);
  const commit = data.commits.snapshot.indexOf(words.get("snapshot"));
  return {
    variable, blocks, region: words.has("region") ? findRegion(words.get("region")) : null,
    pixels: words.get("kind") === "pixels", commits: commit < 0 ? [] : [commit],
    view: Number.isFinite(x) && Number.isFinite(y) && zoom > 0 ? { x, y, zoom } : null,
  };
}

let saving = 0;
let written = null;

function saveSoon() {
  clearTimeout(saving);
  saving = setTimeout(() => {
    written = writeHash();
    history.replaceState(null, "", `#${written}`);
  }, 150);
}

function formatBytes(n) {
  if (n === null || n === undefined) return "size not known";
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (n < 1000) return unit === "B" ? `${n} B` : `${n.toFixed(1)} ${unit}`;
    n /= 1000;
  }
  return `${n.toFixed(1)} TB`;
}

const formatTime = (seconds) => (seconds === null ? "" : `${new Date(seconds * 1000).toISOString().slice(0, 19).replace("T", " ")} UTC`);
const formatCount = (n) => n.toLocaleString("en");
const formatPlace = (n) => String(Number(n.toPrecision(10)));
const formatLimit = (n) => String(Number(n.toPrecision(5)));
const SHOWN = { fresh: "finished, not committed", virtual: "done, refers to tiles", outside: "not selected" };
const shownState = (name) => SHOWN[name] || name;

function formatAge(seconds) {
  if (seconds < 90) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} minutes`;
  return seconds < 129600 ? `${Math.round(seconds / 3600)} hours` : `${Math.round(seconds / 86400)} days`;
}

/** A stamp of a source: a modification time in nanoseconds as a date, anything else as it is. */
function formatStamp(stamp) {
  return /^\d{19}$/.test(stamp) ? `of ${formatTime(Number(stamp.slice(0, 10)))}` : stamp.replace(/^(W\/)?"(.*)"$/, "$2");
}
