// The pieces that every view is made of. Texts of users and corpora are text nodes only, never markup.

import type { ComponentChildren } from "preact";
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { Refused } from "./api";

const PART = /[\p{L}\p{N}_]+/gu; // a word as the index knows it
const WORD = /[\p{L}\p{N}_]+(?:['’][\p{L}\p{N}_]+)*/gu; // and as it is read: couldn't

export const normal = (text: string) => text.normalize("NFKC").toLowerCase();

export const percent = (similarity: number) => `${Math.round(100 * similarity)} %`;

export const shortened = (text: string, letters: number) =>
  text.length <= letters ? text : `${text.slice(0, letters - 1)}…`;

// A sentence in which the given words are marked.
export function Sentence({ text, words = [] }: { text: string; words?: string[] | null }) {
  if (!text.trim()) return <em class="muted">no words</em>;
  const wanted = new Set(words);
  const parts: ComponentChildren[] = [];
  let end = 0;
  for (const found of text.matchAll(WORD)) {
    if (!found[0].match(PART)!.every((part) => wanted.has(normal(part)))) continue;
    parts.push(text.slice(end, found.index), <mark>{found[0]}</mark>);
    end = found.index + found[0].length;
  }
  parts.push(text.slice(end));
  return <>{parts}</>;
}

// How alike, 0 to 1, as a bar and as a number.
export function Similarity({ value }: { value: number }) {
  return (
    <span class="similarity" title="How alike, from 0 to 100 %">
      <span class="bar" aria-hidden="true">
        <span style={{ width: `${100 * value}%` }} />
      </span>
      {percent(value)}
      <span class="unseen"> alike</span>
    </span>
  );
}

export function Problem({ error, id }: { error: Refused | null; id?: string }) {
  return (
    <p class="problem" role="alert" id={id} hidden={!error}>
      {error?.message}
    </p>
  );
}

export function Chips({ label, texts, pick }: { label: string; texts: string[]; pick: (text: string) => void }) {
  if (!texts.length) return null;
  return (
    <div class="chips">
      <span class="muted" id="chips-label">
        {label}
      </span>
      <div class="scroll" role="group" aria-labelledby="chips-label">
        {texts.map((text) => (
          <button type="button" class="chip" onClick={() => pick(text)}>
            {text}
          </button>
        ))}
      </div>
    </div>
  );
}

// A choice among a few, of which one is always chosen.
export function Choice<Value extends string>(props: {
  label: string;
  name: string;
  value: Value;
  values: { value: Value; name: string; about?: string }[];
  choose: (value: Value) => void;
}) {
  return (
    <fieldset class="choice">
      <legend class="unseen">{props.label}</legend>
      {props.values.map(({ value, name, about }) => (
        <label title={about}>
          <input type="radio" name={props.name} checked={value === props.value} onChange={() => props.choose(value)} />
          <span>{name}</span>
        </label>
      ))}
    </fieldset>
  );
}

export function Slider(props: {
  label: string;
  value: number;
  least: number;
  most: number;
  step: number;
  set: (value: number) => void;
  low?: string;
  high?: string;
}) {
  return (
    <label class="slider">
      <span>
        {props.label} <b>{props.value}</b>
      </span>
      <span class="track">
        {props.low && <small class="muted">{props.low}</small>}
        <input
          type="range"
          min={props.least}
          max={props.most}
          step={props.step}
          value={props.value}
          onInput={(event) => props.set(Number(event.currentTarget.value))}
        />
        {props.high && <small class="muted">{props.high}</small>}
      </span>
    </label>
  );
}

// How literally codes are decoded, where the model can do otherwise than word for word.
export const Literal = ({ value, set }: { value: number; set: (value: number) => void }) => (
  <Slider label="Literal" low="its meaning" high="word for word" least={0} most={1} step={0.05} value={value} set={set} />
);

// Work that a newer one takes the place of: what it is doing, and how it failed.
export function useWork() {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<Refused | null>(null);
  const running = useRef<AbortController | null>(null);
  useEffect(() => () => running.current?.abort(), []);
  const run = useCallback(async (work: (signal: AbortSignal) => Promise<void>) => {
    running.current?.abort();
    const own = (running.current = new AbortController());
    setBusy(true);
    try {
      await work(own.signal);
      if (running.current === own) setError(null);
    } catch (failed) {
      if (own.signal.aborted) return;
      if (!(failed instanceof Refused)) throw failed;
      setError(failed);
    } finally {
      if (running.current === own) setBusy(false);
    }
  }, []);
  return { busy, error, run };
}
