// Asks the daemon again and again for what its events do not have.

const EVERY_MS = 2000;

/** Gives all `kind` ("links", "outputs") to `take`, again and again, while somebody can see the page. */
export function poll(kind, take) {
  const ask = async () => {
    try {
      const all = document.hidden ? null : await fetchAll(kind);
      if (all !== null) take(all);
    } finally {
      setTimeout(ask, EVERY_MS);
    }
  };
  ask();
}

/** All `kind`, page by page, or `null` when the daemon does not answer. */
async function fetchAll(kind) {
  const all = [];
  for (;;) {
    const page = await fetchJson(new URL(`../api/v1/${kind}?offset=${all.length}`, import.meta.url));
    if (page === null) return null;
    all.push(...page[kind]);
    if (page[kind].length === 0 || all.length >= page.total) return all;
  }
}

/** `null` when the daemon does not answer. The head of the page says so already. */
async function fetchJson(url) {
  try {
    const answer = await fetch(url, { headers: { accept: "application/json" } });
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
}
