// The view of searches: a sentence or words, filters, the hits page by page, and more like any of them.

import { useEffect, useId, useState } from "preact/hooks";
import * as api from "./api";
import type { Hit, Mode, Overview, Where } from "./api";
import { described, Filters, whereOf, type Condition } from "./filters";
import { Chips, Choice, Problem, Sentence, shortened, Similarity, Slider, useWork } from "./parts";

const MODES: { value: Mode; name: string; about: string }[] = [
  { value: "hybrid", name: "Both", about: "By codes and by words together" },
  { value: "dense", name: "Codes", about: "By codes alone: what the sentences say" },
  { value: "sparse", name: "Words", about: "By words alone (BM25)" },
];
const CAPTIONED = 80;

interface Asked {
  query: api.Query;
  text: string;
  offset: number;
}

interface Found {
  asked: Asked;
  hits: Hit[];
  further: boolean;
  missing: string[];
  decoded: string | null;
  passing: number | null;
}

export function Search(props: {
  about: Overview;
  text: string;
  setText: (text: string) => void;
  walk: (text: string) => void;
  searched: (text: string) => void;
}) {
  const { about, text } = props;
  const [asked, setAsked] = useState<Asked | null>(null);
  const [mode, setMode] = useState<Mode>(about.has_words ? "hybrid" : "dense");
  const [conditions, setConditions] = useState<Condition[]>([]);
  const [own, setOwn] = useState<Where | null>(null); // a filter that was written as JSON
  const [filtering, setFiltering] = useState(false);
  const [size, setSize] = useState(10);
  const [least, setLeast] = useState(0);
  const [details, setDetails] = useState(false);
  const [decoding, setDecoding] = useState(false);
  const [found, setFound] = useState<Found | null>(null);
  const work = useWork();
  const ids = { box: useId(), problem: useId() };
  const where = own ?? whereOf(conditions);

  const ask = (query: api.Query, text: string) => {
    setAsked({ query, text, offset: 0 });
    props.searched(text);
  };

  useEffect(() => {
    if (text) ask({ text }, text);
  }, []);

  useEffect(() => {
    if (!asked) return;
    work.run(async (signal) => {
      const options: api.Options = { ...api.usual(about), k: size + 1, offset: asked.offset, mode };
      if (where) options.where = where;
      if (least) options.least_similarity = least / 100;
      if (decoding) Object.assign(options, { reconstruct: true, decode: mode !== "sparse" });
      const [result, passing] = await Promise.all([
        api.search(asked.query, options, signal),
        where ? api.count(where, signal) : null,
      ]);
      setFound({ ...result, asked, hits: result.hits.slice(0, size), further: result.hits.length > size, passing });
    });
  }, [asked, mode, where && JSON.stringify(where), size, least, decoding]);

  const submit = (event: Event) => {
    event.preventDefault();
    ask({ text }, text);
  };
  const pick = (text: string) => {
    props.setText(text);
    ask({ text }, text);
  };
  const ofFilter = work.error?.code === "bad_filter" ? work.error : null;
  return (
    <>
      <form class="searchbox" role="search" onSubmit={submit}>
        <label class="unseen" for={ids.box}>
          What to search for
        </label>
        <input
          id={ids.box}
          type="search"
          value={text}
          placeholder="A sentence, or words"
          autocomplete="off"
          aria-describedby={ids.problem}
          onInput={(event) => props.setText(event.currentTarget.value)}
        />
        <button type="submit" class="main">
          Search
        </button>
      </form>
      <Problem id={ids.problem} error={ofFilter ? null : work.error} />
      <Chips label="Try" texts={about.tries.searches} pick={pick} />
      <div class="toolbar">
        {about.has_words ? (
          <Choice label="What is compared" name="mode" value={mode} values={MODES} choose={setMode} />
        ) : (
          <small class="muted">An index of an older version: `smim index compact` adds the search by words.</small>
        )}
        <button type="button" aria-expanded={filtering} onClick={() => setFiltering(!filtering)}>
          Filter
        </button>
        <div class="conditions">
          {own && (
            <button type="button" class="chip on" onClick={() => setOwn(null)} aria-label="Remove the filter">
              {shortened(JSON.stringify(own), 40)} <span aria-hidden="true">×</span>
            </button>
          )}
          {!own &&
            conditions.map((each) => (
              <button
                type="button"
                class="chip on"
                aria-label={`Remove ${described(each, about.columns)}`}
                onClick={() => setConditions(conditions.filter((other) => other !== each))}
              >
                {described(each, about.columns)} <span aria-hidden="true">×</span>
              </button>
            ))}
        </div>
      </div>
      {filtering && (
        <>
          <Filters
            columns={about.columns}
            rows={api.rows(about)}
            conditions={conditions}
            where={where}
            error={ofFilter}
            setConditions={(next) => (setOwn(null), setConditions(next))}
            setWhere={setOwn}
          />
          <section class="panel row" aria-label="Options">
            <Slider label="Hits a page" least={1} most={50} step={1} value={size} set={setSize} />
            <Slider label="Least similarity, %" least={0} most={100} step={5} value={least} set={setLeast} />
            <label class="tick">
              <input type="checkbox" checked={details} onChange={() => setDetails(!details)} /> Ids and numbers
            </label>
            <label class="tick">
              <input type="checkbox" checked={decoding} onChange={() => setDecoding(!decoding)} /> What codes decode to
            </label>
          </section>
        </>
      )}
      {!filtering && <Problem error={ofFilter} />}
      {found && (
        <Results
          found={found}
          about={about}
          details={details}
          busy={work.busy}
          turn={(offset) => setAsked({ ...found.asked, offset })}
          like={(hit) => (props.setText(hit.text), ask({ id: hit.id }, hit.text))}
          walk={props.walk}
          narrow={(column, value) => (setOwn(null), setConditions([...conditions, { column, operator: "$eq", value }]))}
          size={size}
        />
      )}
    </>
  );
}

function Results(props: {
  found: Found;
  about: Overview;
  details: boolean;
  busy: boolean;
  size: number;
  turn: (offset: number) => void;
  like: (hit: Hit) => void;
  walk: (text: string) => void;
  narrow: (column: string, value: string | number | boolean) => void;
}) {
  const { found, about, size } = props;
  const { asked, hits } = found;
  const of = found.passing === null ? about.index.count : found.passing;
  const counted = api.rows(about) + (found.passing === null ? "" : " that pass the filter");
  const named = `“${shortened(asked.text, CAPTIONED)}”`;
  const first = asked.offset + 1;
  return (
    <section class={props.busy ? "results busy" : "results"} aria-label="Hits">
      <p class="muted caption" role="status">
        {asked.query.id === undefined ? "Nearest to " : "More like "}
        {named}: {hits.length ? `${first} to ${asked.offset + hits.length}` : "none"} of {of.toLocaleString("en")}{" "}
        {counted}
      </p>
      {found.missing.length > 0 && (
        <p class="problem" role="alert">
          Parts of the index did not answer, hits may be missing: {found.missing.join(", ")}
        </p>
      )}
      {found.decoded !== null && (
        <p class="decoded">
          <small class="muted">The query, decoded from its code</small>
          <Sentence text={found.decoded} />
        </p>
      )}
      <ol class="hits" start={first}>
        {hits.map((hit, place) => (
          <li key={hit.id}>
            <span class="rank muted">{first + place}</span>
            <div>
              <p class="sentence">
                <Sentence text={hit.text} words={hit.words} />
              </p>
              {hit.reconstruction !== null && (
                <p class="reconstruction muted">
                  decodes as “<Sentence text={hit.reconstruction} />”
                </p>
              )}
              <div class="meta">
                <Similarity value={hit.similarity} />
                {(hit.count ?? 1) > 1 && <span class="times">{hit.count!.toLocaleString("en")} times</span>}
                <Labels hit={hit} about={about} details={props.details} narrow={props.narrow} />
                {props.details && <Details hit={hit} />}
                <span class="actions">
                  <button type="button" class="quiet" onClick={() => props.like(hit)}>
                    More like it
                  </button>
                  <button type="button" class="quiet" onClick={() => props.walk(hit.text)}>
                    Walk to it
                  </button>
                </span>
              </div>
            </div>
          </li>
        ))}
      </ol>
      <nav class="pages" aria-label="Pages of hits">
        <button type="button" disabled={!asked.offset} onClick={() => props.turn(Math.max(0, asked.offset - size))}>
          Previous
        </button>
        <button type="button" disabled={!found.further} onClick={() => props.turn(asked.offset + size)}>
          Next
        </button>
      </nav>
    </section>
  );
}

// Labels of words as chips, which filter; numbers are among the details.
function Labels(props: {
  hit: Hit;
  about: Overview;
  details: boolean;
  narrow: (column: string, value: string | number | boolean) => void;
}) {
  const shown = props.about.columns.filter(({ kind }) => kind === "text" || kind === "boolean");
  return (
    <>
      {shown.map(({ name }) => {
        const value = props.hit.labels[name];
        if (value === null || value === undefined || value === "") return null;
        return (
          <button
            type="button"
            class="chip small"
            title={`Only those whose ${name} is this`}
            onClick={() => props.narrow(name, value)}
          >
            <span class="unseen">Filter by {name}: </span>
            {shortened(String(value), 40)}
          </button>
        );
      })}
    </>
  );
}

function Details({ hit }: { hit: Hit }) {
  const numbers = Object.entries(hit.labels).filter(([, value]) => typeof value === "number");
  const parts = [`id ${hit.id}`, `distance ${hit.distance.toFixed(4)}`];
  if (hit.code_similarity !== null) parts.push(`codes ${hit.code_similarity.toFixed(2)}`);
  if (hit.word_similarity !== null) parts.push(`words ${hit.word_similarity.toFixed(2)}`);
  return <span class="muted numbers">{[...parts, ...numbers.map(([name, value]) => `${name} ${value}`)].join(" · ")}</span>;
}
