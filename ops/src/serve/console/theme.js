// Before the first paint, so that nobody sees the other theme flash by.
(() => {
  let theme;
  try {
    theme = localStorage.getItem("longhaul.theme");
  } catch {
    // A browser that keeps nothing follows the system.
  }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
})();
