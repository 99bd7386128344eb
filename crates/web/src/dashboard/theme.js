// Runs before the first paint, so that the page does not flash in the wrong theme.
(() => {
  const KEY = "telemetry-aggregator.theme";
  const read = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // storage is forbidden: the switch works until the page is closed
    }
  };
  const system = matchMedia("(prefers-color-scheme: light)");
  let chosen = read();
  const apply = () => {
    const theme = chosen ?? (system.matches ? "light" : "dark");
    document.documentElement.dataset.theme = theme;
    document.dispatchEvent(new CustomEvent("themechange", { detail: theme }));
  };
  system.addEventListener("change", apply);
  window.toggleTheme = () => {
    chosen = document.documentElement.dataset.theme === "light" ? "dark" : "light";
    try {
      localStorage.setItem(KEY, chosen);
    } catch {
      // as above
    }
    apply();
  };
  apply();
})();
