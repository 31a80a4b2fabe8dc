/** The chosen language, for every component beneath. */
import { createContext, type ReactNode, useCallback, useContext, useMemo, useState } from "react";
import { firstLanguage, keepLanguage, type Language } from "./language";
import { type Dictionary, fill, type Values } from "./words";

interface Chosen {
  language: Language;
  choose: (language: Language) => void;
}

const Context = createContext<Chosen>({ language: "en", choose: () => {} });

export function LanguageProvider({ children }: { children: ReactNode }) {
  const [language, setLanguage] = useState(firstLanguage);
  const choose = useCallback((next: Language) => {
    keepLanguage(next);
    setLanguage(next);
  }, []);
  const chosen = useMemo(() => ({ language, choose }), [language, choose]);
  return <Context.Provider value={chosen}>{children}</Context.Provider>;
}

export function useLanguage(): Chosen {
  return useContext(Context);
}

export type Say<Key extends string> = (key: Key, values?: Values) => string;

/** Says a dictionary's sentences in the chosen language. */
export function useWords<Key extends string>(words: Dictionary<Key>): Say<Key> {
  const { language } = useLanguage();
  return useCallback((key, values = {}) => fill(words[language][key], values, language), [words, language]);
}
