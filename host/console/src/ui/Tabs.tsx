/** Two or three views of one thing. */
import * as Radix from "@radix-ui/react-tabs";
import type { ReactNode } from "react";
import css from "./Tabs.module.css";

interface Props {
  label: string;
  value: string;
  onChange: (value: string) => void;
  tabs: { value: string; name: string; content: ReactNode }[];
}

export function Tabs({ label, value, onChange, tabs }: Props) {
  return (
    <Radix.Root value={value} onValueChange={onChange}>
      <Radix.List className={css["tabs"]} aria-label={label}>
        {tabs.map((tab) => (
          <Radix.Trigger key={tab.value} value={tab.value} className={css["tab"]}>
            {tab.name}
          </Radix.Trigger>
        ))}
      </Radix.List>
      {tabs.map((tab) => (
        <Radix.Content key={tab.value} value={tab.value}>
          {tab.content}
        </Radix.Content>
      ))}
    </Radix.Root>
  );
}
