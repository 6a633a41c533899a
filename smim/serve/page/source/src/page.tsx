// The page: what is searched, and the views of it. It asks /v1 alone, and shows what that answers.

import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import * as api from "./api";
import { Refused, type Overview } from "./api";
import { Between } from "./between";
import { Problem } from "./parts";
import { Search } from "./search";
import "./style.css";
import { Write } from "./write";

const VIEWS = { search: "Search", between: "Between", write: "Write", map: "Map" };
type View = keyof typeof VIEWS;
type MapOf = typeof import("./map").MapView;

// The address holds the view and the search: #search?q=...
function fromAddress(): { view: View; text: string | null } {
  const [view, query] = location.hash.slice(1).split("?");
  return { view: view in VIEWS ? (view as View) : "search", text: new URLSearchParams(query).get("q") };
}

function Page({ about }: { about: Overview }) {
  const [view, setView] = useState(fromAddress().view);
  const [text, setText] = useState(fromAddress().text ?? about.tries.searches[0] ?? "");
  const [searched, setSearched] = useState(text);
  const [ends, setEnds] = useState<[string, string]>(about.tries.walks[0] ?? [text, text]);
  const [MapView, setMapView] = useState<MapOf | null>(null);

  useEffect(() => {
    document.title = `${about.name}: ${about.index.count.toLocaleString("en")} ${api.rows(about)}`;
    const changed = () => setView(fromAddress().view);
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  useEffect(() => {
    if (view === "map" && !MapView) import("./map").then((module) => setMapView(() => module.MapView));
  }, [view]);

  const open = (next: View) => {
    location.hash = next;
    setView(next);
  };
  const noteSearch = (text: string) => {
    setSearched(text);
    if (view === "search") history.replaceState(null, "", `#search?${new URLSearchParams({ q: text })}`);
  };
  const walkFrom = (first: string, second: string) => {
    setEnds([first, second]);
    open("between");
  };
  const { model, index } = about;
  return (
    <>
      <header>
        <p class="facts muted">
          <strong>{about.name}</strong> {index.count.toLocaleString("en")} {api.rows(about)}
          <span class="wide-only">
            {" "}
            · codes of {index.dimension} numbers{model.corpus && ` · a model of ${model.corpus}`}
          </span>
        </p>
        <h1>
          Find sentences {model.has_meaning_part ? "that mean the same" : "by their codes"}, and read what lies between
          them.
        </h1>
        <nav aria-label="Views">
          {Object.entries(VIEWS).map(([each, name]) => (
            <a href={`#${each}`} aria-current={each === view ? "page" : undefined}>
              {name}
            </a>
          ))}
        </nav>
      </header>
      <main>
        <div hidden={view !== "search"}>
          <Search
            about={about}
            text={text}
            setText={setText}
            searched={noteSearch}
            walk={(second) => walkFrom(searched, second)}
          />
        </div>
        {view === "between" && <Between about={about} ends={ends} setEnds={setEnds} />}
        {view === "write" && <Write about={about} />}
        {view === "map" && MapView && <MapView about={about} text={searched} walk={walkFrom} />}
      </main>
      <footer class="muted">
        <a href="./docs">API</a> · <a href="./licenses.txt">Licences of this page's parts</a>
      </footer>
    </>
  );
}

// Asks for a key where the service wants one.
function Gate() {
  const [about, setAbout] = useState<Overview | null>(null);
  const [error, setError] = useState<Refused | null>(null);
  const [key, setKey] = useState("");
  const [given, setGiven] = useState(false);
  const begin = () =>
    api.overview().then(setAbout, (failed) => {
      if (!(failed instanceof Refused)) throw failed;
      setError(failed);
    });
  useEffect(() => {
    begin();
  }, []);
  if (about) return <Page about={about} />;
  if (!error) return <p class="muted begin">One moment…</p>;
  if (error.status !== 401 && error.status !== 403) return <Problem error={error} />;
  return (
    <form
      class="card key"
      onSubmit={(event) => {
        event.preventDefault();
        api.setKey(key);
        setGiven(true);
        begin();
      }}
    >
      <h1>This service asks for a key</h1>
      <label>
        API key
        <input
          type="password"
          value={key}
          autocomplete="current-password"
          aria-describedby="key-problem"
          onInput={(event) => setKey(event.currentTarget.value)}
        />
      </label>
      <Problem id="key-problem" error={given ? error : null} />
      <button type="submit" class="main">
        Enter
      </button>
    </form>
  );
}

render(<Gate />, document.getElementById("app")!);
