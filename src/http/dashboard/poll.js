// Asks the daemon again and again for what its events do not have.

const EVERY_MS = 2000;

/** Gives each answer of `path` to `take`, while somebody can see the page. */
export function poll(path, take) {
  const url = new URL(`../${path}`, import.meta.url);
  const ask = async () => {
    try {
      const answer = document.hidden ? null : await fetchJson(url);
      if (answer !== null) take(answer);
    } finally {
      setTimeout(ask, EVERY_MS);
    }
  };
  ask();
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
