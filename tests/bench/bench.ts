import type { Row } from "./row.ts";

/** What a bench is run with. */
export interface BenchRequest {
  /** About how large the benched database is, in bytes as PostgreSQL counts it. */
  readonly sizeBytes: number;
  readonly signal: AbortSignal;
  /** Tells the person who waits how far it is. */
  readonly say: (line: string) => void;
}

/** Something that is measured against what people use today. */
export interface Bench {
  /** What against what, in one line. */
  readonly summary: string;
  /** Gives its rows as they are known. Fails when one side did not do its work. */
  run(request: BenchRequest): AsyncIterable<Row>;
}
