// The viewer: state is kept in the address, so that a link shows the same; and the start.
"use strict";

let written = null;

const OWN_WORDS = ["ref", "variable", "seen", "at", "point", "coast", "regions"];

/** What an axis is called in the address: an axis may have a name that is a word of ours. */
const wordOf = (name) => (OWN_WORDS.includes(name) ? `axis.${name}` : name);

function saveSoon() {
  clearTimeout(saveSoon.timer);
  saveSoon.timer = setTimeout(() => {
    if (!cube || !map) return;
    const words = new URLSearchParams();
    if (state.ref !== refs.first) words.set("ref", state.ref);
    if (cube.variables.length > 1) words.set("variable", state.variable);
    for (const name of variable().axes) words.set(wordOf(name), isTogether(name) ? RGB : axisOf(name).labels[positionOf(name)]);
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
      const word = words.get(wordOf(axis.name));
      const at = axis.labels.indexOf(word);
      if (at >= 0) state.positions[axis.name] = at;
      else if (word === RGB && variable().composite?.axis === axis.name) state.positions[axis.name] = RGB;
    }
  }
  state.point = numbers(words.get("point"), 2);
  return numbers(words.get("at"), 3);
}

/** Show another snapshot; what was chosen stays chosen as far as it has it. Of a version that there is not, the first branch. */
async function openSnapshot(id, place = null) {
  let fresh;
  try {
    fresh = await askJson(versioned(`api/cube/${part(id)}`));
  } catch (error) {
    const named = refs.branches[state.ref] || refs.tags[state.ref];
    if (![400, 404].includes(error.status) || named || id !== snapshotOf(state.ref) || state.ref === refs.first) throw error;
    remark = `There is no version "${state.ref.slice(0, 60)}": this is ${refs.first}.`;
    state.ref = "";
    await readRefs();
    return openSnapshot(snapshotOf(state.ref), place);
  }
  if (id !== snapshotOf(state.ref)) return undefined; // another was chosen meanwhile
  const labels = cube ? Object.fromEntries(cube.axes.map((a) => [a.name, isTogether(a.name) ? RGB : a.labels[positionOf(a.name)]])) : {};
  const before = cube && map ? { centre: toCrs(map.getCenter()), zoom: map.getZoom() } : null;
  const first = !cube;
  cube = fresh;
  if (!variable()) state.variable = cube.variables[0].name;
  if (!lattice()) state.lattice = cube.lattices[0].name;
  for (const axis of cube.axes) {
    const known = axis.labels.indexOf(labels[axis.name]);
    const together = variable().composite?.axis === axis.name && (first || labels[axis.name] === RGB);
    state.positions[axis.name] = together ? RGB : known >= 0 ? known : variable().first[axis.name] || 0;
  }
  const at = first ? readHash() : place;
  render(at ? { centre: at.slice(0, 2), zoom: at[2] } : before);
  return undefined;
}

/** Red, green and blue are together only where the variable has them. */
function partColours() {
  for (const { name } of cube.axes) if (isTogether(name) && variable().composite?.axis !== name) state.positions[name] = positionOf(name);
}

function render(view) {
  partColours();
  const own = lattice();
  if (!map || map.made !== shapeOf(own)) {
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
  remark = "";
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
