// Filters by clicking: conditions of a column, an operator and a value, and the JSON behind them.

import { useId, useState } from "preact/hooks";
import { Refused, type Column, type Where } from "./api";
import { Problem } from "./parts";

export interface Condition {
  column: string;
  operator: string;
  value: string | number | boolean;
}

const OPERATORS: Record<string, Record<string, string>> = {
  text: { $eq: "is", $ne: "is not", $contains: "contains" },
  number: { $eq: "=", $ne: "≠", $gte: "≥", $lte: "≤", $gt: ">", $lt: "<" },
  boolean: { $eq: "is", $ne: "is not" },
  other: { $eq: "is", $ne: "is not" },
};
const OF_TEXT: Column = { name: "text", kind: "text", values: [], complete: false, least: null, greatest: null };

// The filter that conditions make: all of them hold.
export function whereOf(conditions: Condition[]): Where | null {
  const parts = conditions.map(({ column, operator, value }) => ({
    [column]: operator === "$eq" ? value : { [operator]: value },
  }));
  return parts.length > 1 ? { $and: parts } : (parts[0] ?? null);
}

export function described({ column, operator, value }: Condition, columns: Column[]): string {
  const kind = columns.find((each) => each.name === column)?.kind ?? "text";
  return `${column} ${OPERATORS[kind][operator] ?? operator} ${value}`;
}

export function Filters(props: {
  columns: Column[];
  rows: string; // what is counted
  conditions: Condition[];
  where: Where | null;
  error: Refused | null;
  setConditions: (conditions: Condition[]) => void;
  setWhere: (where: Where | null) => void;
}) {
  const columns = [...props.columns, OF_TEXT];
  const [name, setName] = useState(columns[0].name);
  const column = columns.find((each) => each.name === name) ?? columns[0];
  const operators = OPERATORS[column.kind];
  const [operator, setOperator] = useState("$eq");
  const chosen = operator in operators ? operator : Object.keys(operators)[0];
  const [value, setValue] = useState("");
  const [json, setJson] = useState<string | null>(null);
  const [wrong, setWrong] = useState<Refused | null>(null);
  const ids = { values: useId(), problem: useId() };
  const refuse = (message: string) => setWrong(new Refused(422, "bad_filter", message));

  function add(event: Event) {
    event.preventDefault();
    const known = column.values.find((each) => String(each.value) === value.trim());
    if (!value.trim()) return refuse("Give a value to compare with.");
    if (column.kind === "number" && !Number.isFinite(Number(value))) return refuse(`${value} is no number.`);
    if (column.kind === "boolean" && !known) return refuse("The values are true and false.");
    setWrong(null);
    const typed = known ? known.value : column.kind === "number" ? Number(value) : value.trim();
    props.setConditions([...props.conditions, { column: column.name, operator: chosen, value: typed }]);
    setValue("");
  }

  function apply(event: Event) {
    event.preventDefault();
    const text = json ?? shown;
    if (!text.trim()) return props.setWhere(null);
    try {
      const parsed = JSON.parse(text, (_, value) => {
        // JavaScript reads a number beyond its range as infinity, which would be sent as null.
        if (value === Infinity || value === -Infinity) throw new Error("too large");
        return value;
      });
      if (parsed === null || typeof parsed !== "object" || Array.isArray(parsed)) throw new Error("no object");
      setWrong(null);
      setJson(null);
      props.setWhere(parsed);
    } catch {
      refuse('This is not JSON, or a number in it is too large; write for example {"stars": {"$gte": 4}}, names in double quotes.');
    }
  }

  const shown = props.where ? JSON.stringify(props.where) : "";
  const range = column.least === null ? "" : `${column.least} to ${column.greatest}`;
  return (
    <section class="panel" aria-label="Filter">
      <form class="row" onSubmit={add}>
        <label>
          Column
          <select value={column.name} onChange={(event) => (setName(event.currentTarget.value), setValue(""))}>
            {columns.map((each) => (
              <option value={each.name}>{each.name}</option>
            ))}
          </select>
        </label>
        <label>
          Operator
          <select value={chosen} onChange={(event) => setOperator(event.currentTarget.value)}>
            {Object.entries(operators).map(([key, told]) => (
              <option value={key}>{told}</option>
            ))}
          </select>
        </label>
        <label class="wide">
          Value
          <input
            value={value}
            list={ids.values}
            placeholder={range}
            autocomplete="off"
            aria-describedby={ids.problem}
            onInput={(event) => setValue(event.currentTarget.value)}
          />
        </label>
        <datalist id={ids.values}>
          {column.values.map((each) => (
            <option value={String(each.value)}>{each.count.toLocaleString("en")} {props.rows}</option>
          ))}
        </datalist>
        <button type="submit">Add</button>
      </form>
      {column.complete && column.values.length > 0 && (
        <div class="scroll" role="group" aria-label={`Values of ${column.name}`}>
          {column.values.map((each) => (
            <button
              type="button"
              class="chip"
              onClick={() =>
                props.setConditions([
                  ...props.conditions,
                  { column: column.name, operator: chosen, value: each.value },
                ])
              }
            >
              {String(each.value)} <small class="muted">{each.count.toLocaleString("en")}</small>
            </button>
          ))}
        </div>
      )}
      <form onSubmit={apply}>
        <details>
          <summary>JSON</summary>
          <div class="row">
            <label class="wide">
              The filter, as the API takes it
              <input
                class="code"
                value={json ?? shown}
                spellcheck={false}
                autocomplete="off"
                aria-describedby={ids.problem}
                onInput={(event) => setJson(event.currentTarget.value)}
              />
            </label>
            <button type="submit">Apply</button>
          </div>
        </details>
      </form>
      <Problem id={ids.problem} error={wrong ?? props.error} />
    </section>
  );
}
