import type { CommitRun, SegmentPlace } from "../content/commit-times.ts";
import type { RecordLinks } from "../content/record-links.ts";

/** What a thread that reads and compresses files is asked for: first to read one, then what is wanted of that one. */
export type PressTask =
  | {
      readonly is: "read";
      readonly fd: number;
      readonly expectedBytes: number;
      readonly segment: SegmentPlace | undefined;
    }
  | { readonly is: "digest" }
  | { readonly is: "compress"; readonly level: number };

/** What it answers, one answer to each task. */
export type PressAnswer =
  | {
      readonly is: "read";
      readonly sizeBytes: number;
      readonly start: Uint8Array;
      readonly commits: readonly CommitRun[];
      readonly links: RecordLinks;
    }
  | { readonly is: "digested"; readonly sha256: string }
  | { readonly is: "compressed"; readonly bytes: Uint8Array }
  | { readonly is: "failed"; readonly message: string };
