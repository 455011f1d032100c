import { fail } from "@coppice/proto/kit/failure";

/** A place in an operation's log: after the line of that attempt. */
export interface LogPlace {
  readonly attempt: number;
  readonly line: bigint;
}

/** The opaque mark of a snapshot. */
export function formatCursor(revision: bigint): string {
  return encode(`r${revision}`);
}

/** The revision that a mark stands for; undefined for the empty one. Errors: INVALID_FIELD. */
export function parseCursor(cursor: string): bigint | undefined {
  if (cursor === "") return undefined;
  const revision = /^r(\d{1,19})$/.exec(decode(cursor))?.[1];
  return revision === undefined ? refuse() : BigInt(revision);
}

/** The opaque mark of a line. */
export function formatLogCursor({ attempt, line }: LogPlace): string {
  return encode(`l${attempt}.${line}`);
}

/** The place that a mark stands for; the empty one is before the first line. Errors: INVALID_FIELD. */
export function parseLogCursor(cursor: string): LogPlace {
  if (cursor === "") return { attempt: -1, line: 0n };
  const [, attempt, line] = /^l(\d{1,9})\.(\d{1,18})$/.exec(decode(cursor)) ?? [];
  return attempt === undefined || line === undefined ? refuse() : { attempt: Number(attempt), line: BigInt(line) };
}

function encode(text: string): string {
  return Buffer.from(text).toString("base64url");
}

function decode(cursor: string): string {
  return Buffer.from(cursor, "base64url").toString("latin1");
}

function refuse(): never {
  return fail("INVALID_FIELD", "the cursor is none that was given out", {
    fields: [{ field: "cursor", description: "it was not given out here", expected: "a cursor of an earlier answer" }],
  });
}
