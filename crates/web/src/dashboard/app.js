// The page's parts, and what moves them: events of the daemon, and a clock.

import { Charts } from "./charts.js";
import { Details } from "./details.js";
import { Forget } from "./forget.js";
import { Grid } from "./grid.js";
import { Head } from "./head.js";
import { Link } from "./link.js";
import { Links } from "./links.js";
import { WorldMap } from "./map.js";
import { Model } from "./model.js";
import { Outputs } from "./outputs.js";
import { Panels } from "./panels.js";

const TICK_MS = 250;
const CATALOG_URL = new URL("../api/v1/catalog", import.meta.url);
const CATALOG_EVERY_MS = 5000;
/** A catalog of thousands is megabytes. */
const LARGE_CATALOG = 2000;
const LARGE_CATALOG_EVERY_MS = 60000;
/** A daemon without a catalog may get one later. */
const CATALOG_RETRY_MS = 60000;

const model = new Model();
const details = new Details(model);
const parts = [
  new Head(model),
  new Panels(model),
  new Charts(model),
  new Grid(model, (key) => details.open(key)),
  new WorldMap(model, (key) => details.open(key)),
  details,
  new Forget(model, details),
];

let isDrawPending = false;
/** Draws once for everything that has arrived, and draws nothing while the page is hidden. */
function draw() {
  if (isDrawPending) return;
  isDrawPending = true;
  requestAnimationFrame(() => {
    isDrawPending = false;
    if (model.stats === null) return;
    for (const part of parts) part.draw();
    // For who waits for a moment that is drawn.
    document.body.dataset.drawn = model.stats.time_ms;
  });
}

const take = (name) => (data) => {
  model[name](data);
  draw();
};
const link = new Link({
  stats: take("takeStats"),
  sources: take("takeSources"),
  changes: take("takeChanges"),
});

new Links();
new Outputs(model);

const head = parts[0];
setInterval(() => {
  link.tick();
  head.tick(link);
}, TICK_MS);

async function askCatalog() {
  let next = CATALOG_EVERY_MS;
  if (!link.isStale && !document.hidden) {
    try {
      const answer = await fetch(CATALOG_URL, { headers: { accept: "application/json" } });
      if (answer.ok) {
        model.takeCatalog(await answer.json());
        if (model.catalog.sets.length > LARGE_CATALOG) next = LARGE_CATALOG_EVERY_MS;
      } else {
        model.catalogError = answer.status === 404 ? "none" : `refused with status ${answer.status}`;
        next = CATALOG_RETRY_MS;
      }
      draw();
    } catch {
      // The line is down, and the page says so already.
    }
  } else {
    next = 500;
  }
  setTimeout(askCatalog, next);
}
askCatalog();

document.getElementById("theme").addEventListener("click", () => window.toggleTheme());
document.addEventListener("themechange", draw);
addEventListener("resize", draw);
