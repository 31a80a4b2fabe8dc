/** How far something is, in parts. */
import css from "./Meter.module.css";

interface Props {
  label: string;
  all: number;
  parts: { colour: string; value: number }[];
}

export function Meter({ label, all, parts }: Props) {
  const done = parts.reduce((sum, part) => sum + part.value, 0);
  return (
    <div
      className={css["meter"]}
      role="progressbar"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={all}
      aria-valuenow={done}
    >
      {parts.map((part) => (
        <i
          key={part.colour}
          style={{ width: `${all === 0 ? 0 : (part.value / all) * 100}%`, background: `var(${part.colour})` }}
        />
      ))}
    </div>
  );
}
