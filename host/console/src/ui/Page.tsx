/** The frame of a page: its title, one line about it, and what can be done. */
import { Fragment, type ReactNode, useEffect } from "react";
import css from "./Page.module.css";

interface Props {
  title: string;
  /** The title as shown, when it is more than text. */
  heading?: ReactNode;
  lead?: ReactNode;
  actions?: ReactNode;
  children: ReactNode;
}

export function Page({ title, heading, lead, actions, children }: Props) {
  useEffect(() => {
    document.title = `${title} · Courier`;
  }, [title]);
  return (
    <main className={css["page"]} id="main">
      <header className={css["head"]}>
        <div className={css["title"]}>
          <h1>{heading ?? title}</h1>
          {lead && <p className={css["lead"]}>{lead}</p>}
        </div>
        {actions && <div className={css["actions"]}>{actions}</div>}
      </header>
      {children}
    </main>
  );
}

export function Section({ title, aside, children }: { title: string; aside?: ReactNode; children: ReactNode }) {
  return (
    <section className={css["section"]} aria-label={title}>
      <div className={css["sectionHead"]}>
        <h2>{title}</h2>
        {aside}
      </div>
      {children}
    </section>
  );
}

export function Facts({ of }: { of: [name: string, value: ReactNode][] }) {
  return (
    <dl className={css["facts"]}>
      {of.map(([name, value]) => (
        <Fragment key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </Fragment>
      ))}
    </dl>
  );
}
