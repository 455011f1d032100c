import { expect, test } from "vitest";
import { refuseUnreachable } from "./refuse-unreachable.ts";

test("of a point behind all that is archived it is said how long to wait, of another one not; of a backup that cannot be used, what instead", () => {
  const before = { timeline: 1, lsn: 16n, timeUs: 0n, backup: undefined };
  const of = (reason: "too-late" | "in-gap" | "backup-unusable") => () =>
    refuseUnreachable("shop", { kind: "unreachable", reason, message: "no", before, after: undefined, unusable: [] });
  const known = "what can be reached: before it 1970-01-01T00:00:00.000Z on timeline 1";
  const wait =
    "; where it has only just passed and WAL is archived, wait for its max age, 60 s unless it was set otherwise, and ask again";
  expect(of("too-late")).toThrow(expect.objectContaining({ hint: known + wait }) as Error);
  const another = "name another one, or leave --backup out: coppice backup list --cluster shop";
  expect(of("backup-unusable")).toThrow(expect.objectContaining({ hint: another }) as Error);
  const unknown = { kind: "unreachable", reason: "timeline-unknown", message: "no", before, after: undefined } as const;
  expect(() => refuseUnreachable("shop", { ...unknown, unusable: [], timelines: [1, 3] })).toThrow(
    expect.objectContaining({ hint: "name a timeline that is known: 1, 3; or leave --timeline out" }) as Error,
  );
  expect(of("in-gap")).toThrow(expect.objectContaining({ hint: known }) as Error);
});
