/** Light or dark. `public/theme.js` applies the choice before the first paint. */

export type Theme = "auto" | "light" | "dark";
const KEPT = "courier.theme";

export function theme(): Theme {
  const kept = localStorage.getItem(KEPT);
  return kept === "light" || kept === "dark" ? kept : "auto";
}

export function chooseTheme(next: Theme): Theme {
  if (next === "auto") {
    localStorage.removeItem(KEPT);
    delete document.documentElement.dataset["theme"];
  } else {
    localStorage.setItem(KEPT, next);
    document.documentElement.dataset["theme"] = next;
  }
  return next;
}
