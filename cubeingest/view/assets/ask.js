// Asking the server; what is said when it does not answer, and trying again.
"use strict";

class Refusal extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function ask(path, signal) {
  let answer;
  try {
    answer = await fetch(path, { signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal("The viewer does not answer: is cubeingest view still running?", 0);
  }
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    throw new Refusal(told.error || `the server answered ${answer.status}`, answer.status);
  }
  return answer;
}

const askJson = async (path, signal) => (await ask(path, signal)).json();
const versioned = (path) => `${path}${path.includes("?") ? "&" : "?"}v=${part(VERSION)}`;

let broken = "";
let remark = "";
let waitMs = 1000;
let timer = 0;

/** Say what is wrong, and look again after a while, ever less often. */
function lose(error) {
  if (error.name === "AbortError") return;
  if (!(error instanceof Refusal)) console.error(error);
  broken = error.message;
  showAlert();
  schedule(waitMs);
}

function schedule(ms) {
  clearTimeout(timer);
  timer = setTimeout(poll, ms);
}

/** Ask where branches point to now; follow the one that is shown, and draw again what failed. */
async function poll() {
  if (document.hidden && !broken) return schedule(POLL_MS);
  const wasBroken = broken;
  try {
    await readRefs();
    broken = "";
    const id = snapshotOf(state.ref);
    if (!cube || id !== cube.snapshot) await openSnapshot(id);
    else if (wasBroken) redraw();
    waitMs = wasBroken ? Math.min(waitMs * 2, 60000) : 1000;
    showAlert();
    schedule(POLL_MS);
  } catch (error) {
    waitMs = Math.min(waitMs * 1.5, 10000);
    lose(error);
  }
}

function redraw() {
  pixels?.redraw();
  for (const layer of Object.values(lines)) layer.redraw();
  showLegend();
  if (state.point) showPoint();
}

function showAlert() {
  const notes = pixels ? pixels.notes() : { costly: 0, thinned: 0, blank: false };
  const says = broken || remark || (notes.costly ? "Too much to read at this zoom: zoom in, or run `cubeingest overviews`." : notes.thinned ? "Coarser here than it could be: `cubeingest overviews` makes it sharp." : notes.blank ? `No data here${variable().axes.length ? ` at ${placeNames()}` : ""}.` : "");
  const box = byId("alert");
  box.hidden = !says;
  box.className = broken ? "failed" : "";
  box.replaceChildren(...says.split("`").map((text, i) => (i % 2 ? el("code", {}, text) : text)));
}

/** The axis values that are shown, in words. */
const placeNames = () => variable().axes.map((name) => `${name} ${labelOf(name)}`).join(", ");
