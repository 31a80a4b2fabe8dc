// Runs before the first paint, so that a page chosen to be dark never flashes
// white. A file of its own: the host's policy allows no inline script.
try {
  const theme = localStorage.getItem("courier.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  const language = localStorage.getItem("courier.language");
  if (language) document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
} catch {
  // A browser that keeps nothing shows what the system prefers.
}
