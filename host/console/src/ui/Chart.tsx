/** Lines over time, by uPlot. Colours are those of the states; the key says the words. */
import "uplot/dist/uPlot.min.css";
import { useEffect, useRef } from "react";
import uPlot from "uplot";
import { short } from "../format/number";
import css from "./Chart.module.css";

export interface Series {
  name: string;
  /** A custom property, such as `--handled`. */
  colour: string;
  /** Dash pattern, so that lines differ without colour. */
  dash?: number[];
  /** Null where it is not known: the line has a gap there. */
  values: (number | null)[];
}

interface Props {
  label: string;
  /** Seconds since 1970. */
  times: number[];
  series: Series[];
  height?: number;
}

/** What a custom property comes to now; canvases do not know `light-dark()`. */
function resolve(property: string): string {
  const probe = document.createElement("span");
  probe.style.color = `var(${property})`;
  document.body.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}

function options(props: Props, width: number): uPlot.Options {
  const ink = resolve("--ink-3");
  const line = resolve("--line");
  const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { show: false }, font: "11px system-ui" };
  return {
    width,
    height: props.height ?? 150,
    padding: [8, 8, 0, 0],
    cursor: { y: false, points: { size: 6 } },
    legend: { show: false },
    scales: { y: { range: (_, __, most) => [0, Math.max(4, most * 1.1)] } },
    axes: [
      { ...axis, grid: { show: false }, size: 26, values: "{HH}:{mm}" },
      { ...axis, size: 40, values: (_, ticks) => ticks.map((tick) => (Number.isInteger(tick) ? short(tick) : "")) },
    ],
    series: [
      {},
      ...props.series.map((one) => ({
        label: one.name,
        stroke: resolve(one.colour),
        width: 1.6,
        points: { show: false },
        ...(one.dash ? { dash: one.dash } : {}),
      })),
    ],
  };
}

export function Chart(props: Props) {
  const place = useRef<HTMLDivElement>(null);
  const chart = useRef<uPlot | null>(null);
  const latest = useRef(props);
  latest.current = props;
  const shape = props.series.map((one) => one.colour).join();
  // biome-ignore lint/correctness/useExhaustiveDependencies: another set of lines needs another chart
  useEffect(() => {
    const element = place.current;
    if (!element) return;
    const draw = () => {
      chart.current?.destroy();
      const { times, series } = latest.current;
      const data: uPlot.AlignedData = [times, ...series.map((one) => one.values)];
      chart.current = new uPlot(options(latest.current, element.clientWidth), data, element);
    };
    draw();
    const size = new ResizeObserver(() =>
      chart.current?.setSize({ width: element.clientWidth, height: props.height ?? 150 }),
    );
    size.observe(element);
    // A canvas keeps its colours: draw anew when light turns dark.
    const dark = window.matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", draw);
    const theme = new MutationObserver(draw);
    theme.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    return () => {
      size.disconnect();
      theme.disconnect();
      dark.removeEventListener("change", draw);
      chart.current?.destroy();
      chart.current = null;
    };
  }, [shape]);
  useEffect(() => {
    chart.current?.setData([props.times, ...props.series.map((one) => one.values)]);
  }, [props.times, props.series]);
  return (
    <figure className={css["chart"]} aria-label={props.label}>
      <figcaption className={css["key"]}>
        {props.series.map((one) => (
          <span key={one.name}>
            <i
              className={css["swatch"]}
              style={{ borderColor: `var(${one.colour})`, borderTopStyle: one.dash ? "dashed" : "solid" }}
            />
            {one.name} <b>{one.values.at(-1) == null ? "–" : short(one.values.at(-1) ?? 0)}</b>
          </span>
        ))}
      </figcaption>
      <div ref={place} aria-hidden="true" />
    </figure>
  );
}
