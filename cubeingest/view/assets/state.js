// What is looked at, and small helpers of the page.
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
const RGB = "rgb"; // in place of a position: red, green and blue of an axis together
const isTogether = (name) => state.positions[name] === RGB;
/** A position on an axis; of red, green and blue together the first. */
const positionOf = (name) => (isTogether(name) ? cube.variables.find((v) => v.composite?.axis === name).composite.positions[0] : state.positions[name] || 0);
const labelOf = (name) => (isTogether(name) ? "colour" : axisOf(name).labels[positionOf(name)]);
const indexOf = (v = variable()) => v.axes.map((name) => state.positions[name] || 0).join(".") || "-";
const tell = (n) => (Number.isInteger(n) ? String(n) : String(Number(n.toPrecision(6))));
