// The view of what the model writes: variants of a sentence, sums of sentences, samples, and answers where it has them.

import { useEffect, useId, useState } from "preact/hooks";
import * as api from "./api";
import type { Hit, Overview } from "./api";
import { Literal, Problem, Sentence, Similarity, Slider, useWork } from "./parts";

const NUM = 5;

export function Write({ about }: { about: Overview }) {
  return (
    <div class="cards">
      <Variants about={about} />
      <Sum about={about} />
      <Samples about={about} />
      {about.model.answers && <Answer about={about} />}
    </div>
  );
}

function Sentences({ texts }: { texts: string[] }) {
  return (
    <ul class="written" aria-live="polite">
      {texts.map((text) => (
        <li class="sentence">
          <Sentence text={text} />
        </li>
      ))}
    </ul>
  );
}

// A literal of a model that has no other than word for word is not sent.
const literally = (about: Overview, literal: number) => (about.model.has_meaning_part ? { literal } : {});

function Variants({ about }: { about: Overview }) {
  const { use, has_meaning_part } = about.model;
  const [text, setText] = useState(about.tries.searches[0] ?? "");
  const [scale, setScale] = useState(use.perturb_scale);
  const [literal, setLiteral] = useState(use.literal.perturb);
  const [seed, setSeed] = useState(0);
  const [texts, setTexts] = useState<string[]>([]);
  const work = useWork();
  const problem = useId();
  const submit = (event?: Event) => {
    event?.preventDefault();
    work.run(async (signal) => {
      setTexts(await api.perturb({ text, num: NUM, scale, seed, ...literally(about, literal) }, signal));
      setSeed(seed + 1);
    });
  };
  useEffect(() => {
    if (text) submit();
  }, []);
  return (
    <section class="card" aria-labelledby="variants">
      <h2 id="variants">Say it otherwise</h2>
      <p class="muted">Sentences at random places around a sentence's code.</p>
      <form onSubmit={submit}>
        <label>
          Sentence
          <input value={text} aria-describedby={problem} onInput={(event) => setText(event.currentTarget.value)} />
        </label>
        <Problem id={problem} error={work.error} />
        <Sentences texts={texts} />
        <details>
          <summary>Options</summary>
          <Slider
            label="Distance, in standard deviations of the code"
            least={0}
            most={Math.max(100, 2 * use.perturb_scale)}
            step={1}
            value={scale}
            set={setScale}
          />
          {has_meaning_part && <Literal value={literal} set={setLiteral} />}
        </details>
        <button type="submit" class="main">
          Others
        </button>
      </form>
    </section>
  );
}

function Sum({ about }: { about: Overview }) {
  const { use, has_meaning_part } = about.model;
  const [parts, setParts] = useState(about.tries.sum.length === 3 ? about.tries.sum : ["", "", ""]);
  const [literal, setLiteral] = useState(use.literal.arithmetic);
  const [found, setFound] = useState<{ decoded: string; hits: Hit[] } | null>(null);
  const work = useWork();
  const problem = useId();
  const submit = (event?: Event) => {
    event?.preventDefault();
    work.run(async (signal) => {
      const sum = { plus: [parts[0], parts[2]], minus: [parts[1]] };
      const options = { k: 3, decode: true, ...literally(about, literal) };
      const result = await api.search({ sum }, options, signal);
      setFound({ decoded: result.decoded ?? "", hits: result.hits });
    });
  };
  useEffect(() => {
    if (parts.every((each) => each)) submit();
  }, []);
  return (
    <section class="card" aria-labelledby="sum">
      <h2 id="sum">Add and subtract</h2>
      <p class="muted">Codes are numbers: what one sentence has more than another can be added to a third.</p>
      <form onSubmit={submit}>
        {["This sentence", "less this one", "plus this one"].map((name, place) => (
          <label>
            {name}
            <input
              value={parts[place]}
              aria-describedby={problem}
              onInput={(event) => {
                const text = event.currentTarget.value;
                setParts(parts.map((each, other) => (other === place ? text : each)));
              }}
            />
          </label>
        ))}
        <Problem id={problem} error={work.error} />
        {found && (
          <div aria-live="polite">
            <p class="sentence">
              <Sentence text={found.decoded} />
            </p>
            <p class="muted">Nearest in the index</p>
            <ul class="written">
              {found.hits.map((hit) => (
                <li>
                  <Sentence text={hit.text} /> <Similarity value={hit.similarity} />
                </li>
              ))}
            </ul>
          </div>
        )}
        {has_meaning_part && (
          <details>
            <summary>Options</summary>
            <Literal value={literal} set={setLiteral} />
          </details>
        )}
        <button type="submit" class="main">
          Calculate
        </button>
      </form>
    </section>
  );
}

function Samples({ about }: { about: Overview }) {
  const { use, has_meaning_part } = about.model;
  const [deviation, setDeviation] = useState(Number(use.sample.standard_deviation.toPrecision(3)));
  const [literal, setLiteral] = useState(use.literal.sample);
  const [seed, setSeed] = useState(0);
  const [texts, setTexts] = useState<string[]>([]);
  const work = useWork();
  const submit = (event?: Event) => {
    event?.preventDefault();
    work.run(async (signal) => {
      const spread = use.sample.prior ? {} : { standard_deviation: deviation };
      setTexts(await api.sample({ num: NUM, seed, ...spread, ...literally(about, literal) }, signal));
      setSeed(seed + 1);
    });
  };
  useEffect(() => submit(), []);
  return (
    <section class="card" aria-labelledby="samples">
      <h2 id="samples">Out of nothing</h2>
      <p class="muted">Sentences of codes that are drawn {use.sample.prior ? "from the prior" : "around zero"}.</p>
      <form onSubmit={submit}>
        <Problem error={work.error} />
        <Sentences texts={texts} />
        <details>
          <summary>Options</summary>
          {!use.sample.prior && (
            <Slider
              label="Standard deviation"
              least={0}
              most={Math.max(2, 2 * use.sample.standard_deviation)}
              step={0.01}
              value={deviation}
              set={setDeviation}
            />
          )}
          {has_meaning_part && <Literal value={literal} set={setLiteral} />}
        </details>
        <button type="submit" class="main">
          Draw
        </button>
      </form>
    </section>
  );
}

function Answer({ about }: { about: Overview }) {
  const [question, setQuestion] = useState(about.tries.questions[0] ?? "");
  const [words, setWords] = useState(10);
  const [told, setTold] = useState<string | null>(null);
  const work = useWork();
  const problem = useId();
  const submit = (event: Event) => {
    event.preventDefault();
    work.run(async (signal) => setTold(await api.answer({ question, num_words: words }, signal)));
  };
  return (
    <section class="card" aria-labelledby="answer">
      <h2 id="answer">Answer</h2>
      <p class="muted">The model completes a question: it writes an answer, it looks up none.</p>
      <form onSubmit={submit}>
        <label>
          Question
          <input
            value={question}
            list="questions"
            aria-describedby={problem}
            onInput={(event) => setQuestion(event.currentTarget.value)}
          />
        </label>
        <datalist id="questions">
          {about.tries.questions.map((each) => (
            <option value={each} />
          ))}
        </datalist>
        <Problem id={problem} error={work.error} />
        {told !== null && (
          <p class="sentence" aria-live="polite">
            {told ? <Sentence text={told} /> : <em class="muted">no answer; another number of words may help</em>}
          </p>
        )}
        <details>
          <summary>Options</summary>
          <Slider label="Unknown words to fill in" least={1} most={30} step={1} value={words} set={setWords} />
        </details>
        <button type="submit" class="main">
          Answer
        </button>
      </form>
    </section>
  );
}
