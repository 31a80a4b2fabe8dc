import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

// Where `npm run dev` finds a host, for example one of `courier dev`.
const host = process.env["COURIER_SERVER"] ?? "http://127.0.0.1:7070";

export default defineConfig({
  plugins: [react()],
  server: {
    // Without tokens the host answers only requests that are addressed to this
    // machine, and only its own pages.
    proxy: Object.fromEntries(
      ["/v1", "/readyz", "/healthz", "/openapi.json"].map((path) => [
        path,
        { target: host, changeOrigin: true, headers: { origin: new URL(host).origin } },
      ]),
    ),
  },
  build: {
    target: "es2023",
    cssTarget: ["chrome123", "firefox121", "safari17.5"],
    // The Content-Security-Policy of the host allows files of the host alone:
    // nothing may become a data: URL or an inline script.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 400,
  },
  test: { include: ["src/**/*.test.ts"], environment: "node" },
});
