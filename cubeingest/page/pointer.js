// What moves and zooms the map, and selects regions on it: pointer, wheel and keys.

const pointers = new Map();
let moved = 0;

function pointOf(event) {
  const box = canvas.getBoundingClientRect();
  return { x: event.clientX - box.left, y: event.clientY - box.top };
}

function onDown(event) {
  canvas.setPointerCapture(event.pointerId);
  if (!pointers.size) moved = 0;
  pointers.set(event.pointerId, pointOf(event));
}

function onMove(event) {
  const point = pointOf(event);
  const before = pointers.get(event.pointerId);
  if (!before) {
    hover(regionAt(point.x, point.y));
    return;
  }
  const others = [...pointers].filter(([id]) => id !== event.pointerId).map(([, p]) => p);
  pointers.set(event.pointerId, point);
  moved += Math.hypot(point.x - before.x, point.y - before.y);
  if (others.length) {
    const spread = (p) => Math.hypot(p.x - others[0].x, p.y - others[0].y);
    zoomBy(spread(point) / Math.max(1, spread(before)), (point.x + others[0].x) / 2, (point.y + others[0].y) / 2);
  } else if (moved > 4) {
    panBy(point.x - before.x, point.y - before.y);
  }
}

function onUp(event) {
  const alone = pointers.size === 1;
  const known = pointers.delete(event.pointerId);
  if (known && alone && moved <= 4 && event.type === "pointerup") {
    const { x, y } = pointOf(event);
    update({ region: regionAt(x, y) });
  }
}

function onWheel(event) {
  const factor = Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015));
  if (!state.view && factor < 1) return; // all is shown: the page scrolls on
  event.preventDefault();
  const { x, y } = pointOf(event);
  zoomBy(factor, x, y);
}

function hover(region) {
  const same = (a, b) => (a && b ? a.iy === b.iy && a.ix === b.ix : a === b);
  if (same(region, hovered)) return;
  hovered = region;
  const name = region && STATES[current().states[slotOf(currentFrame(), region.iy, region.ix)]];
  byId("hover").textContent = region ? `${regionId(region.iy, region.ix)}  ${shownState(name)}` : "";
  drawSoon();
}

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key in STEPS) moveRegion(...STEPS[event.key]);
  else if (event.key === "+" || event.key === "=") zoomBy(1.5);
  else if (event.key === "-") zoomBy(1 / 1.5);
  else if (event.key === "0") update({ view: null });
  else if (event.key === "Escape") update({ region: null, commits: [] });
  else if (event.key === "Enter") byId("panel").scrollIntoView({ block: "nearest" });
  else return;
  event.preventDefault();
}

/** Go to the region beside the one that is selected. */
function moveRegion(right, up) {
  const region = state.region ? neighbour(state.region, right, up) : { iy: nRows >> 1, ix: nColumns >> 1 };
  update({ region });
  show(region);
}

/** Move the map, as little as need be, so that a region is on the screen. */
function show({ iy, ix }) {
  if (!state.view) return;
  const box = regionBounds(iy, ix);
  const [x, y] = [(box.left + box.right) / 2, (box.bottom + box.top) / 2];
  const [px, py] = toScreen(x, y);
  const { width, height } = size();
  if (px > 20 && px < width - 20 && py > 20 && py < height - 20) return;
  update({ view: clampView(x, y, state.view.zoom) });
}

function startPointer() {
  canvas.addEventListener("pointerdown", onDown);
  canvas.addEventListener("pointermove", onMove);
  canvas.addEventListener("pointerup", onUp);
  canvas.addEventListener("pointercancel", onUp);
  canvas.addEventListener("pointerleave", () => hover(null));
  canvas.addEventListener("wheel", onWheel, { passive: false });
  canvas.addEventListener("keydown", onKey);
  byId("zoom-in").addEventListener("click", () => zoomBy(1.6));
  byId("zoom-out").addEventListener("click", () => zoomBy(1 / 1.6));
  byId("zoom-all").addEventListener("click", () => update({ view: null }));
}
