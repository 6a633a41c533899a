// The view of the map: sentences as points of the plane, hits and walks drawn over them, and a list for the keyboard.

import Graph from "graphology";
import KDBush from "kdbush";
import { useCallback, useEffect, useId, useMemo, useRef, useState } from "preact/hooks";
import Sigma from "sigma";
import { NodePointProgram } from "sigma/rendering";
import * as api from "./api";
import type { Hit, MapView as Laid, Overview } from "./api";
import { walk, type Stop } from "./between";
import { labelPlaces, Overlay, type Mark } from "./overlay";
import { Choice, Problem, Sentence, shortened, useWork } from "./parts";

const COLOURS = [
  ...["#4e79a7", "#f28e2b", "#59a14f", "#b07aa1", "#e15759", "#76b7b2", "#c9a400", "#9c755f", "#ff9da7", "#6b8f23"],
  ...["#8cd17d", "#d37295"],
];
const OTHER = "#8a8f98";
const LISTED = 12;
const HITS = 10;
const MANY = 4000; // points, which are drawn smaller
const REACH = 8; // pixels from the pointer to a point
const POLL_MS = 4000;
const SETTLED_MS = 200;

type Point = { number: number; id: number; text: string };

// Points by their places. Sigma would read what is under the pointer back from the GPU at each move, and wait for it.
class Places {
  private readonly tree: KDBush;

  constructor(private readonly laid: Laid) {
    this.tree = new KDBush(laid.ids.length);
    laid.ids.forEach((_, number) => this.tree.add(laid.x[number], laid.y[number]));
    this.tree.finish();
  }

  // The numbers of the nearest points, at most so many, no farther than `radius`.
  nearest({ x, y }: { x: number; y: number }, most: number, radius: number): number[] {
    const far = (number: number) => (this.laid.x[number] - x) ** 2 + (this.laid.y[number] - y) ** 2;
    const within = this.tree.within(x, y, radius);
    return within.sort((one, other) => far(one) - far(other)).slice(0, most);
  }
}

function pickBy(view: Sigma, places: Places) {
  const pick = (at: { x: number; y: number }) => {
    const here = view.viewportToGraph(at);
    const beside = view.viewportToGraph({ x: at.x + REACH, y: at.y });
    const [nearest] = places.nearest(here, 1, Math.hypot(beside.x - here.x, beside.y - here.y));
    return nearest === undefined ? null : String(nearest);
  };
  (view as unknown as { getNodeAtPosition: typeof pick }).getNodeAtPosition = pick;
}

// The texts of points, asked for once each.
function useTexts(laid: Laid | null) {
  const known = useRef(new Map<number, string>());
  return useCallback(
    async (numbers: number[], signal?: AbortSignal): Promise<Point[]> => {
      const ids = numbers.map((number) => laid!.ids[number]);
      const lacking = ids.filter((id) => !known.current.has(id));
      if (lacking.length)
        for (const each of await api.get(lacking, signal)) known.current.set(each.id, each.text);
      return numbers.map((number, place) => ({ number, id: ids[place], text: known.current.get(ids[place]) ?? "" }));
    },
    [laid],
  );
}

type Hand = "move" | "walk";
const HANDS: { value: Hand; name: string; about: string }[] = [
  { value: "move", name: "Move", about: "Drag moves the map, a click reads a point" },
  { value: "walk", name: "Walk", about: "Drag from one point to another walks between them" },
];

export function MapView(props: { about: Overview; text: string; walk: (first: string, second: string) => void }) {
  const [laid, setLaid] = useState<Laid | null>(null);
  const [text, setText] = useState(props.text);
  const loading = useWork();
  const load = () => loading.run(async () => setLaid(await api.map()));
  useEffect(() => {
    load();
  }, []);
  useEffect(() => {
    if (laid?.state !== "making") return;
    const later = setInterval(
      () => api.map().then((next) => next.state !== laid.state && setLaid(next), () => undefined),
      POLL_MS,
    );
    return () => clearInterval(later);
  }, [laid]);
  if (!laid) return loading.error ? <Problem error={loading.error} /> : <p class="muted">Drawing the map…</p>;
  return <Drawn {...props} laid={laid} text={text} setText={setText} key={laid.state} />;
}

function Drawn(props: {
  about: Overview;
  laid: Laid;
  text: string;
  setText: (text: string) => void;
  walk: (first: string, second: string) => void;
}) {
  const { about, laid, text, setText } = props;
  const [column, setColumn] = useState(laid.labels[0]?.column ?? "");
  const [hand, setHand] = useState<Hand>("move");
  const held = useRef(hand); // for the map's own events
  held.current = hand;
  const [hits, setHits] = useState<{ hit: Hit; at: [number, number] }[]>([]);
  const [listed, setListed] = useState<Point[]>([]);
  const [from, setFrom] = useState<string | null>(null);
  const [read, setRead] = useState<Point | null>(null);
  const [way, setWay] = useState<{ ends: [string, string]; stops: Stop[] } | null>(null);
  const box = useRef<HTMLDivElement>(null);
  const sigma = useRef<Sigma | null>(null);
  const overlay = useRef<Overlay | null>(null);
  const [broken, setBroken] = useState(false);
  const searching = useWork();
  const walking = useWork();
  const texts = useTexts(laid);
  const places = useMemo(() => new Places(laid), [laid]);
  const ids = { problem: useId(), keys: useId() };
  const labels = laid.labels.find((each) => each.column === column);

  const go = (ends: [string, string]) =>
    walking.run(async (signal) => {
      const literal = about.model.has_meaning_part ? about.model.use.literal.interpolate : undefined;
      const [first, second] = ends;
      const stops = await walk(first, second, literal, signal);
      const places = await api.place(stops.map(({ at }) => ({ line: { first, second, at } })), signal);
      setWay({ ends, stops });
      overlay.current?.showWay(places);
    });

  const search = (wanted: string) =>
    searching.run(async (signal) => {
      const { hits } = await api.search({ text: wanted }, { ...api.usual(about), k: HITS }, signal);
      const [query, ...found] = await api.place([{ text: wanted }, ...hits.map(({ id }) => ({ id }))], signal);
      setHits(hits.map((hit, place) => ({ hit, at: found[place] })));
      const marks: Mark[] = found.map((at, place) => ({ at, name: String(place + 1) }));
      overlay.current?.showHits(query, marks);
    });

  // The points nearest to the middle of what is seen, for the list.
  const list = useCallback(async () => {
    const view = sigma.current;
    let middle = { x: 0.5, y: 0.5 };
    if (view) {
      const { width, height } = view.getDimensions();
      middle = view.viewportToGraph({ x: width / 2, y: height / 2 });
    }
    let nearest: number[] = [];
    for (let radius = 0.02; nearest.length < Math.min(LISTED, laid.ids.length) && radius < 4; radius *= 2)
      nearest = places.nearest(middle, LISTED, radius);
    setListed(await texts(nearest).catch(() => []));
  }, [laid]);

  useEffect(() => {
    const graph = new Graph();
    const size = laid.ids.length > MANY ? 2 : 3;
    laid.ids.forEach((_, number) => graph.addNode(number, { x: laid.x[number], y: laid.y[number], size, color: OTHER }));
    let view: Sigma;
    try {
      view = new Sigma(graph, box.current!, {
        renderLabels: false,
        nodeProgramClasses: { circle: NodePointProgram },
        minCameraRatio: 0.01,
        maxCameraRatio: 1.5,
        stagePadding: 24,
      });
    } catch {
      setBroken(true);
      list();
      return;
    }
    sigma.current = view;
    pickBy(view, places);
    const over = (overlay.current = new Overlay(view));
    let hovered = -1;
    let dragged = -1;
    view.on("enterNode", ({ node }) => {
      hovered = Number(node);
      texts([hovered]).then(([point]) => hovered === point.number && over.tip(point.number, point.text), () => undefined);
    });
    view.on("leaveNode", () => {
      hovered = -1;
      over.tip(-1, "");
    });
    view.on("clickNode", ({ node }) => {
      if (held.current === "move") texts([Number(node)]).then(([point]) => setRead(point), () => undefined);
    });
    view.on("downNode", ({ node, preventSigmaDefault }) => {
      if (held.current !== "walk") return;
      preventSigmaDefault();
      dragged = Number(node);
    });
    view.on("moveBody", ({ event, preventSigmaDefault }) => {
      if (dragged < 0) return;
      preventSigmaDefault(); // the map stays where it is
      over.rubber(dragged, event);
    });
    const dropped = async (target: number) => {
      const source = dragged;
      dragged = -1;
      over.rubber(-1);
      if (source < 0 || target < 0 || source === target) return;
      const [first, second] = await texts([source, target]);
      go([first.text, second.text]);
    };
    view.on("upNode", ({ node }) => void dropped(Number(node)));
    view.on("upStage", () => void dropped(-1));
    let later = 0;
    const settle = () => {
      clearTimeout(later);
      later = window.setTimeout(list, SETTLED_MS);
    };
    view.getCamera().on("updated", settle);
    settle();
    search(text);
    return () => {
      clearTimeout(later);
      over.remove();
      view.kill();
      sigma.current = null;
    };
  }, [laid]);

  const colours = useMemo(() => COLOURS.slice(0, labels?.values.length ?? 0), [labels]);
  useEffect(() => {
    const of = (number: number) => colours[labels?.of[number] ?? -1] ?? (labels ? OTHER : COLOURS[0]);
    sigma.current?.getGraph().updateEachNodeAttributes((node, known) => ({ ...known, color: of(Number(node)) }), {
      attributes: ["color"],
    });
    overlay.current?.showLabels(labels ? labelPlaces(laid, labels) : []);
  }, [labels, laid]);

  const keys = (event: KeyboardEvent) => {
    const camera = sigma.current?.getCamera();
    if (!camera) return;
    const step = 0.15 * camera.ratio;
    const moves: Record<string, () => void> = {
      ArrowLeft: () => camera.setState({ x: camera.x - step }),
      ArrowRight: () => camera.setState({ x: camera.x + step }),
      ArrowUp: () => camera.setState({ y: camera.y + step }),
      ArrowDown: () => camera.setState({ y: camera.y - step }),
      "+": () => void camera.animatedZoom({ duration: 150 }),
      "=": () => void camera.animatedZoom({ duration: 150 }),
      "-": () => void camera.animatedUnzoom({ duration: 150 }),
      "0": () => void camera.animatedReset({ duration: 150 }),
    };
    if (!(event.key in moves)) return;
    event.preventDefault();
    moves[event.key]();
  };

  const ends = (point: { text: string }) => (
    <span class="actions">
      {from === null || from === point.text ? (
        <button type="button" class="quiet" onClick={() => setFrom(point.text)} aria-pressed={from === point.text}>
          Walk from it
        </button>
      ) : (
        <button type="button" class="quiet" onClick={() => (go([from, point.text]), setFrom(null))}>
          Walk to it
        </button>
      )}
    </span>
  );
  const all = laid.ids.length >= laid.count;
  return (
    <>
      <form class="searchbox" role="search" onSubmit={(event) => (event.preventDefault(), search(text))}>
        <input
          type="search"
          aria-label="What to mark on the map"
          aria-describedby={ids.problem}
          value={text}
          autocomplete="off"
          onInput={(event) => setText(event.currentTarget.value)}
        />
        <button type="submit" class="main">
          Mark
        </button>
      </form>
      <Problem id={ids.problem} error={searching.error ?? walking.error} />
      <p class="muted" id={ids.keys}>
        {laid.state === "making" && <strong>A plain map for now; a better one takes a few minutes. </strong>}A point is a
        sentence: {all ? "all" : `${laid.ids.length.toLocaleString("en")} of ${laid.count.toLocaleString("en")}`}, laid out
        by {laid.method === "PCA" ? "two principal components" : "t-SNE: near ones are alike, far distances say little"}.
        <span class="unseen"> Arrow keys move, plus and minus zoom, 0 shows all; the list holds the points in the middle.</span>
      </p>
      <div class="toolbar">
        {!broken && <Choice label="What dragging does" name="hand" value={hand} values={HANDS} choose={setHand} />}
        {laid.labels.length > 0 && (
          <label class="tick">
            Colour by{" "}
            <select value={column} onChange={(event) => setColumn(event.currentTarget.value)}>
              {laid.labels.map((each) => (
                <option>{each.column}</option>
              ))}
            </select>
          </label>
        )}
        {labels && (
          <ul class="legend">
            {colours.map((colour, number) => (
              <li>
                <span class="dot" style={{ background: colour }} /> {labels.values[number]}
              </li>
            ))}
          </ul>
        )}
      </div>
      <div class="mapping">
        {broken ? (
          <p class="problem" role="alert">
            This browser has no WebGL, which the map is drawn with. The list shows its sentences.
          </p>
        ) : (
          <div
            ref={box}
            class="map"
            role="application"
            tabIndex={0}
            aria-label={`Map of ${laid.ids.length} sentences`}
            aria-describedby={ids.keys}
            onKeyDown={keys}
          />
        )}
        <aside aria-label="Sentences of the map">
          {read && (
            <div class="here">
              <p class="sentence">
                <Sentence text={read.text} />
              </p>
              <span class="actions">
                <button type="button" class="quiet" onClick={() => (setText(read.text), search(read.text))}>
                  Mark its nearest
                </button>
              </span>
              {ends(read)}
            </div>
          )}
          {way && (
            <>
              <h2>Between</h2>
              <ol class="near">
                {way.stops.map((stop) => (
                  <li>
                    <Sentence text={stop.text} />
                  </li>
                ))}
              </ol>
              <span class="actions">
                <button type="button" class="quiet" onClick={() => props.walk(...way.ends)}>
                  Open this walk
                </button>
                <button type="button" class="quiet" onClick={() => (setWay(null), overlay.current?.showWay([]))}>
                  Clear
                </button>
              </span>
            </>
          )}
          {hits.length > 0 && (
            <>
              <h2>Hits</h2>
              <ol class="near">
                {hits.map(({ hit }) => (
                  <li>
                    <Sentence text={shortened(hit.text, 120)} words={hit.words} />
                    {ends(hit)}
                  </li>
                ))}
              </ol>
            </>
          )}
          <h2>In the middle</h2>
          <ul class="near">
            {listed.map((point) => (
              <li key={point.id}>
                <Sentence text={shortened(point.text, 120)} />
                {ends(point)}
              </li>
            ))}
          </ul>
        </aside>
      </div>
    </>
  );
}
