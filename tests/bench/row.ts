/** One comparison; less is better on both sides. */
export interface Row {
  readonly name: string;
  readonly ours: number;
  readonly peer: number;
  readonly peerName: string;
  readonly unit: "ms" | "s" | "bytes";
  /** ours / peer. */
  readonly ratio: number;
  /** Runs that each side's median was taken of. */
  readonly runs: number;
}

/** A comparison's figures as they were measured. */
export interface Measured extends Omit<Row, "ratio"> {}

const digits = { ms: 1, s: 3, bytes: 0 } as const;

const round = (value: number, places: number) => Number(value.toFixed(places));

/** A row with its figures rounded for the unit, and the ratio of the figures that are shown. */
export function makeRow({ name, ours, peer, peerName, unit, runs }: Measured): Row {
  const [shown, against] = [round(ours, digits[unit]), round(peer, digits[unit])];
  return { name, ours: shown, peer: against, peerName, unit, ratio: round(shown / against, 3), runs };
}

/** The row as one line of JSON; its keys always in the same order, ratio and runs last. */
export function formatJson({ name, ours, peer, peerName, unit, ratio, runs }: Row): string {
  return JSON.stringify({ name, ours, peer, peerName, unit, ratio, runs });
}

/** The rows as a table for people, a header first. */
export function formatTable(rows: readonly Row[]): string {
  const figure = (value: number, unit: Row["unit"]) =>
    unit === "bytes" ? `${(value / 1e6).toFixed(1)} MB` : `${value.toFixed(digits[unit])} ${unit}`;
  const cells = [
    ["NAME", "PEER", "OURS", "PEER'S", "RATIO", "RUNS"],
    ...rows.map(({ name, ours, peer, peerName, unit, ratio, runs }) => [
      name,
      peerName,
      figure(ours, unit),
      figure(peer, unit),
      ratio.toFixed(2),
      String(runs),
    ]),
  ];
  const widths = cells.reduce<number[]>(
    (most, line) => line.map((cell, at) => Math.max(cell.length, most[at] ?? 0)),
    [],
  );
  const pad = (cell: string, at: number) => (at < 2 ? cell.padEnd(widths[at] ?? 0) : cell.padStart(widths[at] ?? 0));
  return cells.map((line) => `${line.map(pad).join("  ").trimEnd()}\n`).join("");
}
