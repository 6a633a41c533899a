// What lies over the map's points: marks of hits, a walk, names of labels, a tip, and a line that is being drawn.

import type Sigma from "sigma";
import type { MapView } from "./api";

const SVG = "http://www.w3.org/2000/svg";
const FEWEST_NAMED = 3; // points of a label

export interface Mark {
  at: [number, number];
  name: string;
}

// The name of each label at the middle of its points, as medians.
export function labelPlaces(laid: MapView, labels: MapView["labels"][number]): Mark[] {
  const middle = (values: number[]) => values.sort((one, other) => one - other)[values.length >> 1];
  return labels.values.flatMap((name, value) => {
    const points = laid.ids.map((_, number) => number).filter((number) => labels.of[number] === value);
    if (points.length < FEWEST_NAMED) return [];
    return [{ name, at: [middle(points.map((point) => laid.x[point])), middle(points.map((point) => laid.y[point]))] }];
  });
}

// Elements are made when something is shown; each frame only moves them.
export class Overlay {
  private readonly svg = document.createElementNS(SVG, "svg");
  private readonly tipBox = document.createElement("div");
  private readonly groups = { way: [] as Placed[], hits: [] as Placed[], labels: [] as Placed[] };
  private line: SVGPolylineElement;
  private band: SVGLineElement;
  private way: [number, number][] = [];
  private tipped = -1;

  constructor(private readonly view: Sigma) {
    this.svg.setAttribute("class", "overlay");
    this.svg.setAttribute("aria-hidden", "true");
    this.line = this.add("polyline", "way") as SVGPolylineElement;
    this.band = this.add("line", "band") as SVGLineElement;
    this.band.setAttribute("visibility", "hidden");
    this.tipBox.className = "tip";
    this.tipBox.hidden = true;
    view.getContainer().append(this.svg, this.tipBox);
    view.on("afterRender", () => this.move());
  }

  remove() {
    this.svg.remove();
    this.tipBox.remove();
  }

  showHits(query: [number, number], hits: Mark[]) {
    this.replace("hits", [
      ...hits.map(({ at, name }) => ({ at, nodes: [circle(this.add("circle", "hit"), 9), this.text(name, "number")] })),
      { at: query, nodes: [circle(this.add("circle", "query"), 7)] },
    ]);
  }

  showWay(stops: [number, number][]) {
    this.way = stops;
    this.replace(
      "way",
      stops.map((at) => ({ at, nodes: [circle(this.add("circle", "stop"), 5)] })),
    );
  }

  showLabels(labels: Mark[]) {
    this.replace(
      "labels",
      labels.map(({ at, name }) => ({ at, nodes: [this.text(name, "name")] })),
    );
  }

  tip(number: number, text: string) {
    this.tipped = number;
    this.tipBox.hidden = number < 0;
    this.tipBox.textContent = text;
    this.move();
  }

  // A line from a point to where the pointer is.
  rubber(number: number, to?: { x: number; y: number }) {
    this.band.setAttribute("visibility", number < 0 ? "hidden" : "visible");
    if (number < 0 || !to) return;
    const from = this.placeOf(number);
    for (const [name, value] of Object.entries({ x1: from.x, y1: from.y, x2: to.x, y2: to.y }))
      this.band.setAttribute(name, String(value));
  }

  private placeOf(number: number) {
    const { x, y } = this.view.getGraph().getNodeAttributes(number) as { x: number; y: number };
    return this.view.graphToViewport({ x, y });
  }

  private move() {
    for (const { at, nodes } of Object.values(this.groups).flat()) {
      const { x, y } = this.view.graphToViewport({ x: at[0], y: at[1] });
      for (const node of nodes) node.setAttribute("transform", `translate(${x.toFixed(1)} ${y.toFixed(1)})`);
    }
    const points = this.way.map((at) => this.view.graphToViewport({ x: at[0], y: at[1] }));
    this.line.setAttribute("points", points.map(({ x, y }) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" "));
    if (this.tipped < 0) return;
    const { x, y } = this.placeOf(this.tipped);
    const { width } = this.view.getDimensions();
    this.tipBox.style.left = x < width / 2 ? `${x + 12}px` : "";
    this.tipBox.style.right = x < width / 2 ? "" : `${width - x + 12}px`;
    this.tipBox.style.top = `${y + 8}px`;
  }

  private replace(group: keyof Overlay["groups"], placed: Placed[]) {
    for (const node of this.groups[group].flatMap((each) => each.nodes)) node.remove();
    this.groups[group] = placed;
    this.move();
  }

  private add(name: string, kind: string) {
    const node = document.createElementNS(SVG, name);
    node.setAttribute("class", kind);
    this.svg.append(node);
    return node;
  }

  private text(text: string, kind: string) {
    const node = this.add("text", kind);
    node.textContent = text;
    return node;
  }
}

interface Placed {
  at: [number, number];
  nodes: SVGElement[];
}

function circle(node: SVGElement, radius: number) {
  node.setAttribute("r", String(radius));
  return node;
}
