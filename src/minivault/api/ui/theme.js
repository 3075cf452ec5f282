// Runs before the first paint, so that a chosen theme never flashes. Knows nothing of the page.
try {
  const chosen = localStorage.getItem("minivault.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // Storage may be forbidden; the system's theme is then the one.
}
