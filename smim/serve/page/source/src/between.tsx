// The view of walks: two sentences, the stops between their codes, each decoded, with its nearest of the index.

import { useEffect, useId, useState } from "preact/hooks";
import * as api from "./api";
import type { Hit, Overview } from "./api";
import { Literal, Problem, Sentence, shortened, Similarity, useWork } from "./parts";

export const STOPS = 9;

export interface Stop {
  at: number;
  text: string;
  nearest: Hit | null;
}

// The stops of a walk, from the first sentence to the second.
export async function walk(first: string, second: string, literal: number | undefined, signal: AbortSignal) {
  const places = [...Array(STOPS).keys()].map((stop) => stop / (STOPS - 1));
  const [texts, found] = await Promise.all([
    api.interpolate({ first, second, steps: STOPS, literal }, signal),
    api.searchAll(places.map((at) => ({ line: { first, second, at } })), { k: 1 }, signal),
  ]);
  return places.map((at, stop): Stop => ({ at, text: texts[stop], nearest: found[stop].hits[0] ?? null }));
}

export function Between(props: { about: Overview; ends: [string, string]; setEnds: (ends: [string, string]) => void }) {
  const { model, tries } = props.about;
  const [[first, second], setEnds] = [props.ends, props.setEnds];
  const [literal, setLiteral] = useState(model.use.literal.interpolate);
  const [stops, setStops] = useState<Stop[]>([]);
  const [at, setAt] = useState((STOPS - 1) / 2);
  const work = useWork();
  const ids = { stops: useId(), problem: useId() };

  const go = () =>
    work.run(async (signal) => setStops(await walk(first, second, model.has_meaning_part ? literal : undefined, signal)));
  useEffect(() => {
    const later = setTimeout(() => (first || second) && go(), stops.length ? 250 : 0);
    return () => clearTimeout(later);
  }, [literal, props.ends[0] + "\0" + props.ends[1]]);

  const [typed, setTyped] = useState(props.ends);
  useEffect(() => setTyped(props.ends), [first, second]);
  const submit = (event: Event) => {
    event.preventDefault();
    if (typed[0] === first && typed[1] === second) go();
    else setEnds(typed);
  };
  const here = stops[at];
  return (
    <>
      <p class="lead">
        The codes of two sentences are two points. Each stop between them is a code too, and reads as a sentence.
      </p>
      <form class="ends" onSubmit={submit}>
        {(["From", "To"] as const).map((name, end) => (
          <label>
            {name}
            <input
              value={typed[end]}
              autocomplete="off"
              aria-describedby={ids.problem}
              onInput={(event) => {
                const next: [string, string] = [...typed];
                next[end] = event.currentTarget.value;
                setTyped(next);
              }}
            />
          </label>
        ))}
        <button type="submit" class="main">
          Walk
        </button>
      </form>
      <Problem id={ids.problem} error={work.error} />
      {tries.walks.length > 0 && (
        <div class="chips">
          <span class="muted">Try</span>
          <div class="scroll" role="group" aria-label="Walks to try">
            {tries.walks.map((ends) => (
              <button type="button" class="chip" onClick={() => setEnds(ends)}>
                {shortened(ends[0], 40)} → {shortened(ends[1], 40)}
              </button>
            ))}
          </div>
        </div>
      )}
      {model.has_meaning_part && <Literal value={literal} set={setLiteral} />}
      {here && (
        <section class={work.busy ? "results busy" : "results"} aria-label="The walk">
          <div class="here" aria-live="polite">
            <p class="sentence">
              <Sentence text={here.text} />
            </p>
            {here.nearest && (
              <p class="muted">
                Nearest in the index: <Sentence text={here.nearest.text} /> <Similarity value={here.nearest.similarity} />
              </p>
            )}
          </div>
          <label class="slider way">
            <span class="unseen">Stop on the way</span>
            <input
              type="range"
              min={0}
              max={STOPS - 1}
              step={1}
              value={at}
              list={ids.stops}
              aria-valuetext={here.text}
              onInput={(event) => setAt(Number(event.currentTarget.value))}
            />
            <datalist id={ids.stops}>
              {stops.map((_, stop) => (
                <option value={stop} />
              ))}
            </datalist>
          </label>
          <ol class="stops">
            {stops.map((stop, number) => (
              <li class={number === at ? "on" : ""}>
                <button type="button" class="stop" onClick={() => setAt(number)} aria-pressed={number === at}>
                  <span class="muted at">{percent(stop.at)}</span>
                  <span class="sentence">
                    <Sentence text={stop.text} />
                  </span>
                  {stop.nearest && <span class="muted near">≈ {stop.nearest.text}</span>}
                </button>
              </li>
            ))}
          </ol>
        </section>
      )}
    </>
  );
}

const percent = (at: number) => `${Math.round(100 * at)} %`;
