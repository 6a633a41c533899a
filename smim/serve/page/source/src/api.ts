// What the service is asked, and what it answers: the paths of /v1, by their OpenAPI description.

export interface Hit {
  id: number;
  text: string;
  labels: Record<string, Label>;
  distance: number;
  similarity: number;
  words: string[] | null;
  count: number | null;
  ids: number[] | null;
  code_similarity: number | null;
  word_similarity: number | null;
  reconstruction: string | null;
  score: number | null;
}

export type Label = string | number | boolean | null;
export type Where = Record<string, unknown>;
export type Mode = "dense" | "sparse" | "hybrid";

export interface Query {
  text?: string;
  id?: number;
  line?: { first: string; second: string; at: number };
  sum?: { plus: string[]; minus: string[] };
}

export interface Options {
  k?: number;
  offset?: number;
  where?: Where;
  mode?: Mode;
  fold?: "none" | "text" | "words";
  least_similarity?: number;
  reconstruct?: boolean;
  score?: boolean;
  decode?: boolean;
  literal?: number;
}

export interface SearchResult {
  hits: Hit[];
  decoded: string | null;
  missing: string[];
}

export interface Column {
  name: string;
  kind: "text" | "number" | "boolean" | "other";
  values: { value: string | number | boolean; count: number }[];
  complete: boolean;
  least: number | null;
  greatest: number | null;
}

export interface Overview {
  name: string;
  has_words: boolean;
  is_split: boolean;
  index: { count: number; dimension: number; metric: string; columns: string[]; version: number };
  model: {
    latent_dim: number;
    corpus: string | null;
    has_meaning_part: boolean;
    answers: boolean;
    deterministic: boolean;
    use: {
      perturb_scale: number;
      sample: { prior: boolean; standard_deviation: number };
      literal: { interpolate: number; arithmetic: number; perturb: number; sample: number };
    };
  };
  columns: Column[];
  tries: { searches: string[]; walks: [string, string][]; sum: string[]; questions: string[] };
}

export interface MapView {
  state: "making" | "ready";
  method: string;
  version: number;
  count: number;
  ids: number[];
  x: number[];
  y: number[];
  labels: { column: string; values: string[]; of: number[] }[];
}

// What the service refused, and of which kind: `code` as in docs/serve.md.
export class Refused extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

const KEY = "smim-key";
const TRIES = 4;

export const setKey = (key: string) => sessionStorage.setItem(KEY, key);

async function ask<Answer>(path: string, body?: object, signal?: AbortSignal): Promise<Answer> {
  const headers: Record<string, string> = {};
  const key = sessionStorage.getItem(KEY);
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body) headers["Content-Type"] = "application/json";
  const asked = { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal };
  for (let left = TRIES; ; left--) {
    let response: Response;
    try {
      response = await fetch(`./v1/${path}`, asked);
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new Refused(0, "away", "The service does not answer. Is it still running?");
    }
    if (response.status === 429 && left > 0) {
      const seconds = Number(response.headers.get("Retry-After")) || 1;
      await new Promise((resolve) => setTimeout(resolve, 1000 * Math.min(seconds, 10)));
      continue;
    }
    const answer = await response.json().catch(() => null);
    if (response.ok && answer) return answer;
    const error = answer?.error ?? { code: "internal", message: `The service answered with status ${response.status}.` };
    throw new Refused(response.status, error.code, sentence(error.message));
  }
}

// A message of the service, as a sentence of the page: "body.text: ..." names what the page does not show.
function sentence(message: string): string {
  const told = message.replace(/^body\.(\w+): /, "");
  return told.charAt(0).toUpperCase() + told.slice(1) + (/[.!?]$/.test(told) ? "" : ".");
}

// What an index counts: sentences, or texts that were split into sentences.
export const rows = (about: Overview) => (about.is_split ? "texts" : "sentences");

// How the page searches unless another way is chosen: an index of an older version has no words.
export const usual = (about: Overview): Options => (about.has_words ? { mode: "hybrid", fold: "words" } : {});

export const overview = () => ask<Overview>("overview");
export const map = () => ask<MapView>("map");

export const search = (query: Query, options: Options, signal?: AbortSignal) =>
  ask<SearchResult>("search", { ...query, ...options }, signal);

export const searchAll = async (queries: Query[], options: Options, signal?: AbortSignal) =>
  (await ask<{ results: SearchResult[] }>("search/batch", { queries, ...options }, signal)).results;

export const count = async (where: Where, signal?: AbortSignal) =>
  (await ask<{ count: number }>("count", { where }, signal)).count;

export const get = async (ids: number[], signal?: AbortSignal) =>
  (await ask<{ sentences: Hit[] }>("sentences/get", { ids }, signal)).sentences;

export const place = async (queries: Query[], signal?: AbortSignal) =>
  (await ask<{ places: [number, number][] }>("map/place", { queries }, signal)).places;

type Writing = { seed?: number; literal?: number };

export const interpolate = async (
  body: Writing & { first: string; second: string; steps: number },
  signal?: AbortSignal,
) => (await ask<{ sentences: string[] }>("interpolate", body, signal)).sentences;

export const perturb = async (body: Writing & { text: string; num: number; scale: number }, signal?: AbortSignal) =>
  (await ask<{ sentences: string[] }>("perturb", body, signal)).sentences;

export const sample = async (body: Writing & { num: number; standard_deviation?: number }, signal?: AbortSignal) =>
  (await ask<{ sentences: string[] }>("sample", body, signal)).sentences;

export const answer = async (body: { question: string; num_words: number }, signal?: AbortSignal) =>
  (await ask<{ answer: string }>("answer", body, signal)).answer;
